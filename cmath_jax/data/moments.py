"""Mean and variance of every feature, of conversations that come one after the other."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Of the utterances of some conversations, summed up in their order (Chan, Golub and LeVeque 1979).

    Attributes:
      count: how many utterances.
      mean: m -> float64 [d_m].
      squares: m -> float64 [d_m], the sum of squared deviations from the mean.
    """

    count: int
    mean: Mapping[str, np.ndarray]
    squares: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, features_c: Iterable[Mapping[str, np.ndarray]], dims: Mapping[str, int]) -> "Moments":
        """Of the features of each conversation, m -> [n, d_m]."""
        zeros = {m: np.zeros(d) for m, d in dims.items()}
        moments = cls(0, zeros, zeros)
        for features in features_c:
            moments = moments.plus(features)
        return moments

    def plus(self, features: Mapping[str, np.ndarray]) -> "Moments":
        """With another conversation, m -> [n, d_m]."""
        mean, squares = {}, {}
        for m, x_nd in features.items():
            n, x_mean_d = len(x_nd), x_nd.mean(0, dtype=np.float64)
            gap_d, share = x_mean_d - self.mean[m], n / (self.count + n)
            mean[m] = self.mean[m] + share * gap_d
            squares[m] = self.squares[m] + ((x_nd - x_mean_d) ** 2).sum(0) + self.count * share * gap_d**2
        return Moments(self.count + n, mean, squares)

    def deviation(self, m: str) -> np.ndarray:
        """float64 [d_m]: the standard deviation."""
        return np.sqrt(self.squares[m] / self.count)
