"""Variational fusion: a Gaussian per modality, their average, and a reparameterized sample (eqs 15-17)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.layers import Context

SMALLEST_DEVIATION = 1e-6


class Gaussian(nn.Module):
    """mu_m and sigma_m of one modality: two MLPs, Linear-ReLU-Linear (eq. 15); sigma_m is 0 if it is not `noisy`."""

    noisy: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h_rld: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = h_rld.shape[-1]

        def mlp(name: str) -> jax.Array:
            hidden_rld = nn.relu(nn.Dense(width, dtype=self.dtype, name=f"{name}_hidden")(h_rld))
            return nn.Dense(width, dtype=self.dtype, name=f"{name}_output")(hidden_rld).astype(jnp.float32)

        mean_rld = mlp("mean")
        if not self.noisy:
            return mean_rld, jnp.zeros_like(mean_rld)
        # The paper asks for a standard deviation, so it is made positive.
        return mean_rld, nn.softplus(mlp("deviation")) + SMALLEST_DEVIATION


def sample(mean_rld: jax.Array, deviation_rld: jax.Array, key: jax.Array, context: Context) -> jax.Array:
    """mu + eps * sigma with eps ~ N(0, I), drawn per utterance (eq. 17)."""
    draw = jax.vmap(jax.vmap(lambda key: jax.random.normal(key, mean_rld.shape[2:])))
    return mean_rld + draw(context.keys_rl(key)) * deviation_rld
