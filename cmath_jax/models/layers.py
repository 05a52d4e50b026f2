"""Layers that know where a conversation ends: several conversations share a row, and none may see another.

Layers of equal shape are computed together: their parameters lie in one array, whose leading axes, the `stack`, say
whose they are. A layer with the stack () is a single one.

Shapes: g the axes of the stack; r rows, l slots of a row, n all slots of all rows, d width, v speakers.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.models.draws import random_bits

LONGEST_SYMBOL = 512  # how long a row can be at most if its length is a symbol


@flax.struct.dataclass
class Context:
    """The facts of a batch that every layer needs to know.

    Attributes:
      utterance_rl: int32, the number of the utterance in its split; addresses its random draws.
      position_rl: int32, its place in its conversation, from 0.
      segment_rl: int32, which conversation of the row it belongs to; 0 for padding.
      present_mrl: bool, which modalities it has; None where nothing is missing.
      dropout: the rate, everywhere; a number, or a traced one.
      train: whether to draw dropout masks and noise.
      causal: whether an utterance is told from itself and what came before it alone.
    """

    utterance_rl: jax.Array
    position_rl: jax.Array
    segment_rl: jax.Array
    present_mrl: jax.Array | None
    dropout: jax.Array | float
    train: bool = flax.struct.field(pytree_node=False)
    causal: bool = flax.struct.field(pytree_node=False)

    @classmethod
    def of(
        cls, batch: Batch, modalities: Sequence[str], *, dropout: jax.Array | float, train: bool, causal: bool
    ) -> "Context":
        """Makes the context of a batch, for a model that takes these modalities, in this order."""
        present_mrl = jnp.stack([batch.present[m] for m in modalities]) if batch.present else None
        return cls(batch.utterance_rl, batch.position_rl, batch.segment_rl, present_mrl, dropout, train, causal)

    @property
    def drops(self) -> bool:
        """Whether there is anything to drop. A traced rate may be anything."""
        return self.train and (isinstance(self.dropout, jax.Array) or self.dropout != 0)

    @property
    def heard_mrl(self) -> jax.Array:
        """bool: whether an utterance can hear of modality m at all: whether one that it sees has it."""
        assert self.present_mrl is not None
        rows, slots = self.segment_rl.shape
        if self.causal:
            # Where the last one that has it is, up to here: in this conversation, or before it began.
            slot_l = jnp.arange(slots)[None]
            last_mrl = jax.lax.cummax(jnp.where(self.present_mrl, slot_l[None], -1), axis=2)
            return last_mrl >= (slot_l - self.position_rl)[None]
        # Of each conversation of the row, whether anybody has it.
        row_r = jnp.arange(rows)[:, None]
        anybody_mrb = jnp.zeros((len(self.present_mrl), rows, slots + 1), bool)
        anybody_mrb = anybody_mrb.at[:, row_r, self.segment_rl].max(self.present_mrl)
        return anybody_mrb[:, row_r, self.segment_rl]

    @property
    def told_mrl(self) -> jax.Array:
        """bool: the modalities that an utterance is told by: those it has, or, if none, those it can hear of."""
        assert self.present_mrl is not None
        return jnp.where(self.present_mrl.any(0)[None], self.present_mrl, self.heard_mrl)


class ConversationModel(Protocol):
    """The attributes of a model that say how it takes a batch; see `models.options.base`."""

    modalities: str
    dropout: float
    causal: bool


def context_of(
    model: ConversationModel, batch: Batch, train: bool, dropout: jax.Array | None
) -> tuple[tuple[str, ...], Context]:
    """Returns the modalities that a model takes, in their order, and the context of a batch for it.

    Args:
      dropout: the rate of this call, which may be traced; None is that of the model.
    """
    modalities = tuple(m for m in MODALITIES if m in model.modalities)
    rate = model.dropout if dropout is None else dropout
    return modalities, Context.of(batch, modalities, dropout=rate, train=train, causal=model.causal)


def visible(asking: Context, answering: Context) -> jax.Array:
    """Returns whether q of the asking utterances may hear modality m of k of the answering ones, bool [m, r, q, k].

    They are of one conversation, k has the modality, and if causal is not after q. Padding sees padding. m is of
    length 1 where nothing is missing.
    """
    seen_rqk = asking.segment_rl[:, :, None] == answering.segment_rl[:, None, :]
    if asking.causal:
        seen_rqk &= asking.position_rl[:, :, None] >= answering.position_rl[:, None, :]
    seen_mrqk = seen_rqk[None]
    return seen_mrqk if answering.present_mrl is None else seen_mrqk & answering.present_mrl[:, :, None, :]


def accurate(x: jax.Array) -> jax.Array:
    """Returns x in float32, or in float64 if it is that: sums and exponentials are not computed in less."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def drop(x: jax.Array, bits: jax.Array, rate: jax.Array | float) -> jax.Array:
    """Applies inverted dropout: 0 with probability `rate`, else x / (1 - rate). Integers are compared."""
    keep = bits >= (jnp.float32(rate) * 2.0**32).astype(jnp.uint32)
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


