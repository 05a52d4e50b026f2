"""Layers that know where a conversation ends: several conversations share a row, and none may see another.

Shapes: r rows, l slots of a row (q and k: the slot that asks and the slot that answers), d width, h heads.
"""

import math
from collections.abc import Callable, Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch

MASKED = -1e30  # a score that softmax turns into exactly 0 in float32 and in bfloat16, and yet is finite


@flax.struct.dataclass
class Context:
    """What every layer needs to know of a batch.

    Attributes:
      utterance_rl: int32, the number of the utterance in its split; addresses its random draws.
      position_rl: int32, its place in its conversation, from 0.
      segment_rl: int32, which conversation of the row it belongs to; 0 for padding.
      dropout: the rate, everywhere; a number, or a traced one.
      train: whether to draw dropout masks and noise.
    """

    utterance_rl: jax.Array
    position_rl: jax.Array
    segment_rl: jax.Array
    dropout: jax.Array | float
    train: bool = flax.struct.field(pytree_node=False)

    @classmethod
    def of(cls, batch: Batch, dropout: jax.Array | float, train: bool) -> "Context":
        return cls(batch.utterance_rl, batch.position_rl, batch.segment_rl, dropout, train)

    @property
    def drops(self) -> bool:
        """Whether there is anything to drop. A traced rate may be anything."""
        return self.train and (isinstance(self.dropout, jax.Array) or self.dropout != 0)

    @property
    def same_rqk(self) -> jax.Array:
        """bool: whether two slots of a row hold utterances of one conversation (padding attends to padding)."""
        return self.segment_rl[:, :, None] == self.segment_rl[:, None, :]

    def keys_rl(self, key: jax.Array) -> jax.Array:
        """A random key per utterance. It depends on the utterance and not on its place in the batch, so that a
        conversation is dropped out and sampled alike in any row, beside any other, on any number of devices."""
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (None, 0))
        return fold(key, self.utterance_rl)


def _keep(keys_rl: jax.Array, rate: jax.Array | float, shape: tuple[int, ...]) -> jax.Array:
    # Integers are compared, of 16 bits: no conversion to float, half the memory, and a rate exact to 1/65536.
    draw = jax.vmap(jax.vmap(lambda key: jax.random.bits(key, shape, jnp.uint16)))
    return draw(keys_rl) >= jnp.minimum(jnp.round(rate * 65536), 65535).astype(jnp.uint16)


def _drop(x: jax.Array, keep: jax.Array, rate: jax.Array | float) -> jax.Array:
    return jnp.where(keep, x / jnp.asarray(1.0 - rate, x.dtype), jnp.zeros((), x.dtype))


class Dropout(nn.Module):
    """Inverted dropout on [r, l, d], drawn per utterance."""

    @nn.compact
    def __call__(self, x_rld: jax.Array, context: Context) -> jax.Array:
        if not context.drops:
            return x_rld
        keep_rld = _keep(context.keys_rl(self.make_rng("dropout")), context.dropout, x_rld.shape[2:])
        return _drop(x_rld, keep_rld, context.dropout)


class AttentionDropout(nn.Module):
    """Inverted dropout on attention weights [r, h, q, k], drawn per asking utterance and position of the answering."""

    @nn.compact
    def __call__(self, weight_rhqk: jax.Array, context: Context) -> jax.Array:
        if not context.drops:
            return weight_rhqk
        _, heads, _, slots = weight_rhqk.shape
        # Positions before heads: the draw for a position is then the same in rows of any length.
        keep_rqph = _keep(context.keys_rl(self.make_rng("dropout")), context.dropout, (slots, heads))
        keep_rqkh = jnp.take_along_axis(keep_rqph, context.position_rl[:, None, :, None], axis=2)
        keep_rhqk = keep_rqkh.transpose(0, 3, 1, 2)
        return _drop(weight_rhqk, keep_rhqk, context.dropout)


