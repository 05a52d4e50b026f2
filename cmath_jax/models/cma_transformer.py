"""The cross-modality augmented transformer of one central modality (section 4.2 of the paper, eqs 9-14)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.layers import Attention, Context, Dropout, softmax_gate


class CMATransformer(nn.Module):
    """Augments the central modality by what its auxiliaries have to say.

    Attributes:
      central: the letter of the central modality; every other one is an auxiliary.
      heads: attention heads; they divide the width.
      inject: what eq. 11 adds to the self-attention of the centre: the auxiliaries' raw `attention`, as the symbols
        of the equation say, their finished `block`, or `nothing`, which treats the centre as any auxiliary.
      dtype: of the computation.
    """

    central: str
    heads: int
    inject: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h: Mapping[str, jax.Array], context: Context) -> tuple[jax.Array, dict[str, jax.Array]]:
        """H'_c [r, l, d], and the gate's weights by modality (none where there is only one)."""
        h_c = h[self.central]
        width = h_c.shape[-1]

        def attend(x: str) -> jax.Array:
            return Attention(self.heads, self.dtype, name=f"attention_{x}")(h_c, h[x], context)

        def norm(name: str, x_rld: jax.Array) -> jax.Array:
            return nn.LayerNorm(use_fast_variance=False, dtype=self.dtype, name=name)(x_rld)

        def feed_forward(x: str, b_rld: jax.Array) -> jax.Array:
            hidden_rld = nn.gelu(nn.Dense(width, dtype=self.dtype, name=f"hidden_{x}")(b_rld), approximate=False)
            hidden_rld = Dropout()(hidden_rld, context)
            return Dropout()(nn.Dense(width, dtype=self.dtype, name=f"project_{x}")(hidden_rld), context)

        def finish(x: str, a_rld: jax.Array) -> jax.Array:
            b_rld = norm(f"attention_norm_{x}", a_rld + h_c)
            return norm(f"output_norm_{x}", feed_forward(x, b_rld) + b_rld)

        attended = {x: attend(x) for x in h if x != self.central}  # A_xc, eq. 9
        finished = {x: finish(x, a_xc) for x, a_xc in attended.items()}  # H_xc, eq. 10
        injected = {"attention": attended, "block": finished, "nothing": {}}[self.inject]
        a_cc = attend(self.central) + sum(injected.values())  # eq. 11
        z = {self.central: finish(self.central, a_cc), **finished}
        if len(z) == 1:
            return z[self.central], {}

        # Eq. 12: a softmax over the three, feature by feature, through one matrix that they share.
        gate = nn.Dense(width, use_bias=False, dtype=self.dtype, name="gate")
        return softmax_gate(gate, z)
