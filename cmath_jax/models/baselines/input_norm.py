"""The place of a BatchNorm of input features, which released code has: a scale and a bias of standardized features.

A BatchNorm takes its mean and deviation from a batch in training, padding included, and from all batches in evaluation.
Here features are standardized by the whole training split (`data.standardize`), in training as in evaluation.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.models.baselines.weights import Weights

EPSILON = 1e-5  # of torch.nn.BatchNorm1d


class InputNorm(nn.Module):
    """The mean over equal parts that lie side by side, each scaled and shifted by itself: [r, l, x] -> [r, l, d].

    Attributes:
      parts: how many, such as the vectors of several layers of one encoder.
      dtype: of the computation.
    """

    parts: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_rlx: jax.Array) -> jax.Array:
        width = x_rlx.shape[-1]
        scale_x, bias_x = (
            self.param(name, initializer, (self.parts, width // self.parts), jnp.float32).astype(self.dtype).ravel()
            for name, initializer in (("scale", nn.initializers.ones), ("bias", nn.initializers.zeros))
        )
        y_rlx = x_rlx.astype(self.dtype) * scale_x[None, None] + bias_x[None, None]
        return sum(jnp.split(y_rlx, self.parts, axis=-1), jnp.zeros((), self.dtype)) / self.parts


def running_statistics(weights: Weights, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of the features whose parts have BatchNorms of these names."""
    mean_x = np.concatenate([weights[f"{name}.running_mean"] for name in names])
    variance_x = np.concatenate([weights[f"{name}.running_var"] for name in names])
    return mean_x, np.sqrt(variance_x + EPSILON)
