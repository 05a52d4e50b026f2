"""Mean and variance of every feature, of conversations that come one after the other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from cmath_jax.data.conversations import there


@dataclass(frozen=True)
class Moments:
    """Of the utterances of some conversations, summed up in their order (Chan, Golub and LeVeque 1979).

    Utterances that lack a modality do not count in it.

    Attributes:
      count: m -> how many utterances.
      mean: m -> float64 [d_m].
      squares: m -> float64 [d_m], the sum of squared deviations from the mean.
    """

    count: Mapping[str, int]
    mean: Mapping[str, np.ndarray]
    squares: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, features_c: Iterable[Mapping[str, np.ndarray]], dims: Mapping[str, int]) -> "Moments":
        """Of the features of each conversation, m -> [n, d_m]."""
        zeros = {m: np.zeros(d) for m, d in dims.items()}
        moments = cls(dict.fromkeys(dims, 0), zeros, zeros)
        for features in features_c:
            moments = moments.plus(features)
        return moments

    def plus(self, features: Mapping[str, np.ndarray]) -> "Moments":
        """With another conversation, m -> [n, d_m]."""
        count, mean, squares = dict(self.count), dict(self.mean), dict(self.squares)
        for m, x_nd in features.items():
            x_nd = x_nd[there(x_nd)]
            n = len(x_nd)
            if n == 0:
                continue
            x_mean_d = x_nd.mean(0, dtype=np.float64)
            gap_d, share = x_mean_d - mean[m], n / (count[m] + n)
            mean[m] = mean[m] + share * gap_d
            squares[m] = squares[m] + ((x_nd - x_mean_d) ** 2).sum(0) + count[m] * share * gap_d**2
            count[m] += n
        return Moments(count, mean, squares)

    def deviation(self, m: str) -> np.ndarray:
        """float64 [d_m]: the standard deviation; 0 for a modality that no utterance has."""
        return np.sqrt(self.squares[m] / max(self.count[m], 1))
