"""Variational fusion: a Gaussian per modality, their average, and a reparameterized sample (eqs 15-17)."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.draws import random_bits, standard_normal
from cmath_jax.models.layers import Context, Dense, aligned, repeat_along, total

SMALLEST_DEVIATION = 1e-6


class Gaussians(nn.Module):
    """mu_m and sigma_m of every modality: two MLPs each, Linear-ReLU-Linear (eq. 15); sigma_m is 0 if not `noisy`.

    The stack of their layers is [m, p], p being mu and, if `noisy`, sigma.
    """

    noisy: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h_mrld: jax.Array) -> tuple[jax.Array, jax.Array]:
        modalities, *_, width = h_mrld.shape
        moments = 2 if self.noisy else 1
        stack = (modalities, moments)
        hidden_mprld = nn.relu(
            Dense((width,), stack, dtype=self.dtype, name="hidden")(repeat_along(h_mrld, 1, moments))
        )
        output_mprld = Dense((width,), stack, dtype=self.dtype, name="output")(hidden_mprld).astype(jnp.float32)
        mean_mrld, *raw = jnp.unstack(output_mprld, axis=1)
        if not self.noisy:
            return mean_mrld, jnp.zeros_like(mean_mrld)
        # The paper asks for a standard deviation, so it is made positive.
        return mean_mrld, nn.softplus(raw[0]) + SMALLEST_DEVIATION


def average(x_mrld: jax.Array, context: Context) -> jax.Array:
    """Averages the modalities that are present (eq. 16): [m, r, l, d] -> [r, l, d].

    An utterance that has none of them is told by those that it hears of.
    """
    if context.present_mrl is None:
        return total(x_mrld, 0) / len(x_mrld)
    told_mrld = context.told_mrl[..., None]
    return total(jnp.where(told_mrld, x_mrld, 0.0), 0) / jnp.maximum(told_mrld.sum(0), 1)


def sample(mean_rld: jax.Array, deviation_rld: jax.Array, rng_key: jax.Array, context: Context) -> jax.Array:
    """Draws mu + eps * sigma with eps ~ N(0, I), per utterance and feature (eq. 17)."""
    address = aligned(context.utterance_rl[..., None], jnp.arange(mean_rld.shape[-1]))
    # Drawn once: without a barrier it would be drawn again wherever the sample is used.
    noise_rld: jax.Array = jax.lax.optimization_barrier(standard_normal(random_bits(rng_key, *address)))
    return mean_rld + noise_rld * deviation_rld