class Dropout(nn.Module):
    """Inverted dropout on [*g, r, l, d], drawn per utterance, layer of the stack and feature."""

    @nn.compact
    def __call__(self, x_grld: jax.Array, context: Context) -> jax.Array:
        if not context.drops:
            return x_grld
        *stack, _, _, width = x_grld.shape
        layer_grld = jnp.arange(math.prod(stack)).reshape(*stack, 1, 1, 1)
        utterance_rld = context.utterance_rl[..., None]
        bits_grld = random_bits(self.make_rng("dropout"), *aligned(utterance_rld, layer_grld, jnp.arange(width)))
        return drop(x_grld, bits_grld, context.dropout)


def aligned(*x: jax.Array) -> list[jax.Array]:
    """Returns the arrays with axes of length 1 put before theirs, so that all have as many."""
    rank = max(one.ndim for one in x)
    return [one.reshape((1,) * (rank - one.ndim) + one.shape) for one in x]


class Dense(nn.Module):
    """y = x W + b for each layer of a stack: [*g, ..., d_in] -> [*g, ..., *features].

    `kernel` is [*g, d_in, *features], `bias` [*g, *features]. One product, of as few axes as it can have: XLA
    transposes before a product over the slots of [r, l], and not before one over those of [n].

    Attributes:
      uniform: True draws kernel and bias from U(-1, 1) / sqrt(d_in), as PyTorch does and so the models of others.
    """

    features: tuple[int, ...]
    stack: tuple[int, ...] = ()
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    uniform: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        depth, d_in = len(self.stack), x.shape[-1]
        outputs = tuple(range(depth + 1, depth + 1 + len(self.features)))
        if self.uniform:
            initializer = bias_initializer = uniform_by(d_in)
        else:
            initializer = nn.initializers.lecun_normal(depth, outputs[-1], (*range(depth), *outputs[:-1]))
            bias_initializer = nn.initializers.zeros
        kernel = self.param("kernel", initializer, (*self.stack, d_in, *self.features), jnp.float32).astype(self.dtype)
        x_gnd = x.astype(self.dtype).reshape(*self.stack, -1, d_in)
        y = product(x_gnd, kernel.reshape(*self.stack, d_in, -1))
        if self.use_bias:
            bias = self.param("bias", bias_initializer, (*self.stack, *self.features), jnp.float32)
            y += bias.astype(self.dtype).reshape(*self.stack, 1, -1)
        return y.reshape(*x.shape[:-1], *self.features)


