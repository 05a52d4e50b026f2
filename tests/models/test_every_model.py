"""The invariants that hold for every model, whatever its equations."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_model import SMALL, each_model, random_params, small_model
from samples import CLASSES, conversations, losses_of, outputs_of, pack, unpack

from cmath_jax.config import Config, LossConfig, override
from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import Conversation
from cmath_jax.errors import InputError
from cmath_jax.models.options import MODELS

LENGTHS = (5, 1, 4, 7)
ROWS = ((0, 2), (3, 1), ())  # several conversations to a row, one of a single utterance, an empty row
SUBSETS = ["t", "v", "ta", "av", "tav", *(pytest.param(subset, marks=pytest.mark.slow) for subset in ("a", "tv"))]
SPEAKERS = 9
LOSS = LossConfig(gamma1=1.0, gamma2=1.0)


def talks_of(lengths: tuple[int, ...] = LENGTHS) -> list[Conversation]:
    """Returns conversations whose speakers are any of nine."""
    rng = np.random.default_rng(5)
    talks = conversations(lengths)
    return [
        Conversation(c.id, c.features, rng.integers(SPEAKERS, size=len(c)).astype(np.int32), c.labels) for c in talks
    ]


def test_every_model_is_tested() -> None:
    assert set(SMALL) == set(MODELS)


@each_model
@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
def test_neighbours_and_padding_change_nothing(name: str, train: bool) -> None:
    """In any row, at any place, beside any others: even what is dropped is the same for a conversation."""
    talks, model = talks_of(), small_model(name, dropout=0.4 if train else 0.0)
    layouts = [(((0,), (1,), (2,), (3,)), 7), (((3, 0), (2, 1)), 12), (((), (1, 2, 0, 3)), 21)]
    batches = [pack(talks, rows, slots) for rows, slots in layouts]
    params = random_params(model, batches[0])
    results = []
    for batch in batches:
        outputs = outputs_of(model, params, batch, train)
        told = (outputs.logits_rlc, outputs.mean_rld, outputs.sample_rld)
        told += (*outputs.modality_logits.values(), *outputs.augmented.values())
        results.append([unpack(x, batch) for x in told])
    assert np.isfinite(results[0][0]).all()
    for other in results[1:]:
        chex.assert_trees_all_close(results[0], other, rtol=1e-5, atol=1e-5)


@each_model
def test_a_conversation_of_300_utterances_is_the_same_beside_others(name: str) -> None:
    talks, model = talks_of((300, 9)), small_model(name)
    alone, beside = pack(talks[:1], ((0,),), 300), pack(talks, ((1, 0),), 320)
    params = random_params(model, alone)
    expected = unpack(outputs_of(model, params, alone).logits_rlc, alone)
    assert np.isfinite(expected).all()
    found = unpack(outputs_of(model, params, beside).logits_rlc, beside)[:300]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@each_model
@pytest.mark.parametrize("modalities", SUBSETS)
def test_every_parameter_has_a_gradient(name: str, modalities: str) -> None:
    talks, model = talks_of(), small_model(name, modalities)
    batch = pack(talks, ROWS, 12, modalities)

    @jax.jit
    @jax.grad
    def gradient_of(params: Any) -> jax.Array:
        rngs = {"dropout": jax.random.key(1), "noise": jax.random.key(2)}
        return losses_of(model.apply({"params": params}, batch, train=True, rngs=rngs), batch, LOSS)["total"]

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradient_of(random_params(model, batch))):
        assert float(jnp.abs(gradient).max()) > 1e-7, f"{jax.tree_util.keystr(path)} is dead"


@each_model
@pytest.mark.parametrize("left_out", ["t", "a", "v"])
def test_a_modality_that_is_left_out_has_no_influence(name: str, left_out: str) -> None:
    model = small_model(name, "tav".replace(left_out, ""))
    batch = pack(talks_of(), ROWS, 12)  # holds all three
    params = random_params(model, batch)
    assert not [name for name in params if left_out in name.split("_")]
    # NaN would spread if the modality were touched at all.
    poisoned = batch.replace(features={**batch.features, left_out: batch.features[left_out] * np.nan})
    chex.assert_trees_all_equal(outputs_of(model, params, batch), outputs_of(model, params, poisoned))


def with_gaps(talks: list[Conversation]) -> list[Conversation]:
    """Returns conversations of which some utterances lack modalities, one lacks all, and one has no text at all."""
    missing: list[Conversation] = []
    for b, talk in enumerate(talks):
        features = {m: x_nd.copy() for m, x_nd in talk.features.items()}
        features["v"][:1] = np.nan
        features["a"][-1:] = np.nan
        if b == 2:
            features["t"][:] = np.nan
        if b == 3:
            for x_nd in features.values():
                x_nd[2] = np.nan
        missing.append(Conversation(talk.id, features, talk.speakers, talk.labels))
    return missing


@each_model
def test_conversations_with_gaps_are_the_same_anywhere(name: str) -> None:
    talks, model = with_gaps(talks_of()), small_model(name)
    batches = [pack(talks, ((0,), (1,), (2,), (3,)), 7), pack(talks, ((1, 2), (0, 3)), 14)]
    params = random_params(model, batches[0])
    found = [unpack(outputs_of(model, params, batch).logits_rlc, batch) for batch in batches]
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-5)


@each_model
def test_the_gradient_is_finite_where_modalities_are_missing(name: str) -> None:
    talks, model = with_gaps(talks_of()), small_model(name)
    batch = pack(talks, ROWS, 12)

    @jax.jit
    @jax.grad
    def gradient_of(params: Any) -> jax.Array:
        rngs = {"dropout": jax.random.key(1), "noise": jax.random.key(2)}
        return losses_of(model.apply({"params": params}, batch, train=True, rngs=rngs), batch, LOSS)["total"]

    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(gradient_of(random_params(model, batch))))


@each_model
def test_a_traced_dropout_is_the_same_dropout(name: str) -> None:
    batch = pack(talks_of(), ROWS, 12)
    params = random_params(small_model(name), batch)
    rngs = {"dropout": jax.random.key(1), "noise": jax.random.key(2)}

    @jax.jit
    def traced(rate: jax.Array) -> jax.Array:
        # The rate of the call counts, and not that of the model.
        model = small_model(name, dropout=0.9)
        return model.apply({"params": params}, batch, train=True, dropout=rate, rngs=rngs).logits_rlc

    none, some = (
        unpack(outputs_of(small_model(name, dropout=x), params, batch, True).logits_rlc, batch) for x in (0.0, 0.3)
    )
    np.testing.assert_allclose(unpack(traced(jnp.float32(0.0)), batch), none, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(unpack(traced(jnp.float32(0.3)), batch), some, rtol=1e-4, atol=1e-5)
    assert not np.allclose(none, some)
    if name == "adaign":
        return  # its policies draw in training
    # The mean, before noise, is in training without dropout what it is in evaluation at any rate.
    means = [
        outputs_of(small_model(name, dropout=rate), params, batch, train).mean_rld
        for rate, train in ((0.0, True), (0.3, False))
    ]
    np.testing.assert_array_equal(*(unpack(mean_rld, batch) for mean_rld in means))


@each_model
def test_bfloat16_computes_near_and_returns_float32(name: str) -> None:
    batch = pack(talks_of(), ROWS, 12)
    exact, coarse = small_model(name), small_model(name, precision="bfloat16")
    params = jax.jit(lambda: exact.init(jax.random.key(0), batch, train=False))()["params"]
    chex.assert_trees_all_equal_shapes_and_dtypes(
        params, jax.eval_shape(lambda: coarse.init(jax.random.key(0), batch, train=False))["params"]
    )
    expected, outputs = outputs_of(exact, params, batch), outputs_of(coarse, params, batch)
    for x in (outputs.logits_rlc, outputs.mean_rld, outputs.deviation_rld, *outputs.modality_logits.values()):
        assert x.dtype == jnp.float32
    for x in outputs.augmented.values():
        assert x.dtype == jnp.bfloat16
    assert outputs.logits_rlc.shape == (*batch.label_rl.shape, CLASSES)
    np.testing.assert_allclose(unpack(outputs.logits_rlc, batch), unpack(expected.logits_rlc, batch), atol=0.1)


@each_model
def test_the_classifier_reads_the_fused_representation(name: str) -> None:
    """Prediction draws through the layer of this name."""
    batch = pack(talks_of(), ROWS, 12)
    model = small_model(name)
    params = random_params(model, batch)
    outputs = outputs_of(model, params, batch)
    classifier = params["classifier"]
    logits_rlc = outputs.mean_rld @ classifier["kernel"] + classifier["bias"][None, None]
    np.testing.assert_allclose(outputs.logits_rlc, logits_rlc, rtol=1e-5, atol=1e-5)


def hears_the_future(model: Any, batch: Batch) -> bool:
    """Returns whether the last utterance of a conversation changes what is said of the first."""
    params = random_params(model, batch)
    changed = batch.replace(features={m: x_rld.at[:, -1].add(3.0) for m, x_rld in batch.features.items()})
    before, after = (outputs_of(model, params, each).logits_rlc[:, 0] for each in (batch, changed))
    return not np.allclose(before, after, rtol=1e-5, atol=1e-6)


@each_model
def test_it_is_causal_or_says_why_not(name: str) -> None:
    batch = pack(talks_of((6,)), ((0,),), 6)
    assert hears_the_future(small_model(name), batch) == MODELS[name]().hears_future
    if not MODELS[name].bidirectional:
        assert not hears_the_future(small_model(name, causal=True), batch)
        return
    with pytest.raises(InputError, match=r"^model\.causal=true is not for .* of it hears what comes after"):
        override(Config(), {"model.name": name, "model.causal": True})
