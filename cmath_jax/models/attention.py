"""Attention inside each conversation of a row, at once or, over long rows, by chunks of queries.

Shapes: c the sequences that ask, x those that answer; r rows, l slots of a row (q and k: the slot that asks and the
slot that answers), d width, h heads, e the width of a head.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.draws import random_bits
from cmath_jax.models.layers import Context, Dense, Dropout, aligned, drop, product, visible

MASKED = -1e30  # a score that softmax turns into exactly 0 in float32 and in bfloat16, and yet is finite
DENSE_SLOTS = 512  # attention over rows longer than this goes by chunks
CHUNK_SCORES = 2**24  # attention weights of a chunk


class Attention(nn.Module):
    """Multi-head scaled dot-product attention inside each conversation (eqs 9, 11; Vaswani et al. 2017).

    Of every sequence c that asks to every sequence x that answers, each pair with parameters of its own:
    [c, r, l, d], [x, r, l, d] -> [c, x, r, l, d]. Where an utterance sees nobody who has x (`Context.heard_mrl`) the
    result means nothing, and the caller leaves it out.

    Queries, keys and values are projected without bias: a bias of the keys cannot change a softmax, and one of the
    values is the same thing as the bias of the output. The kernel of the queries is [c, d, x, d], those of keys and
    values are [x, d, c, d]: a sequence is projected for all its partners in one product.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, asking_crld: jax.Array, answering_xrld: jax.Array, context: Context) -> jax.Array:
        asking, rows, slots, width = asking_crld.shape
        answering = len(answering_xrld)

        def project(name: str, x: jax.Array, partners: int) -> jax.Array:
            y = Dense((partners, width), (len(x),), use_bias=False, dtype=self.dtype, name=name)(x)
            return y.reshape(*x.shape[:-1], partners, self.heads, width // self.heads)

        query_cxrhqe = project("query", asking_crld, answering).transpose(0, 3, 1, 4, 2, 5)
        key_cxrhke = project("key", answering_xrld, asking).transpose(3, 0, 1, 4, 2, 5)
        value_cxrhke = project("value", answering_xrld, asking).transpose(3, 0, 1, 4, 2, 5)
        query_cxrhqe /= math.sqrt(width / self.heads)
        draw = self.make_rng("dropout") if context.drops else None
        attend = attend_in_chunks if slots > DENSE_SLOTS else attend_at_once
        mixed_cxrhqe = attend(query_cxrhqe, key_cxrhke, value_cxrhke, context, draw)
        mixed_cxrld = mixed_cxrhqe.swapaxes(3, 4).reshape(asking, answering, rows, slots, width)
        output_cxrld = Dense((width,), (asking, answering), dtype=self.dtype, name="output")(mixed_cxrld)
        return Dropout()(output_cxrld, context)


def attend_at_once(
    query_cxrhqe: jax.Array, key_cxrhke: jax.Array, value_cxrhke: jax.Array, context: Context, draw: jax.Array | None
) -> jax.Array:
    """What each query hears, [c, x, r, h, q, e]: a mean of the values, weighted by a softmax, dropped out by `draw`."""
    return _attend(query_cxrhqe, context, key_cxrhke, value_cxrhke, context, draw)


def attend_in_chunks(
    query_cxrhqe: jax.Array, key_cxrhke: jax.Array, value_cxrhke: jax.Array, context: Context, draw: jax.Array | None
) -> jax.Array:
    """The same numbers from chunks of queries, one after the other: memory grows with the slots, not with their square.

    Nothing of a chunk is kept for the gradient, which computes it again.
    """
    asking, answering, rows, heads, slots, _ = query_cxrhqe.shape
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
        return _attend(query, asking, key_cxrhke, value_cxrhke, context, draw)

    columns = (context.segment_rl, context.utterance_rl, context.position_rl)
    parts = (split(query_cxrhqe, 4), *(split(column_rl, 1) for column_rl in columns))
    mixed = jnp.moveaxis(jax.lax.map(one, parts), 0, 4)
    return mixed.reshape(asking, answering, rows, heads, chunks * queries, -1)[..., :slots, :]


def _attend(
    query_cxrhqe: jax.Array,
    asking: Context,
    key_cxrhke: jax.Array,
    value_cxrhke: jax.Array,
    answering: Context,
    draw: jax.Array | None,
) -> jax.Array:
    batch = (0, 1, 2, 3)
    score_cxrhqk = jax.lax.dot_general(
        query_cxrhqe, key_cxrhke, (((5,), (5,)), (batch, batch)), preferred_element_type=jnp.float32
    )
    seen_cxrhqk = visible(asking, answering)[None, :, :, None]
    weight_cxrhqk = nn.softmax(jnp.where(seen_cxrhqk, score_cxrhqk, MASKED)).astype(value_cxrhke.dtype)
    if draw is not None:
        c, x, _, heads = query_cxrhqe.shape[:4]
        address = (
            asking.utterance_rl[:, None, :, None],
            jnp.arange(c * x * heads).reshape(c, x, 1, heads, 1, 1),
            answering.position_rl[:, None, None, :],
        )
        weight_cxrhqk = drop(weight_cxrhqk, random_bits(draw, *aligned(*address)), answering.dropout)
    return product(weight_cxrhqk, value_cxrhke)
