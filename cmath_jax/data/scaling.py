"""Standardization of features by the training split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cmath_jax.data.conversations import Conversation, Corpus
from cmath_jax.data.moments import Moments
from cmath_jax.data.stored import StoredSplit


@dataclass(frozen=True)
class Scaling:
    """x -> (x - mean) / deviation, per feature.

    Attributes:
      mean, deviation: m -> float32 [d_m].
    """

    mean: Mapping[str, np.ndarray]
    deviation: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, corpus: Corpus, standardize: bool) -> "Scaling":
        """Of the training split; the identity if not wanted. A feature that never varies is only centred."""
        dims, train = corpus.dims, corpus.splits["train"]
        mean = {m: np.zeros(d, np.float32) for m, d in dims.items()}
        deviation = {m: np.ones(d, np.float32) for m, d in dims.items()}
        if standardize:
            # Those of a split on disk were summed up when it was written.
            moments = train.moments if isinstance(train, StoredSplit) else Moments.of((c.features for c in train), dims)
            for m in dims:
                spread_d = moments.deviation(m)
                mean[m] = moments.mean[m].astype(np.float32)
                deviation[m] = np.where(spread_d > 1e-6 * (1 + np.abs(mean[m])), spread_d, 1.0).astype(np.float32)
        return cls(mean, deviation)

    def features(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """m -> [n, d_m], scaled, for the modalities given. NaN, which says that a modality is missing, stays."""
        return {m: (x_nd - self.mean[m]) / self.deviation[m] for m, x_nd in features.items()}

    def apply(self, conversations: Sequence[Conversation]) -> list[Conversation]:
        """The same conversations with scaled features."""
        return [replace(c, features=self.features(c.features)) for c in conversations]

    def only(self, modalities: str) -> "Scaling":
        """That of some modalities."""
        return Scaling(*({m: x_d for m, x_d in x.items() if m in modalities} for x in (self.mean, self.deviation)))

    def tree(self) -> dict[str, dict[str, np.ndarray]]:
        """As a checkpoint holds it."""
        return {"mean": dict(self.mean), "deviation": dict(self.deviation)}
