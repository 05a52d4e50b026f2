"""The cross-modality augmented transformers of all central modalities (section 4.2 of the paper, eqs 9-14).

All of them have the same shapes, and are computed together: c is the central modality, x the one that it attends to.
Both count the modalities present in their order; where x = c it attends to itself, else x is an auxiliary.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.attention import MASKED, Attention
from cmath_jax.models.layers import Context, Dense, Dropout, LayerNorm, gelu, softmax_gate, spread, total


class Block(nn.Module):
    """The end of eqs 9-11, from attention and its residual on: B = Norm(A + H), then Norm(FFN(B) + B)."""

    stack: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, a_srld: jax.Array, h_srld: jax.Array, context: Context) -> jax.Array:
        width = a_srld.shape[-1]
        b_srld = LayerNorm(self.stack, self.dtype, name="attention_norm")(a_srld + h_srld)
        f_srld = gelu(Dense((width,), self.stack, dtype=self.dtype, name="hidden")(b_srld))
        f_srld = Dense((width,), self.stack, dtype=self.dtype, name="project")(Dropout()(f_srld, context))
        return LayerNorm(self.stack, self.dtype, name="output_norm")(Dropout()(f_srld, context) + b_srld)


class CMATransformer(nn.Module):
    """Augments every modality by what the others have to say.

    Attributes:
      heads: attention heads; they divide the width.
      inject: what eq. 11 adds to the self-attention of the centre: the auxiliaries' raw `attention`, as the symbols
        of the equation say, their finished `block`, or `nothing`, which treats the centre as any auxiliary.
      dtype: of the computation.
    """

    heads: int
    inject: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h_crld: jax.Array, context: Context) -> tuple[jax.Array, jax.Array]:
        """H'_c [c, r, l, d], and the gate's weights [c, x, r, l, d]: 1 where there is a single modality."""
        m, width = h_crld.shape[0], h_crld.shape[-1]
        h_cxrld = spread(h_crld, 1, m)
        block = Block((m, m), self.dtype, name="block")
        central_cx = jnp.eye(m, dtype=bool)[:, :, None, None, None]

        def all_sources(x_cxrld: jax.Array) -> jax.Array:
            return spread(total(x_cxrld, 1), 1, m)

        a_cxrld = Attention(self.heads, self.dtype, name="attention")(h_crld, h_crld, context)  # A_xc, A_cc of eq. 9
        # Of a modality that a conversation lacks nothing is heard, not even a bias, and it has no place in the gate.
        heard_xrld = None if context.present_mrl is None else context.heard_mrl[..., None]
        if heard_xrld is not None:
            a_cxrld = jnp.where(heard_xrld[None], a_cxrld, jnp.zeros((), a_cxrld.dtype))
        if self.inject == "attention":
            a_cxrld = jnp.where(central_cx, all_sources(a_cxrld), a_cxrld)  # eq. 11
        z_cxrld = block(a_cxrld, h_cxrld, context)  # H_xc, H_cc of eq. 10
        if self.inject == "block":
            # The centre has to wait for the auxiliaries; to keep the one shape, all are computed again with it.
            finished_cxrld = jnp.where(central_cx, 0, z_cxrld)
            if heard_xrld is not None:
                finished_cxrld = jnp.where(heard_xrld[None], finished_cxrld, 0)
            z_cxrld = jnp.where(central_cx, block(a_cxrld + all_sources(finished_cxrld), h_cxrld, context), z_cxrld)
        if m == 1:
            return z_cxrld[:, 0], jnp.ones_like(z_cxrld)

        # Eq. 12: a softmax over x, feature by feature, through one matrix for each centre.
        score_cxrld = Dense((width,), (m,), use_bias=False, dtype=self.dtype, name="gate")(z_cxrld)
        if heard_xrld is not None:
            score_cxrld = jnp.where(heard_xrld[None], score_cxrld, MASKED)
        return softmax_gate(score_cxrld, z_cxrld, axis=1)
