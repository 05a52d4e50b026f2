"""The cross-modality augmented transformers of all central modalities (section 4.2 of the paper, eqs 9-14).

They have the same shapes, and are computed together: of the axes [m, m, ...] the first is the central modality (c
in the equations), the second the one that it attends to (x). Both count the modalities present in their order; on the
diagonal a modality attends to itself, elsewhere to an auxiliary.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.attention import MASKED, Attention
from cmath_jax.models.layers import Context, Dense, Dropout, LayerNorm, gelu, repeat_along, softmax_gate, total


class Block(nn.Module):
    """The end of eqs 9-11, from attention and its residual on: B = Norm(A + H), then Norm(FFN(B) + B).

    If `pre_norm`, what is added up stays as it is: B = A + H, then FFN(Norm(B)) + B.
    """

    stack: tuple[int, ...]
    pre_norm: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, a_grld: jax.Array, h_grld: jax.Array, context: Context) -> jax.Array:
        width = a_grld.shape[-1]
        normed_grld = LayerNorm(self.stack, self.dtype, name="attention_norm")(a_grld + h_grld)
        b_grld = a_grld + h_grld if self.pre_norm else normed_grld
        f_grld = gelu(Dense((width,), self.stack, dtype=self.dtype, name="hidden")(normed_grld))
        f_grld = Dense((width,), self.stack, dtype=self.dtype, name="project")(Dropout()(f_grld, context))
        z_grld = Dropout()(f_grld, context) + b_grld
        return z_grld if self.pre_norm else LayerNorm(self.stack, self.dtype, name="output_norm")(z_grld)


class CMATransformer(nn.Module):
    """Augments every modality by what the others have to say.

    Attributes:
      heads: attention heads; they divide the width.
      inject: what eq. 11 adds to the self-attention of the centre: the auxiliaries' raw `attention`, as the symbols
        of the equation say, their finished `block`, or `nothing`, which treats the centre as any auxiliary.
      norm: `post` normalizes each sum with its residual, as the equations say; `pre` what a layer reads (Xiong et al.
        2020, "On Layer Normalization in the Transformer Architecture"), which is ours.
      dtype: of the computation.
    """

    heads: int
    inject: str
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h_mrld: jax.Array, context: Context) -> tuple[jax.Array, jax.Array]:
        """Returns H'_m [m, r, l, d], and the gate's weights [m, m, r, l, d]: 1 where there is a single modality."""
        m, width = h_mrld.shape[0], h_mrld.shape[-1]
        h_mmrld = repeat_along(h_mrld, 1, m)
        pre_norm = self.norm == "pre"
        block = Block((m, m), pre_norm, self.dtype, name="block")
        central_mm = jnp.eye(m, dtype=bool)[:, :, None, None, None]

        def all_sources(x_mmrld: jax.Array) -> jax.Array:
            return repeat_along(total(x_mmrld, 1), 1, m)

        read_mrld = LayerNorm((m,), self.dtype, name="input_norm")(h_mrld) if pre_norm else h_mrld
        attention = Attention(self.heads, self.dtype, name="attention")
        a_mmrld = attention(read_mrld, read_mrld, context)  # A_xc, A_cc of eq. 9
        # Of a modality that a conversation lacks nothing is heard, not even a bias, and it has no place in the gate.
        heard_mrld = None if context.present_mrl is None else context.heard_mrl[..., None]
        if heard_mrld is not None:
            a_mmrld = jnp.where(heard_mrld[None], a_mmrld, jnp.zeros((), a_mmrld.dtype))
        if self.inject == "attention":
            a_mmrld = jnp.where(central_mm, all_sources(a_mmrld), a_mmrld)  # eq. 11
        z_mmrld = block(a_mmrld, h_mmrld, context)  # H_xc, H_cc of eq. 10
        if self.inject == "block":
            # The centre has to wait for the auxiliaries; to keep the one shape, all are computed again with it.
            finished_mmrld = jnp.where(central_mm, 0, z_mmrld)
            if heard_mrld is not None:
                finished_mmrld = jnp.where(heard_mrld[None], finished_mmrld, 0)
            z_mmrld = jnp.where(central_mm, block(a_mmrld + all_sources(finished_mmrld), h_mmrld, context), z_mmrld)
        if m == 1:
            return z_mmrld[:, 0], jnp.ones_like(z_mmrld)

        # Eq. 12: a softmax over the second axis, feature by feature, through one matrix for each centre.
        score_mmrld = Dense((width,), (m,), use_bias=False, dtype=self.dtype, name="gate")(z_mmrld)
        if heard_mrld is not None:
            score_mmrld = jnp.where(heard_mrld[None], score_mmrld, MASKED)
        return softmax_gate(score_mmrld, z_mmrld, axis=1)
