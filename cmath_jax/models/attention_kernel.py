"""Attention of long rows as kernels of a TPU, by Pallas: no weight ever leaves the core that computes it.

The kernels go over blocks of queries and of keys, and keep the highest score and the sum of each query so far (Milakov
and Gimelshein 2018; Dao et al. 2022, "FlashAttention"). The gradient computes the weights again, from the logarithm of
that sum. Who is visible to whom and what is dropped out is computed from integers, block by block.

Shapes as in `models.attention`; x is an axis of length 1. In a kernel q and k are the slots of one block. What is known
of a slot is a line [1, k] beside scores that have it as their last axis, and else a column [q, LANES] of equal lanes.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from cmath_jax.models.draws import advance, random_bits, start
from cmath_jax.models.layers import Context, accurate, aligned

UNSEEN = -1e30  # a score whose exponential is 0 ...
LOWEST = -5e29  # ... also where a query sees nobody, whose highest score stays at this
BLOCK = 512  # slots of a block, at most
LANES = 128  # of a vector of a TPU
ROW_NUMBERS = 2**20  # float32 numbers that the gradient of the queries of a row and a head may keep in the core: 4 MiB

# The last two axes of the grid go over blocks of slots, one after the other.
_ORDER = pltpu.CompilerParams(dimension_semantics=("parallel",) * 4 + ("arbitrary",) * 2)


class SlotFacts(NamedTuple):
    """The integers from which a kernel computes who is visible, and what is dropped out.

    Attributes:
      segment_rxq: int32, of the query.
      heard_mrxk: int32, the segment of a key that has the modality, or -1; m is of length 1 where nothing is missing.
      position_rxq: int32, of the query.
      position_rxk: int32, of the key.
      busy_mrqk: int32, by blocks: whether any of these queries can see any of these keys.
      bits_mmrhxq: uint32, random bits of a query in a head; None without dropout, as what follows.
      salt_xx: uint32 [1, 1], of the random bits.
      least_xx: uint32 [1, 1], the least bits that keep a weight.
    """

    segment_rxq: Any
    heard_mrxk: Any
    position_rxq: Any
    position_rxk: Any
    busy_mrqk: Any
    bits_mmrhxq: Any = None
    salt_xx: Any = None
    least_xx: Any = None


class KernelForm(NamedTuple):
    """The properties of a kernel that are known when it is traced.

    Attributes:
      block: slots of a block.
      causal: see `Context`.
      interpret: True computes the same on any device, slowly.
    """

    block: int
    causal: bool
    interpret: bool


def fits_kernel(slots: int, width: int) -> bool:
    """Whether a row of so many slots, with heads of that width, fits into the memory that a core has."""
    return slots * width <= ROW_NUMBERS


def attend_in_kernel(
    query_mmrhqw: jax.Array,
    key_mmrhkw: jax.Array,
    value_mmrhkw: jax.Array,
    context: Context,
    rng_key: jax.Array | None,
    interpret: bool = False,
) -> jax.Array:
    """Averages the values as `attend_at_once` does; 0 where a query sees nobody."""
    slots = query_mmrhqw.shape[4]
    blocks = -(-slots // BLOCK)
    block = -(-slots // (blocks * LANES)) * LANES
    form = KernelForm(block, context.causal, interpret)
    beyond = blocks * block - slots
    if rng_key is not None:
        value_mmrhkw = value_mmrhkw / jnp.asarray(1.0 - context.dropout, value_mmrhkw.dtype)
    facts = _facts(context, query_mmrhqw.shape[:4], rng_key, beyond, form)
    padded = (jnp.pad(x, [(0, 0)] * 4 + [(0, beyond), (0, 0)]) for x in (query_mmrhqw, key_mmrhkw, value_mmrhkw))
    return _attend(form, facts, *padded)[..., :slots, :]


def _facts(
    context: Context, lead: tuple[int, ...], rng_key: jax.Array | None, beyond: int, form: KernelForm
) -> SlotFacts:
    def padded(x: jax.Array, value: int) -> jax.Array:
        return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, beyond)], constant_values=value)[..., None, :]

    heard_mrk = context.segment_rl[None]
    if context.present_mrl is not None:
        heard_mrk = jnp.where(context.present_mrl, heard_mrk, -1)
    segment_rxq, heard_mrxk = padded(context.segment_rl, -2), padded(heard_mrk, -1)
    position_rxl = padded(context.position_rl, 0)

    def ends(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        by_block = x.reshape(*x.shape[:-2], -1, form.block)
        return by_block.min(-1), by_block.max(-1)

    first_rq, last_rq = ends(segment_rxq)
    first_mrk, last_mrk = ends(heard_mrxk)
    busy_mrqk = first_mrk[..., None, :] <= last_rq[None, ..., None]
    busy_mrqk &= last_mrk[..., None, :] >= first_rq[None, ..., None]
    if form.causal:
        earliest_rl, latest_rl = ends(position_rxl)
        busy_mrqk &= (latest_rl[:, :, None] >= earliest_rl[:, None, :])[None]
    facts = SlotFacts(segment_rxq, heard_mrxk, position_rxl, position_rxl, busy_mrqk.astype(jnp.int32))
    if rng_key is None:
        return facts
    asking, answering, _, heads = lead
    head_mmrhx = jnp.arange(asking * answering * heads).reshape(asking, answering, 1, heads, 1)
    bits_mmrhq = random_bits(rng_key, *aligned(context.utterance_rl[:, None, :], head_mmrhx))
    least = (jnp.float32(context.dropout) * 2.0**32).astype(jnp.uint32)
    return facts._replace(
        bits_mmrhxq=padded(bits_mmrhq, 0), salt_xx=start(rng_key)[1].reshape(1, 1), least_xx=least.reshape(1, 1)
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form: KernelForm, facts: SlotFacts, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    return _forward(form, facts, query, key, value)[0]


def _forward(
    form: KernelForm, facts: SlotFacts, query: jax.Array, key: jax.Array, value: jax.Array
) -> tuple[jax.Array, Any]:
    *lead, slots, width = query.shape
    exact = jnp.promote_types(query.dtype, jnp.float32)
    of_queries, of_keys = (_slots(form, width, axis) for axis in (4, 5))
    mixed, log_sum = pl.pallas_call(
        partial(_forward_kernel, form),
        grid=(*lead, slots // form.block, slots // form.block),
        in_specs=[_specs(facts, form, 4, 5), of_queries, of_keys, of_keys],
        out_specs=[of_queries, _line(form, 4)],
        out_shape=[
            jax.ShapeDtypeStruct(query.shape, value.dtype),
            jax.ShapeDtypeStruct((*lead, 1, slots), exact),
        ],
        scratch_shapes=[
            pltpu.VMEM((3, form.block, LANES), jnp.int32),
            pltpu.VMEM((2, form.block, LANES), exact),
            pltpu.VMEM((form.block, width), exact),
        ],
        compiler_params=_ORDER,
        interpret=form.interpret,
        name="attention",
    )(facts, query, key, value)
    return mixed, (facts, query, key, value, mixed, log_sum)


def _backward(form: KernelForm, kept: Any, upstream: jax.Array) -> tuple[None, jax.Array, jax.Array, jax.Array]:
    facts, query, key, value, mixed, log_sum = kept
    *lead, slots, width = query.shape
    blocks, exact = slots // form.block, log_sum.dtype
    share = (upstream.astype(exact) * mixed.astype(exact)).sum(-1)[..., None, :]
    of_keys, of_queries = (_slots(form, width, axis) for axis in (4, 5))
    line = _line(form, 5)
    to_query, to_key, to_value = pl.pallas_call(
        partial(_backward_kernel, form),
        grid=(*lead, blocks, blocks),
        in_specs=[_specs(facts, form, 5, 4), of_queries, of_keys, of_keys, of_queries, line, line],
        out_specs=[
            # Of a whole row, and so not twice: the next head waits until it has been copied.
            pl.BlockSpec(
                (*[None] * 4, blocks, width, form.block), lambda *at: (*at[:4], 0, 0, 0), pipeline_mode=pl.Buffered(1)
            ),
            of_keys,
            of_keys,
        ],
        out_shape=[
            jax.ShapeDtypeStruct((*lead, blocks, width, form.block), exact),
            jax.ShapeDtypeStruct(key.shape, key.dtype),
            jax.ShapeDtypeStruct(value.shape, value.dtype),
        ],
        scratch_shapes=[
            pltpu.VMEM((2, form.block, LANES), jnp.int32),
            pltpu.VMEM((width, form.block), key.dtype),
            pltpu.VMEM((2, form.block, width), exact),
        ],
        compiler_params=_ORDER,
        interpret=form.interpret,
        name="attention_gradient",
    )(facts, query, key, value, upstream, log_sum, share)
    return None, to_query.swapaxes(-1, -2).reshape(query.shape).astype(query.dtype), to_key, to_value


_attend.defvjp(_forward, _backward)


def _slots(form: KernelForm, width: int, axis: int) -> pl.BlockSpec:
    """Returns the block of [m, m, r, h, l, w] whose number is an axis of the grid."""
    return pl.BlockSpec((*[None] * 4, form.block, width), lambda *at: (*at[:4], at[axis], 0))


def _line(form: KernelForm, axis: int) -> pl.BlockSpec:
    """Returns the block of [m, m, r, h, 1, l] whose number is an axis of the grid."""
    return pl.BlockSpec((*[None] * 4, 1, form.block), lambda *at: (*at[:4], 0, at[axis]))


def _specs(facts: SlotFacts, form: KernelForm, queries: int, keys: int) -> SlotFacts:
    """Returns the blocks of the facts, where queries and keys are these axes of the grid."""
    several = len(facts.heard_mrxk) > 1

    def row(axis: int) -> pl.BlockSpec:
        return pl.BlockSpec((None, 1, form.block), lambda *at: (at[2], 0, at[axis]))

    def modality(*at: Any) -> tuple[Any, Any]:
        return at[1] if several else 0, at[2]

    heard = pl.BlockSpec((None, None, 1, form.block), lambda *at: (*modality(*at), 0, at[keys]))
    busy = pl.BlockSpec(
        (None, None, *facts.busy_mrqk.shape[2:]), lambda *at: (*modality(*at), 0, 0), memory_space=pltpu.SMEM
    )
    specs = SlotFacts(row(queries), heard, row(queries), row(keys), busy)
    if facts.bits_mmrhxq is None:
        return specs
    number = pl.BlockSpec((1, 1), lambda *at: (0, 0), memory_space=pltpu.SMEM)
    return specs._replace(bits_mmrhxq=_line(form, queries), salt_xx=number, least_xx=number)


def _forward_kernel(
    form: KernelForm,
    facts: SlotFacts,
    query: Any,
    key: Any,
    value: Any,
    mixed: Any,
    log_sum: Any,
    known: Any,
    sums: Any,
    total: Any,
) -> None:
    """Averages the values of all blocks of keys, one after the other, for one block of queries."""
    i, j = pl.program_id(4), pl.program_id(5)

    @pl.when(j == 0)
    def begin() -> None:
        known[0] = _column(facts.segment_rxq[...])
        known[1] = _column(facts.position_rxq[...])
        if facts.bits_mmrhxq is not None:
            known[2] = _column(facts.bits_mmrhxq[...].astype(jnp.int32))
        sums[0] = jnp.full_like(sums[0], LOWEST)
        sums[1] = jnp.zeros_like(sums[1])
        total[...] = jnp.zeros_like(total)

    @pl.when(facts.busy_mrqk[i, j] != 0)
    def add() -> None:
        score_qk = _product(query[...], key[...], 1, 1)
        position_qk, position_xk = _wide(known[1], form), facts.position_rxk[...]
        seen_qk = _wide(known[0], form) == facts.heard_mrxk[...]
        if form.causal:
            seen_qk &= position_qk >= position_xk
        score_qk = jnp.where(seen_qk, score_qk, UNSEEN)
        highest = jnp.maximum(sums[0], score_qk.max(1, keepdims=True))
        power_qk = jnp.exp(score_qk - _wide(highest, form))
        less = jnp.exp(sums[0] - highest)
        sums[0] = highest
        sums[1] = less * sums[1] + power_qk.sum(1, keepdims=True)
        if facts.bits_mmrhxq is not None:
            power_qk = _kept(facts, power_qk, _wide(known[2], form).astype(jnp.uint32), position_xk)
        total[...] = less[:, :1] * total[...] + _product(power_qk.astype(value.dtype), value[...], 1, 0)

    @pl.when(j == pl.num_programs(5) - 1)
    def end() -> None:
        sum_q = jnp.where(sums[1] > 0, sums[1], 1.0)
        mixed[...] = (total[...] / sum_q[:, :1]).astype(mixed.dtype)
        log_sum[...] = (sums[0] + jnp.log(sum_q)).T[:1]


def _backward_kernel(
    form: KernelForm,
    facts: SlotFacts,
    query: Any,
    key: Any,
    value: Any,
    upstream: Any,
    log_sum: Any,
    share: Any,
    to_query: Any,
    to_key: Any,
    to_value: Any,
    known: Any,
    turned: Any,
    sums: Any,
) -> None:
    """Adds up the gradients of one block of keys over all blocks of queries, and their parts of those of the queries.

    The scores are [k, q] here.
    """
    j, i = pl.program_id(4), pl.program_id(5)

    @pl.when((i == 0) & (j == 0))
    def begin_queries() -> None:
        to_query[...] = jnp.zeros_like(to_query)

    @pl.when(i == 0)
    def begin() -> None:
        known[0] = _column(facts.heard_mrxk[...])
        known[1] = _column(facts.position_rxk[...])
        turned[...] = key[...].astype(jnp.float32).T.astype(turned.dtype)
        sums[...] = jnp.zeros_like(sums)

    @pl.when(facts.busy_mrqk[i, j] != 0)
    def add() -> None:
        score_kq = _product(key[...], query[...], 1, 1)
        position_kq = _wide(known[1], form)
        seen_kq = _wide(known[0], form) == facts.segment_rxq[...]
        if form.causal:
            seen_kq &= facts.position_rxq[...] >= position_kq
        weight_kq = jnp.exp(jnp.where(seen_kq, score_kq, UNSEEN) - log_sum[...])
        to_weight_kq = _product(value[...], upstream[...], 1, 1)
        kept_kq = weight_kq
        if facts.bits_mmrhxq is not None:
            kept_kq, to_weight_kq = _kept(facts, (weight_kq, to_weight_kq), facts.bits_mmrhxq[...], position_kq)
        to_score_kq = (weight_kq * (to_weight_kq - share[...])).astype(key.dtype)
        sums[0] += _product(to_score_kq, query[...], 1, 0)
        sums[1] += _product(kept_kq.astype(value.dtype), upstream[...], 1, 0)
        to_query[i] += _product(turned[...], to_score_kq, 1, 0)

    @pl.when(i == pl.num_programs(5) - 1)
    def end() -> None:
        to_key[...] = sums[0].astype(to_key.dtype)
        to_value[...] = sums[1].astype(to_value.dtype)


def _product(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int) -> jax.Array:
    """Multiplies two matrices over these axes, and adds up in float32 at least."""
    exact = accurate(x[:0]).dtype
    product: jax.Array = jax.lax.dot_general(x, y, (((x_axis,), (y_axis,)), ((), ())), preferred_element_type=exact)
    return product


def _kept(facts: SlotFacts, x: Any, bits: jax.Array, position: jax.Array) -> Any:
    """Drops what `layers.drop` drops, without dividing what is kept."""
    kept = advance(bits, facts.salt_xx[0, 0], position) >= facts.least_xx[0, 0]
    return jax.tree.map(lambda each: jnp.where(kept, each, 0.0), x)


def _column(x_xl: jax.Array) -> jax.Array:
    """Returns a line as a column."""
    return jnp.broadcast_to(x_xl, (LANES, x_xl.shape[1])).T


def _wide(column: jax.Array, form: KernelForm) -> jax.Array:
    """Returns a column as wide as a block."""
    return jnp.concatenate([column] * (form.block // LANES), axis=1)
