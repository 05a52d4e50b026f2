"""Attention by a matrix that matches two utterances, as DialogueRNN and DialogueGCN have it.

Shapes: r rows, l slots of a row: q asks and k answers; d width.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.attention import MASKED
from cmath_jax.models.layers import Context, Dense, accurate, visible


class Matching(nn.Module):
    """The sum of softmax(f(x_k . (W x_q + b))) x_k over all of a conversation, itself too: [r, l, d] -> [r, l, d].

    Attributes:
      dtype: of the computation.
      bounded: whether f is tanh; else it does nothing.
    """

    dtype: jnp.dtype
    bounded: bool = False

    @nn.compact
    def __call__(self, x_rld: jax.Array, context: Context) -> jax.Array:
        query_rqd = Dense((x_rld.shape[-1],), dtype=self.dtype, uniform=True, name="query")(x_rld)
        score_rqk = accurate(jnp.einsum("rqd,rkd->rqk", query_rqd, x_rld))
        score_rqk = jnp.tanh(score_rqk) if self.bounded else score_rqk
        # An utterance that lacks a modality is still one.
        whole = replace(context, present_mrl=None)
        weight_rqk = nn.softmax(jnp.where(visible(whole, whole)[0], score_rqk, MASKED))
        return jnp.matmul(weight_rqk.astype(self.dtype), x_rld)
