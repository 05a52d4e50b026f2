"""Standardization of features by the training split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cmath_jax.data.conversations import Conversation, Corpus


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
        dims = corpus.dims
        mean = {m: np.zeros(d, np.float32) for m, d in dims.items()}
        deviation = {m: np.ones(d, np.float32) for m, d in dims.items()}
        for m in dims if standardize else ():
            x_nd = np.concatenate([c.features[m] for c in corpus.splits["train"]]).astype(np.float64)
            spread_d = x_nd.std(0)
            mean[m] = x_nd.mean(0).astype(np.float32)
            deviation[m] = np.where(spread_d > 1e-6 * (1 + np.abs(mean[m])), spread_d, 1.0).astype(np.float32)
        return cls(mean, deviation)

    def apply(self, corpus: Corpus) -> Corpus:
        """The same corpus with scaled features."""

        def scale(conversations: Sequence[Conversation]) -> list[Conversation]:
            return [
                replace(c, features={m: (x - self.mean[m]) / self.deviation[m] for m, x in c.features.items()})
                for c in conversations
            ]

        return replace(corpus, splits={split: scale(c) for split, c in corpus.splits.items()})

    def tree(self) -> dict[str, dict[str, np.ndarray]]:
        """As a checkpoint holds it."""
        return {"mean": dict(self.mean), "deviation": dict(self.deviation)}
