"""Attention inside each conversation of a row: at once or, over long rows, by chunks of queries or a kernel of a TPU.

Shapes: m modalities, first those that ask, then those that answer; r rows, l slots of a row (q the slot that asks, k
the one that answers), d width, h heads, w the width of a head.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.attention_kernel import attend_in_kernel, fits_kernel
from cmath_jax.models.draws import random_bits
from cmath_jax.models.layers import Context, Dense, Dropout, aligned, drop, product, visible

MASKED = -1e30  # a score that softmax turns into exactly 0 in float32 and in bfloat16, and yet is finite
DENSE_SLOTS = 512  # attention over rows longer than this goes by chunks, or as a kernel
CHUNK_SCORES = 2**24  # attention weights of a chunk


class Attention(nn.Module):
    """Multi-head scaled dot-product attention inside each conversation (eqs 9, 11; Vaswani et al. 2017).

    Of every modality that asks to every modality that answers, each pair with parameters of its own:
    [m, r, l, d], [m, r, l, d] -> [m, m, r, l, d]. Where an utterance sees nobody who has the one that answers
    (`Context.heard_mrl`), the result means nothing, and the caller leaves it out.

    Queries, keys and values are projected without bias: a bias of the keys cannot change a softmax, and one of the
    values is the same thing as the bias of the output. Kernels are [m, d, m, d], first the modality that is
    projected, then its partners: it is projected for all of them in one product.

    Attributes:
      biases: True has them nevertheless, as SDT's released code does.
    """

    heads: int
    dtype: jnp.dtype
    biases: bool = False

    @nn.compact
    def __call__(self, asking_mrld: jax.Array, answering_mrld: jax.Array, context: Context) -> jax.Array:
        asking, rows, slots, width = asking_mrld.shape
        answering = len(answering_mrld)

        def project(name: str, x: jax.Array, partners: int) -> jax.Array:
            y = Dense((partners, width), (len(x),), use_bias=self.biases, dtype=self.dtype, name=name)(x)
            return y.reshape(*x.shape[:-1], partners, self.heads, width // self.heads)

        query_mmrhqw = project("query", asking_mrld, answering).transpose(0, 3, 1, 4, 2, 5)
        key_mmrhkw = project("key", answering_mrld, asking).transpose(3, 0, 1, 4, 2, 5)
        value_mmrhkw = project("value", answering_mrld, asking).transpose(3, 0, 1, 4, 2, 5)
        query_mmrhqw /= math.sqrt(width / self.heads)
        rng_key = self.make_rng("dropout") if context.drops else None
        attend = attend_in_long_rows if slots > DENSE_SLOTS else attend_at_once
        mixed_mmrhqw = attend(query_mmrhqw, key_mmrhkw, value_mmrhkw, context, rng_key)
        mixed_mmrld = mixed_mmrhqw.swapaxes(3, 4).reshape(asking, answering, rows, slots, width)
        output_mmrld = Dense((width,), (asking, answering), dtype=self.dtype, name="output")(mixed_mmrld)
        return Dropout()(output_mmrld, context)


def attend_at_once(
    query_mmrhqw: jax.Array, key_mmrhkw: jax.Array, value_mmrhkw: jax.Array, context: Context, rng_key: jax.Array | None
) -> jax.Array:
    """Averages the values by a softmax over the keys, dropped out by `rng_key`; returns [m, m, r, h, q, w]."""
    return _attend(query_mmrhqw, context, key_mmrhkw, value_mmrhkw, context, rng_key)


def attend_in_long_rows(
    query_mmrhqw: jax.Array, key_mmrhkw: jax.Array, value_mmrhkw: jax.Array, context: Context, rng_key: jax.Array | None
) -> jax.Array:
    """Averages the values with the same result, on a TPU by a kernel where it fits, and elsewhere by chunks.

    The platform is the one for which the program is lowered, which need not be that of this process.
    """

    def by(attend: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return lambda *factors: attend(*factors, context, rng_key)

    factors = (query_mmrhqw, key_mmrhkw, value_mmrhkw)
    if not fits_kernel(*query_mmrhqw.shape[4:]):
        return attend_in_chunks(*factors, context, rng_key)
    mixed_mmrhqw: jax.Array = jax.lax.platform_dependent(
        *factors, tpu=by(attend_in_kernel), default=by(attend_in_chunks)
    )
    return mixed_mmrhqw


def attend_in_chunks(
    query_mmrhqw: jax.Array, key_mmrhkw: jax.Array, value_mmrhkw: jax.Array, context: Context, rng_key: jax.Array | None
) -> jax.Array:
    """Averages the values with the same result by chunks of queries: memory grows with the slots, not their square.

    Nothing of a chunk is kept for the gradient, which computes it again.
    """
    asking, answering, rows, heads, slots, _ = query_mmrhqw.shape
    queries = max(1, CHUNK_SCORES // (asking * answering * rows * heads * slots))
    chunks = -(-slots // queries)
    queries = -(-slots // chunks)

    def split(x: jax.Array, axis: int) -> jax.Array:
        padding = [(0, 0)] * x.ndim
        padding[axis] = (0, chunks * queries - slots)
        x = jnp.pad(x, padding).reshape(*x.shape[:axis], chunks, queries, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    @jax.checkpoint
    def one(chunk: tuple[jax.Array, ...]) -> jax.Array:
        query, segment_rq, utterance_rq, position_rq = chunk
        asking = replace(context, segment_rl=segment_rq, utterance_rl=utterance_rq, position_rl=position_rq)
        return _attend(query, asking, key_mmrhkw, value_mmrhkw, context, rng_key)

    columns = (context.segment_rl, context.utterance_rl, context.position_rl)
    parts = (split(query_mmrhqw, 4), *(split(column_rl, 1) for column_rl in columns))
    mixed = jnp.moveaxis(jax.lax.map(one, parts), 0, 4)
    return mixed.reshape(asking, answering, rows, heads, chunks * queries, -1)[..., :slots, :]


def _attend(
    query_mmrhqw: jax.Array,
    asking: Context,
    key_mmrhkw: jax.Array,
    value_mmrhkw: jax.Array,
    answering: Context,
    rng_key: jax.Array | None,
) -> jax.Array:
    batch = (0, 1, 2, 3)
    score_dtype = jnp.promote_types(query_mmrhqw.dtype, jnp.float32)
    score_mmrhqk = jax.lax.dot_general(
        query_mmrhqw, key_mmrhkw, (((5,), (5,)), (batch, batch)), preferred_element_type=score_dtype
    )
    seen_mmrhqk = visible(asking, answering)[None, :, :, None]
    weight_mmrhqk = nn.softmax(jnp.where(seen_mmrhqk, score_mmrhqk, MASKED)).astype(value_mmrhkw.dtype)
    if rng_key is not None:
        targets, sources, _, heads = query_mmrhqw.shape[:4]
        address = (
            asking.utterance_rl[:, None, :, None],
            jnp.arange(targets * sources * heads).reshape(targets, sources, 1, heads, 1, 1),
            answering.position_rl[:, None, None, :],
        )
        weight_mmrhqk = drop(weight_mmrhqk, random_bits(rng_key, *aligned(*address)), answering.dropout)
    return product(weight_mmrhqk, value_mmrhkw)