class Convolution(nn.Module):
    """1-D convolution over the utterances of each conversation: SAME, zeros beyond its first and last utterance.

    Written as one matrix product over shifted copies, since a library convolution would mix the conversations that
    share a row. `kernel` is [k, d_in, features], as in `flax.linen.Conv`.
    """

    features: int
    size: int
    use_bias: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_rld: jax.Array, context: Context) -> jax.Array:
        width = x_rld.shape[-1]
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=(0, 1)), (self.size, width, self.features))
        x_rld = x_rld.astype(self.dtype)
        taps = [_shift(x_rld, context.segment_rl, tap - self.size // 2) for tap in range(self.size)]
        y_rld = jnp.concatenate(taps, axis=-1) @ kernel.reshape(self.size * width, self.features).astype(self.dtype)
        if self.use_bias:
            bias_d = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
            y_rld += bias_d[None, None, :]
        return y_rld


def _shift(x_rld: jax.Array, segment_rl: jax.Array, offset: int) -> jax.Array:
    """x[i + offset] where that utterance belongs to the conversation of utterance i, else 0."""
    if offset == 0:
        return x_rld
    slots = x_rld.shape[1]
    source = np.arange(slots) + offset
    inside_l = (source >= 0) & (source < slots)
    source = source.clip(0, slots - 1)
    same_rl = (segment_rl[:, source] == segment_rl) & inside_l[None, :]
    return jnp.where(same_rl[..., None], x_rld[:, source], jnp.zeros((), x_rld.dtype))


class Attention(nn.Module):
    """Multi-head scaled dot-product attention inside each conversation (eqs 9, 11; Vaswani et al. 2017).

    Queries, keys and values are projected without bias: a bias of the keys cannot change a softmax, and one of the
    values is the same thing as the bias of the output.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, asking_rld: jax.Array, answering_rld: jax.Array, context: Context) -> jax.Array:
        rows, slots, width = asking_rld.shape

        def project(name: str, x_rld: jax.Array) -> jax.Array:
            y_rld = nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(x_rld)
            return y_rld.reshape(rows, slots, self.heads, width // self.heads)

        query_rqhx = project("query", asking_rld)
        key_rkhx = project("key", answering_rld)
        value_rkhx = project("value", answering_rld)
        query_rqhx = query_rqhx / math.sqrt(width / self.heads)
        score_rhqk = jnp.einsum("rqhx,rkhx->rhqk", query_rqhx, key_rkhx, preferred_element_type=jnp.float32)
        score_rhqk = jnp.where(context.same_rqk[:, None], score_rhqk, MASKED)
        weight_rhqk = nn.softmax(score_rhqk).astype(self.dtype)
        weight_rhqk = AttentionDropout()(weight_rhqk, context)
        mixed_rqhx = jnp.einsum("rhqk,rkhx->rqhx", weight_rhqk, value_rkhx)
        output_rld = nn.Dense(width, dtype=self.dtype, name="output")(mixed_rqhx.reshape(rows, slots, width))
        return Dropout()(output_rld, context)


class SpeakerEmbedding(nn.Module):
    """S of eq. 4: a trainable row per speaker index, [r, l] -> [r, l, d].

    A product with one-hot rows: the gradient of a look-up adds up in any order on a GPU, and would not be repeatable.
    """

    speakers: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, speaker_rl: jax.Array) -> jax.Array:
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        embedding_sd = self.param("embedding", init, (self.speakers, self.width))
        one_hot_rls = jax.nn.one_hot(speaker_rl, self.speakers, dtype=self.dtype)
        # At the highest precision a look-up is exact on every device.
        return jnp.matmul(one_hot_rls, embedding_sd.astype(self.dtype), precision="highest")


def softmax_gate(
    score: Callable[[jax.Array], jax.Array], z: Mapping[str, jax.Array]
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The sum of the z_x [r, l, d] weighted feature by feature, and the weights: a softmax over x of score(z_x)."""
    score_xrld = jnp.stack([score(z_rld) for z_rld in z.values()]).astype(jnp.float32)
    alpha = dict(zip(z, nn.softmax(score_xrld, axis=0), strict=True))
    return sum(alpha[x].astype(z[x].dtype) * z[x] for x in z), alpha


def sinusoids(length: int, width: int) -> np.ndarray:
    """float32 [length, width]: P of eqs 6, 7; an odd width ends with a sine."""
    angle_lf = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, width, 2) / width)[None, :]
    table_ld = np.zeros((length, width), np.float32)
    table_ld[:, 0::2] = np.sin(angle_lf)
    table_ld[:, 1::2] = np.cos(angle_lf[:, : width // 2])
    return table_ld
