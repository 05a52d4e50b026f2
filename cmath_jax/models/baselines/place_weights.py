"""Weights of the nodes or edges of a graph that are learned by their place in a list."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class PlaceWeights(nn.Module):
    """A learned weight for each of the first places, 1 at the start; places beyond weigh 1.

    Attributes:
      size: how many are learned.
    """

    size: int

    @nn.compact
    def __call__(self, place: jax.Array) -> jax.Array:
        """Returns the weights of these places, of any shape."""
        if not self.size:
            return jnp.ones(place.shape)
        weight_n = self.param("weight", nn.initializers.ones, (self.size,), jnp.float32)
        return jnp.where(place < self.size, weight_n[jnp.minimum(place, self.size - 1)], jnp.ones((), weight_n.dtype))