def uniform_by(fan: int) -> nn.initializers.Initializer:
    """Returns the initializer U(-1, 1) / sqrt(fan)."""

    def initialize(rng_key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(rng_key, shape, dtype, -1.0, 1.0) / math.sqrt(fan)

    return initialize


@jax.custom_vjp
def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Multiplies [*g, n, i] by [*g, i, o]. Its gradients are computed as x and y lie: nothing is transposed."""
    return jnp.matmul(x, y)


def _product_gradients(factors: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, y = factors
    batch = tuple(range(x.ndim - 2))
    rows, columns = (x.ndim - 2,), (x.ndim - 1,)
    to_x = jax.lax.dot_general(g, y, ((columns, columns), (batch, batch)))
    return to_x, jax.lax.dot_general(x, g, ((rows, rows), (batch, batch)))


product.defvjp(lambda x, y: (product(x, y), (x, y)), _product_gradients)


def gelu(x: jax.Array) -> jax.Array:
    """Computes x Phi(x) by erf: the usual erfc, more exact only where the result is next to 0, costs twice as much."""
    return 0.5 * x * (1.0 + jax.lax.erf(x / math.sqrt(2.0)))


class LayerNorm(nn.Module):
    """LayerNorm over the features of [*g, r, l, d], `scale` and `bias` [*g, d]; not computed in less than float32."""

    stack: tuple[int, ...]
    dtype: jnp.dtype
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x_grld: jax.Array) -> jax.Array:
        shape = (*self.stack, x_grld.shape[-1])
        scale_gd = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias_gd = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        x_grld = accurate(x_grld)
        centred_grld = x_grld - x_grld.mean(-1, keepdims=True)
        variance_grl = jnp.square(centred_grld).mean(-1, keepdims=True)
        normed_grld = centred_grld * jax.lax.rsqrt(variance_grl + self.epsilon)
        return (normed_grld * scale_gd[..., None, None, :] + bias_gd[..., None, None, :]).astype(self.dtype)


class Convolution(nn.Module):
    """1-D convolution over the utterances of each conversation: SAME, zeros beyond its first and last utterance.

    If causal, over an utterance and those before it.

    Written as one matrix product over shifted copies, since a library convolution would mix the conversations that
    share a row. `kernel` is [k, d_in, features], as in `flax.linen.Conv`.
    """

    features: int
    size: int
    use_bias: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_rld: jax.Array, context: Context) -> jax.Array:
        rows, slots, width = x_rld.shape
        initializer = nn.initializers.lecun_normal(in_axis=(0, 1))
        kernel = self.param("kernel", initializer, (self.size, width, self.features), jnp.float32)
        x_rld = x_rld.astype(self.dtype)
        before = self.size - 1 if context.causal else self.size // 2
        taps = [_shift(x_rld, context.segment_rl, tap - before) for tap in range(self.size)]
        x_nx = jnp.concatenate(taps, axis=-1).reshape(rows * slots, self.size * width)
        y_nd = product(x_nx, kernel.reshape(self.size * width, self.features).astype(self.dtype))
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y_nd += bias.astype(self.dtype)[None, :]
        return y_nd.reshape(rows, slots, self.features)


def _shift(x_rld: jax.Array, segment_rl: jax.Array, offset: int) -> jax.Array:
    """Returns x[i + offset] where that utterance belongs to the conversation of utterance i, else 0."""
    if offset == 0:
        return x_rld
    slots, reach = x_rld.shape[1], abs(offset)

    def moved(x: jax.Array, beyond: int) -> jax.Array:
        padded = jnp.pad(x, [(0, 0), (reach, reach)] + [(0, 0)] * (x.ndim - 2), constant_values=beyond)
        return jax.lax.slice_in_dim(padded, reach + offset, reach + offset + slots, axis=1)

    same_rl = moved(segment_rl, -1) == segment_rl
    return jnp.where(same_rl[..., None], moved(x_rld, 0), jnp.zeros((), x_rld.dtype))


class SpeakerEmbedding(nn.Module):
    """S of eq. 4: a trainable row per speaker index, [r, l] -> [r, l, d].

    A product with one-hot rows, which is as exact: the gradient of a look-up adds up in any order on a GPU, and would
    not be repeatable.

    Attributes:
      deviation: of its numbers at first; 0 is 1 / sqrt(width). PyTorch has 1, and so the models of others.
    """

    speakers: int
    width: int
    dtype: jnp.dtype
    deviation: float = 0.0

    @nn.compact
    def __call__(self, speaker_rl: jax.Array) -> jax.Array:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        if self.deviation:
            init = nn.initializers.normal(self.deviation)
        embedding_vd = self.param("embedding", init, (self.speakers, self.width), jnp.float32)
        one_hot_rlv = jax.nn.one_hot(speaker_rl, self.speakers, dtype=self.dtype)
        return jnp.matmul(one_hot_rlv, embedding_vd.astype(self.dtype))


def softmax_gate(score_mrld: jax.Array, z_mrld: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Sums z over an axis, weighted feature by feature by a softmax of the score; returns the weights too."""
    score_mrld = accurate(score_mrld)
    size = score_mrld.shape[axis]
    highest = functools.reduce(jnp.maximum, jnp.unstack(jax.lax.stop_gradient(score_mrld), axis=axis))
    power_mrld = jnp.exp(score_mrld - jnp.expand_dims(highest, axis))
    alpha_mrld = power_mrld / repeat_along(total(power_mrld, axis), axis, size)
    return total(alpha_mrld.astype(z_mrld.dtype) * z_mrld, axis), alpha_mrld


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def total(x: jax.Array, axis: int) -> jax.Array:
    """Sums over a short axis, slice by slice: a reduction over an axis before the last is slow on a CPU."""
    return functools.reduce(jnp.add, jnp.unstack(x, axis=axis))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def repeat_along(x: jax.Array, axis: int, size: int) -> jax.Array:
    """Repeats x along a new axis of that size; the gradient is a `total`, whose gradient is this."""
    shape = list(x.shape)
    shape.insert(axis, size)
    return jnp.broadcast_to(jnp.expand_dims(x, axis), shape)


total.defvjp(lambda x, axis: (total(x, axis), x.shape[axis]), lambda axis, size, g: (repeat_along(g, axis, size),))
repeat_along.defvjp(
    lambda x, axis, size: (repeat_along(x, axis, size), None), lambda axis, size, _, g: (total(g, axis),)
)


def sinusoids(length: int, width: int) -> np.ndarray:
    """Returns P of eqs 6, 7, float64 [length, width]; an odd width ends with a sine.

    For a length that is a symbol, as `jax.export` has it, as many rows as it can be.
    """
    length = length if isinstance(length, int) else LONGEST_SYMBOL
    angle_lf = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)[None, :]
    table_ld = np.zeros((length, width))
    table_ld[:, 0::2] = np.sin(angle_lf)
    table_ld[:, 1::2] = np.cos(angle_lf[:, : width // 2])
    return table_ld
