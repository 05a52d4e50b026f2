"""Standardization of features by the training split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cmath_jax.data.corpus import Conversation, Corpus
from cmath_jax.data.moments import Moments
from cmath_jax.data.prepared.stored import StoredSplit
from cmath_jax.errors import InputError

# Deviations from the mean. No value of a training split of fewer than 10^12 utterances is so far off. What is farther
# elsewhere, in another unit perhaps, is taken to be so far: a model squares it, and float32 ends at 3e38.
FARTHEST = 1e6
BLOCK = 2**14  # numbers that are scaled at a time: in float64 they stay in the cache


@dataclass(frozen=True)
class Standardizer:
    """x -> (x - mean) / deviation, per feature, in float64: where a mean is large, float32 would lose the difference.

    A feature that does not vary in training has an infinite deviation, and becomes 0 whatever it is: nothing can be
    learned of it, so that it must not tell, in any unit, where it is another elsewhere.

    Attributes:
      mean, deviation: m -> float64 [d_m]; float32 in what was saved by an earlier version.
      farthest: what the result is cut off at, on both sides.
    """

    mean: Mapping[str, np.ndarray]
    deviation: Mapping[str, np.ndarray]
    farthest: float = FARTHEST

    @classmethod
    def of(cls, corpus: Corpus, standardize: bool) -> "Standardizer":
        """Makes that of the training split, which changes nothing if `standardize` is False."""
        dims, train = corpus.dims, corpus.splits["train"]
        if not standardize:
            mean, deviation = ({m: np.full(d, x) for m, d in dims.items()} for x in (0.0, 1.0))
            return cls.read({"mean": mean, "deviation": deviation}, standardize)
        # Those of a split on disk were summed up when it was written.
        return cls.by(
            train.moments if isinstance(train, StoredSplit) else Moments.of((c.features for c in train), dims)
        )

    @classmethod
    def by(cls, moments: Moments) -> "Standardizer":
        """Makes the one after which these features have mean 0 and deviation 1, those that vary."""
        deviation = {m: np.where(moments.varies(m), moments.deviation(m), np.inf) for m in moments.mean}
        return cls(moments.mean, deviation)

    @classmethod
    def read(cls, tree: Mapping[str, Mapping[str, np.ndarray]], standardize: bool) -> "Standardizer":
        """Makes that of a `tree`; features that are not to be standardized are not cut off either."""
        return cls(tree["mean"], tree["deviation"], FARTHEST if standardize else np.inf)

    def features(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Standardizes m -> [n, d_m] to float32, for the modalities given. NaN, where one is missing, stays."""
        return {m: self._standardized(m, x_nd) for m, x_nd in features.items()}

    def _standardized(self, m: str, x_nd: np.ndarray) -> np.ndarray:
        standardized_nd = np.empty(x_nd.shape, np.float32)
        rows = max(1, BLOCK // max(x_nd.shape[1], 1))
        with np.errstate(over="ignore"):  # what is more than float32 holds is cut off below
            for start in range(0, len(x_nd), rows):
                z_nd = np.subtract(x_nd[start : start + rows], self.mean[m], dtype=np.float64)
                z_nd /= self.deviation[m]
                standardized_nd[start : start + rows] = z_nd
        return np.clip(standardized_nd, -self.farthest, self.farthest, out=standardized_nd)

    def apply(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """Returns the same conversations with standardized features."""
        return [replace(c, features=self.features(c.features)) for c in conversations]

    def only(self, modalities: str) -> "Standardizer":
        """Returns the part of some modalities."""
        mean, deviation = ({m: x_d for m, x_d in x.items() if m in modalities} for x in (self.mean, self.deviation))
        return replace(self, mean=mean, deviation=deviation)

    def tree(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns the arrays as a checkpoint holds them."""
        return {"mean": dict(self.mean), "deviation": dict(self.deviation)}

    def differing(self, tree: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
        """Returns the features, as `t17`, that a standardizer saved as `tree` makes other numbers of, beyond rounding.

        Those that do not vary in training are left out: no scaling has let a model learn of them.
        """
        names = []
        for m, deviation_d in self.deviation.items():
            varies_d = np.isfinite(deviation_d)
            saved_mean_d, saved_deviation_d = (np.asarray(tree[x][m], np.float64) for x in ("mean", "deviation"))
            allowed_d = 1e-3 * deviation_d + 2.0**-23 * np.abs(self.mean[m])  # earlier versions saved float32
            off_d = np.abs(saved_mean_d - self.mean[m]) > allowed_d
            with np.errstate(invalid="ignore"):  # infinity from infinity
                off_d |= ~(np.abs(saved_deviation_d - deviation_d) <= 1e-3 * deviation_d)
            names += [f"{m}{i}" for i in np.flatnonzero(varies_d & off_d)]
        return names

    def check_saved(self, tree: Mapping[str, Mapping[str, np.ndarray]], folder: Path) -> None:
        """Raises InputError if the run saved in a folder was standardized otherwise, as an earlier version did."""
        names = self.differing(tree)
        if names:
            raise InputError(
                f"{folder} holds a run of an earlier version, which standardized {len(names)} of the features "
                f"otherwise ({', '.join(names[:3])}{', ...' * (len(names) > 3)}): train anew with another --workdir, "
                "or end that run with the version that began it"
            )
