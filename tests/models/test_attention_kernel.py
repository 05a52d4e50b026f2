"""The kernel of long rows, interpreted: the numbers of attention at once, in values and gradients."""

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from samples import KEYS, conversations, init, make_model, pack

from cmath_jax.models import attention, attention_kernel
from cmath_jax.models.attention import attend_at_once
from cmath_jax.models.attention_kernel import attend_in_kernel, fits_kernel
from cmath_jax.models.layers import Context
from cmath_jax.training.devices import ROWS, TRIALS, Devices

interpreted = partial(attend_in_kernel, interpret=True)
HEADS, WIDTH = 2, 8
ROWS_OF = {  # slots -> the lengths of the conversations of two rows; blocks are of 128 slots here
    128: ((100, 28), (128,)),
    200: ((50, 40, 100), (170,)),
    300: ((120, 170), (300,)),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_kernel, "BLOCK", 128)


def context_of(slots: int, causal: bool = False, missing: bool = False, dropout: Any = 0.3) -> Context:
    lengths = [n for row in ROWS_OF[slots] for n in row]
    first = len(ROWS_OF[slots][0])
    batch = pack(conversations(lengths), (range(first), range(first, len(lengths))), slots)
    context = Context.of(batch, "tav", dropout=dropout, train=True, causal=causal)
    if not missing:
        return context
    present_mrl = np.random.default_rng(1).random((3, 2, slots)) < 0.6
    present_mrl[0, 0, :60] = False  # of the first conversation of the first row the first modality, or much of it
    return replace(context, present_mrl=jnp.asarray(present_mrl))


