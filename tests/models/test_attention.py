"""Attention by chunks of queries: the numbers of attention at once, in memory that grows with the length of a row."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import KEYS, conversations, float32, init, make_model, pack

from cmath_jax.models import attention
from cmath_jax.models.attention import attend_at_once, attend_in_chunks
from cmath_jax.models.layers import Context


@pytest.mark.parametrize("queries", [1, 5, 12, 100])
def test_chunks_give_the_numbers_of_attention_at_once(queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, with dropout, of packed conversations; also where the chunks do not divide the row."""
    batch = pack(conversations((5, 1, 4, 7)), ((0, 2), (3, 1)), 12)
    context = Context.of(batch, "tav", dropout=0.3, train=True, causal=False)
    rng = np.random.default_rng(0)
    factors = [jnp.asarray(rng.normal(size=(2, 3, 2, 2, 12, 4)), jnp.float32) for _ in range(3)]
    upstream = jnp.asarray(rng.normal(size=(2, 3, 2, 2, 12, 4)), jnp.float32)
    monkeypatch.setattr(attention, "CHUNK_SCORES", queries * 2 * 3 * 2 * 2 * 12)

    @jax.jit
    def at_once(factors: Any) -> jax.Array:
        return attend_at_once(*factors, context, jax.random.key(3))

    @jax.jit
    def in_chunks(factors: Any) -> jax.Array:
        return attend_in_chunks(*factors, context, jax.random.key(3))

    (expected, pull), (chunked, pull_chunked) = jax.vjp(at_once, factors), jax.vjp(in_chunks, factors)
    np.testing.assert_allclose(chunked, expected, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(pull_chunked(upstream), pull(upstream), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_long_row_is_computed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole model, on both sides of the limit."""
    model = make_model(dropout=0.4)
    batch = pack(conversations((9, 3, 11)), ((0, 1, 2),), 24)
    params = init(model, batch)

    def of(params: Any) -> Any:
        outputs = model.apply({"params": params}, batch, train=True, rngs=KEYS)
        return jnp.square(outputs.logits_rlc).sum() + jnp.square(outputs.sample_rld).sum()

    expected = jax.jit(jax.value_and_grad(of))(float32(params))
    monkeypatch.setattr(attention, "DENSE_SLOTS", 23)
    monkeypatch.setattr(attention, "CHUNK_SCORES", 9 * 2 * 24 * 7)
    in_chunks = jax.jit(jax.value_and_grad(lambda params: of(params)))  # another function: the first is traced already
    assert "scan" in str(in_chunks.trace(params).jaxpr)
    chex.assert_trees_all_close(in_chunks(float32(params)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_memory_grows_with_the_length_and_not_with_its_square() -> None:
    """What the gradient of the whole model needs for one conversation, by the compiler's own account."""
    model = make_model(width=20, heads=2, dropout=0.2)

    def megabytes(length: int) -> float:
        batch = pack(conversations((length,)), ((0,),), length)
        params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))

        def loss_of(params: Any, batch: Any) -> jax.Array:
            return jnp.square(model.apply(params, batch, train=True, rngs=KEYS).logits_rlc).sum()

        analysis = jax.jit(jax.grad(loss_of)).lower(params, batch).compile().memory_analysis()
        return analysis.temp_size_in_bytes / 1e6

    chunk = 4 * attention.CHUNK_SCORES / 1e6
    small, large = megabytes(16384), megabytes(32768)
    assert small < 20 * chunk
    assert large < 2.1 * small
