"""Parts of post-norm transformer encoders whose attention has a mask of its own, such as a window.

Attention is dense here: [r, h, q, k] for each layer of a stack. Shapes as in `models.attention`; g the axes of a stack.
"""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.attention import MASKED
from cmath_jax.models.draws import random_bits
from cmath_jax.models.layers import (
    Context,
    Dense,
    Dropout,
    LayerNorm,
    SpeakerEmbedding,
    aligned,
    drop,
    product,
    repeat_along,
    sinusoids,
    visible,
)

WIDENING = 2  # hidden units of a feed-forward layer, of its width


class UtteranceInputs(nn.Module):
    """X_m = Linear_m(u_m) + P, and the embedding of the speaker if `speakers` is not 0: [m, r, l, d].

    P are sinusoids of the place in the conversation.
    """

    modalities: tuple[str, ...]
    width: int
    speakers: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, batch: Batch) -> jax.Array:
        positions_ld = jnp.asarray(sinusoids(batch.position_rl.shape[1], self.width), self.dtype)
        place_rld = positions_ld[batch.position_rl]
        if self.speakers:
            place_rld += SpeakerEmbedding(self.speakers, self.width, self.dtype, name="speaker")(batch.speaker_rl)
        said = [Dense((self.width,), dtype=self.dtype, name=f"linear_{m}")(batch.features[m]) for m in self.modalities]
        return jnp.stack(said) + repeat_along(place_rld, 0, len(said))


class PostNorm(nn.Module):
    """The end of an encoder layer, from attention on: Y = LN(X + A), then LN(Y + drop(FFN(Y))).

    FFN is Linear-ReLU-Linear. A comes with its dropout done.
    """

    stack: tuple[int, ...]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_grld: jax.Array, a_grld: jax.Array, context: Context) -> jax.Array:
        width = x_grld.shape[-1]
        y_grld = LayerNorm(self.stack, self.dtype, name="attention_norm")(x_grld + a_grld)
        f_grld = nn.relu(Dense((WIDENING * width,), self.stack, dtype=self.dtype, name="hidden")(y_grld))
        f_grld = Dense((width,), self.stack, dtype=self.dtype, name="project")(f_grld)
        return LayerNorm(self.stack, self.dtype, name="output_norm")(y_grld + Dropout()(f_grld, context))


def near(context: Context, window: int) -> jax.Array:
    """Returns whether q may hear k and is at most so many utterances from it, bool [m, r, q, k]; m as in `visible`."""
    position_rl = context.position_rl
    near_rqk = jnp.abs(position_rl[:, :, None] - position_rl[:, None, :]) <= window
    return visible(context, context) & near_rqk[None]


def told_alone(x_mrld: jax.Array, context: Context) -> jax.Array:
    """Returns x, and 0 for the modalities that an utterance is not told by (`Context.told_mrl`)."""
    if context.present_mrl is None:
        return x_mrld
    return jnp.where(context.told_mrl[..., None], x_mrld, jnp.zeros((), x_mrld.dtype))


def with_heads(x: jax.Array, axes: int) -> jax.Array:
    """Moves so many axes of projections in front, heads before slots: [*g, r, l, x, h, w] -> [x, *g, r, h, l, w]."""
    x = jnp.moveaxis(x, -2, x.ndim - axes - 3)
    return jnp.moveaxis(x, range(x.ndim - axes - 1, x.ndim - 1), range(axes))


def without_heads(x_grhlw: jax.Array) -> jax.Array:
    """Returns what all heads have found, side by side: [*g, r, h, l, w] -> [*g, r, l, d]."""
    *stack, heads, slots, width = x_grhlw.shape
    return x_grhlw.swapaxes(-3, -2).reshape(*stack, slots, heads * width)


def scores(query_grhqw: jax.Array, key_grhkw: jax.Array) -> jax.Array:
    """Returns scaled products of queries and keys [*g, r, h, q, k], not in less than float32."""
    dtype = jnp.promote_types(query_grhqw.dtype, jnp.float32)
    query_grhqw /= math.sqrt(query_grhqw.shape[-1])
    return jnp.matmul(query_grhqw, key_grhkw.swapaxes(-2, -1), preferred_element_type=dtype)


def weights(
    score_grhqk: jax.Array, seen_grqk: jax.Array, context: Context, rng_key: jax.Array | None, dtype: jnp.dtype
) -> jax.Array:
    """Returns a softmax over the keys that are seen, dropped out by `rng_key`; where none is seen, 0 for all."""
    seen_grhqk = jnp.expand_dims(seen_grqk, -3)
    weight_grhqk = nn.softmax(jnp.where(seen_grhqk, score_grhqk, MASKED))
    weight_grhqk = jnp.where(seen_grhqk, weight_grhqk, 0.0).astype(dtype)
    if rng_key is None:
        return weight_grhqk
    *stack, _, heads, _, _ = score_grhqk.shape
    address = (
        context.utterance_rl[:, None, :, None],
        jnp.arange(math.prod(stack) * heads).reshape(*stack, 1, heads, 1, 1),
        context.position_rl[:, None, None, :],
    )
    return drop(weight_grhqk, random_bits(rng_key, *aligned(*address)), context.dropout)


class MaskedAttention(nn.Module):
    """Multi-head self-attention of each layer of a stack under the mask of that layer: [*g, r, l, d] -> the same.

    Projections have no bias, as in `models.attention`. The weights are dropped out, and the output.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_grld: jax.Array, seen_grqk: jax.Array, context: Context) -> jax.Array:
        *stack, _, _, width = x_grld.shape
        features = (3, self.heads, width // self.heads)
        projected = Dense(features, tuple(stack), use_bias=False, dtype=self.dtype, name="query_key_value")(x_grld)
        query_grhqw, key_grhkw, value_grhkw = with_heads(projected, 1)
        rng_key = self.make_rng("dropout") if context.drops else None
        weight_grhqk = weights(scores(query_grhqw, key_grhkw), seen_grqk, context, rng_key, self.dtype)
        mixed_grld = without_heads(product(weight_grhqk, value_grhkw))
        return Dropout()(Dense((width,), tuple(stack), dtype=self.dtype, name="output")(mixed_grld), context)