def factors_of(slots: int, dtype: Any = jnp.float32, seed: int = 0) -> list[jax.Array]:
    """Queries, keys, values, and the gradient of what comes out."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=(2, 3, 2, HEADS, slots, WIDTH)), dtype) for _ in range(4)]


def heard(context: Context) -> jax.Array:
    """Whether a query hears anybody, [1, m or 1, r, 1, q, 1]; where not, the result means nothing."""
    if context.present_mrl is None:
        return jnp.ones((1,) * 6, bool)
    return context.heard_mrl[None, :, :, None, :, None]


def both(context: Context, factors: list[jax.Array], rng_key: jax.Array | None) -> list[Any]:
    """Values and gradients of attention at once, and of the kernel."""

    def of(attend: Any) -> Any:
        def attended(*factors: jax.Array) -> jax.Array:
            mixed = attend(*factors, context, rng_key)
            return jnp.where(heard(context), mixed, jnp.zeros((), mixed.dtype))

        mixed, pull = jax.vjp(jax.jit(attended), *factors[:3])
        return mixed, pull(factors[3])

    return [of(attend_at_once), of(interpreted)]


PAIRS = {  # slots, causal, missing, rng_key: any two of their values meet in one of these
    *((128, False, False, None), (200, False, True, 3), (300, False, False, 3)),
    *((128, True, True, 3), (200, True, False, None), (300, True, True, None)),
}


@pytest.mark.parametrize(
    ("slots", "causal", "missing", "rng_key"),
    [
        pytest.param(*case, marks=() if case in PAIRS else pytest.mark.slow)
        for case in itertools.product(ROWS_OF, [False, True], [False, True], [None, 3])
    ],
)
def test_the_kernel_gives_the_numbers_of_attention_at_once(
    slots: int, causal: bool, missing: bool, rng_key: int | None
) -> None:
    """Packed conversations, of one block or several, also where blocks do not divide the row."""
    key = None if rng_key is None else jax.random.key(rng_key)
    expected, got = both(context_of(slots, causal, missing), factors_of(slots), key)
    chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_in_bfloat16_values_and_gradients_are_off_by_no_more_than_its_rounding() -> None:
    context, rounded = context_of(300, missing=True), factors_of(300, jnp.bfloat16)
    exact, _ = both(context, [x.astype(jnp.float32) for x in rounded], jax.random.key(3))

    def errors(result: Any) -> list[float]:
        far = jax.tree.map(lambda x, y: jnp.linalg.norm(x.astype(jnp.float32) - y) / jnp.linalg.norm(y), result, exact)
        return [float(x) for x in jax.tree.leaves(far)]

    for result in both(context, rounded, jax.random.key(3)):
        assert max(errors(result)) < 2.0**-7


@pytest.mark.parametrize("dropout", [0.0, 0.3, 0.9])
def test_the_very_same_weights_are_dropped(dropout: float) -> None:
    """Forward and backward: of one-hot values come the weights out, and of a one-hot gradient those of the values."""
    context, slots = context_of(200, dropout=jnp.float32(dropout)), 200
    one_hot = jnp.broadcast_to(jnp.eye(slots), (2, 3, 2, HEADS, slots, slots))
    zeros = jnp.zeros_like(one_hot)
    (expected, back), (got, kernel_back) = both(context, [zeros, zeros, one_hot, one_hot], jax.random.key(7))
    np.testing.assert_array_equal(got == 0, expected == 0)
    np.testing.assert_array_equal(kernel_back[2] == 0, back[2] == 0)
    np.testing.assert_allclose(kernel_back[2], got.swapaxes(-1, -2), rtol=1e-6)
    seen = context.segment_rl[:, :, None] == context.segment_rl[:, None, :]
    dropped = (got == 0)[:, :, seen[:, None].repeat(HEADS, 1)].mean()
    assert abs(dropped - dropout) < 0.01


def test_a_query_that_hears_nobody_gets_nothing_and_gives_no_gradient() -> None:
    context = replace(context_of(200), present_mrl=jnp.zeros((3, 2, 200), bool))
    *factors, upstream = factors_of(200)
    mixed, pull = jax.vjp(lambda *x: interpreted(*x, context, jax.random.key(0)), *factors)
    chex.assert_trees_all_equal((mixed, pull(upstream)), jax.tree.map(jnp.zeros_like, (mixed, tuple(factors))))


def trials_step(attend: Any) -> Any:
    """A step of one trial: values and gradients, with the dropout and the rng key of the trial."""

    def step(factors: list[jax.Array], dropout: jax.Array, seed: jax.Array, context: Context) -> tuple[jax.Array, Any]:
        context = replace(context, dropout=dropout)
        mixed, pull = jax.vjp(lambda *x: attend(*x, context, jax.random.key(seed)), *factors[:3])
        return mixed, pull(factors[3])

    return step


def test_trials_side_by_side_have_the_numbers_of_each() -> None:
    trials = [factors_of(200, seed=seed) for seed in range(3)]
    factors = jax.tree.map(lambda *x: jnp.stack(x), *trials)
    dropout, seed, context = jnp.array([0.1, 0.5, 0.0]), jnp.arange(3), context_of(200)
    got = jax.jit(jax.vmap(trials_step(interpreted), in_axes=(0, 0, 0, None)))(factors, dropout, seed, context)
    for i, own in enumerate(trials):
        expected = trials_step(attend_at_once)(own, dropout[i], seed[i], context)
        chex.assert_trees_all_close(jax.tree.map(lambda x, i=i: x[i], got), expected, rtol=1e-4, atol=2e-5)


def test_devices_that_share_the_rows_exchange_nothing() -> None:
    """The kernel on the mesh of training: the rows of a batch on two devices, and nothing is gathered."""
    context, factors = context_of(200), factors_of(200)
    trial, facts = P(TRIALS), P(ROWS)
    devices = Devices(tuple(jax.devices()[:2]), rows=2, trials=1)

    def of(factors: Any, dropout: jax.Array, columns: Any) -> Any:
        utterance_rl, position_rl, segment_rl = columns
        share = Context(utterance_rl, position_rl, segment_rl, None, dropout, True, False)
        return trials_step(interpreted)(factors, dropout, jnp.int32(5), share)

    given = (P(TRIALS, None, None, ROWS), trial, facts)
    compiled = devices.compile(of, given, P(TRIALS, None, None, ROWS))
    arguments = (
        [devices.put(np.asarray(x)[None], given[0]) for x in factors],
        devices.put(np.float32([0.3]), trial),
        [devices.put(np.asarray(x), facts) for x in (context.utterance_rl, context.position_rl, context.segment_rl)],
    )
    program = compiled._function.lower(*arguments).compile()
    text = program.as_text()
    assert not [word for word in ("all-gather", "all-to-all", "all-reduce", "collective-permute") if word in text]
    got = jax.tree.map(lambda x: np.asarray(x)[0], program(*arguments))
    expected = trials_step(attend_at_once)(factors, jnp.float32(0.3), jnp.int32(5), context)
    chex.assert_trees_all_close(got, expected, rtol=1e-4, atol=2e-5)


def test_the_model_takes_the_kernel_on_a_tpu_and_chunks_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform is the one that a program is lowered for: this process has none of TPUs."""
    model = make_model(dropout=0.2)
    batch = pack(conversations((140, 60)), ((0, 1),), 200)
    params = init(model, batch)
    monkeypatch.setattr(attention, "DENSE_SLOTS", 199)

    @jax.jit
    def gradient(params: Any) -> Any:
        return jax.grad(
            lambda p: jnp.square(model.apply({"params": p}, batch, train=True, rngs=KEYS).logits_rlc).sum()
        )(params)

    traced = gradient.trace(params)
    for platform, kernels in {"cpu": 0, "cuda": 0, "tpu": 2}.items():
        assert traced.lower(lowering_platforms=(platform,)).as_text().count("@tpu_custom_call") == kernels
    expected = gradient(params)
    monkeypatch.setattr(attention, "attend_in_long_rows", interpreted)
    chex.assert_trees_all_close(jax.jit(gradient.__wrapped__)(params), expected, rtol=1e-3, atol=1e-4)


def test_rows_that_no_core_can_hold_go_by_chunks() -> None:
    assert fits_kernel(8192, 128) and fits_kernel(26_000, 40) and not fits_kernel(27_000, 40)
