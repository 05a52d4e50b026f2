"""Mean, deviation and range of every feature, of conversations that come one after the other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from cmath_jax.data.corpus import is_present

ROUNDINGS = 4  # of float32: a range of so few, as a constant has that was computed in several ways, is none
_EPSILON = 2.0**-23  # of a number, the most by which float32 rounds it ...
_SMALLEST = 2.0**-149  # ... but for numbers near 0, which are multiples of this


@dataclass(frozen=True)
class Moments:
    """Sums over the utterances of some conversations, in their order (Chan, Golub and LeVeque 1979).

    Utterances that lack a modality do not count in it. All is float64: squares of any float32 fit in.

    Attributes:
      count: m -> how many utterances.
      mean: m -> float64 [d_m].
      squares: m -> float64 [d_m], the sum of squared deviations from the mean.
      lowest, highest: m -> float64 [d_m]; infinite where no utterance counts.
    """

    count: Mapping[str, int]
    mean: Mapping[str, np.ndarray]
    squares: Mapping[str, np.ndarray]
    lowest: Mapping[str, np.ndarray]
    highest: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, features_b: Iterable[Mapping[str, np.ndarray]], dims: Mapping[str, int]) -> "Moments":
        """Sums up the features of each conversation, m -> [n, d_m]."""
        zeros = {m: np.zeros(d) for m, d in dims.items()}
        lowest, highest = ({m: np.full(d, end) for m, d in dims.items()} for end in (np.inf, -np.inf))
        moments = cls(dict.fromkeys(dims, 0), zeros, zeros, lowest, highest)
        for features in features_b:
            moments = moments.plus(features)
        return moments

    def plus(self, features: Mapping[str, np.ndarray]) -> "Moments":
        """Returns the moments with another conversation, m -> [n, d_m]."""
        count, mean, squares = dict(self.count), dict(self.mean), dict(self.squares)
        lowest, highest = dict(self.lowest), dict(self.highest)
        for m, x_nd in features.items():
            x_nd = x_nd[is_present(x_nd)]
            n = len(x_nd)
            if n == 0:
                continue
            x_mean_d = x_nd.mean(0, dtype=np.float64)
            gap_d, share = x_mean_d - mean[m], n / (count[m] + n)
            mean[m] = mean[m] + share * gap_d
            squares[m] = squares[m] + ((x_nd - x_mean_d) ** 2).sum(0) + count[m] * share * gap_d**2
            lowest[m], highest[m] = np.minimum(lowest[m], x_nd.min(0)), np.maximum(highest[m], x_nd.max(0))
            count[m] += n
        return Moments(count, mean, squares, lowest, highest)

    def deviation(self, m: str) -> np.ndarray:
        """Returns the standard deviation of each feature, float64 [d_m]; 0 for a modality that no utterance has."""
        return np.sqrt(self.squares[m] / max(self.count[m], 1))

    def varies(self, m: str) -> np.ndarray:
        """Returns whether each feature varies by more than float32 rounds it, bool [d_m], whatever its unit."""
        if not self.count[m]:
            return np.zeros(len(self.mean[m]), bool)
        size_d = np.maximum(np.abs(self.lowest[m]), np.abs(self.highest[m]))
        return self.highest[m] - self.lowest[m] > ROUNDINGS * np.maximum(_EPSILON * size_d, _SMALLEST)
