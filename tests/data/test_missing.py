"""Utterances and conversations that lack a modality: masked out of attention, gate, fusion and losses."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import (
    CLASSES,
    DIMS,
    HEADS,
    SPEAKERS,
    WIDTH,
    conversations,
    float32,
    init,
    make_model,
    outputs_of,
    pack,
    rows,
    tiny,
    unpack,
)

from cmath_jax.data.batches import Batch, Table
from cmath_jax.data.corpus import Conversation, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.moments import Moments
from cmath_jax.data.packing import Shape
from cmath_jax.data.prepared.stored import lacks
from cmath_jax.data.sources.own import write_own
from cmath_jax.data.standardize import Standardizer
from cmath_jax.models.baselines.sdt import SDT
from cmath_jax.models.layers import Context, visible
from cmath_jax.models.outputs import Outputs
from cmath_jax.training.fit import fit
from cmath_jax.training.losses import LossWeights, loss_terms

LENGTHS, ROWS = (5, 1, 4, 7), ((0, 2), (3, 1))


def lacking(talk: Conversation, m: str, utterances: Sequence[int] | slice = slice(None)) -> Conversation:
    """The conversation without a modality in some utterances."""
    x_nd = talk.features[m].copy()
    x_nd[utterances] = np.nan
    return replace(talk, features={**talk.features, m: x_nd})


def with_gaps() -> list[Conversation]:
    """No video in conversation 0, no text in one utterance, nothing but text in another."""
    talks = conversations(LENGTHS)
    talks[0] = lacking(talks[0], "v")
    talks[2] = lacking(talks[2], "t", [1])
    talks[3] = lacking(lacking(talks[3], "a", [0, 4]), "v", [4, 6])
    return talks


def loss_weights(**options: float) -> LossWeights:
    values = {"gamma1": 0.7, "gamma2": 1.3, "reconstruction": 0.5, "stop_teacher": 1.0, "temperature": 1.0}
    numbers = {name: np.float32(value) for name, value in ({"focal": 0.0} | values | options).items()}
    return LossWeights(**numbers, class_weight_c=np.ones(CLASSES, np.float32))


def make_sdt(**options: Any) -> SDT:
    return SDT(**({"classes": CLASSES, "speakers": SPEAKERS, "width": WIDTH, "heads": HEADS, "dropout": 0.0} | options))


def test_a_row_of_nan_is_masked_and_zero_in_a_batch() -> None:
    talks = with_gaps()
    batch = Table.of(talks, "tav").batch(ROWS, Shape(2, 10))
    for m in "tav":
        x_nd = np.concatenate([talk.features[m] for talk in talks])
        np.testing.assert_array_equal(unpack(batch.present[m], batch), ~np.isnan(x_nd).any(1))
        np.testing.assert_array_equal(unpack(batch.features[m], batch), np.nan_to_num(x_nd))
        assert np.asarray(batch.present[m])[batch.segment_rl == 0].all()
    assert Table.of(conversations(LENGTHS), "tav").batch(ROWS, Shape(2, 10)).present == {}


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_model, make_sdt])
def test_a_mask_that_hides_nothing_changes_nothing(make: Any) -> None:
    batch = pack(conversations(LENGTHS), ROWS, 12)
    masked = jax.tree.map(jnp.asarray, Table.of(conversations(LENGTHS), "tav", masked=True).batch(ROWS, Shape(2, 12)))
    assert set(masked.present) == set("tav")
    model = make(dropout=0.3)
    params = init(model, batch)
    for train in (False, True):
        plain, other = (outputs_of(model, params, b, train) for b in (batch, masked))
        chex.assert_trees_all_close(plain, other, rtol=1e-5, atol=1e-6)
        for name, term in loss_terms(plain, batch, loss_weights()).items():
            np.testing.assert_allclose(term.value(), loss_terms(other, masked, loss_weights())[name].value(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["t", "a", "v"])
@pytest.mark.parametrize("inject", ["attention", "block", "nothing"])
def test_without_a_modality_the_model_is_that_of_the_others(missing: str, inject: str) -> None:
    """A corpus that lacks a modality: logits, fusion and gates of the model of two modalities, with its parameters."""
    talks = conversations(LENGTHS)
    batch = pack([lacking(talk, missing) for talk in talks], ROWS, 12)
    rest = "tav".replace(missing, "")
    whole, small = make_model(inject=inject), make_model(inject=inject, modalities=rest)
    params = float32(init(whole, batch))
    # Biases are zero at first, and would hide what goes through them.
    params = jax.tree.map(lambda x: x + 0.1 * jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape), params)
    stays = jnp.array(["tav".index(m) for m in rest])

    def part(path: Any, x: jax.Array) -> jax.Array:
        names = [key.key for key in path]
        if names[0] not in ("cma", "fusion", "classifiers"):
            return x
        x = x[stays]
        if "gate" in names or names[0] != "cma":
            return x
        return jnp.take(x, stays, 2 if {"query", "key", "value"} & {*names} else 1)

    own = {name: value for name, value in params.items() if not name.endswith(f"_{missing}")}
    expected = outputs_of(small, jax.tree_util.tree_map_with_path(part, own), pack(talks, ROWS, 12, rest))
    found = outputs_of(whole, params, batch)
    names = ("logits_rlc", "mean_rld", "deviation_rld")
    for name in names:
        np.testing.assert_allclose(
            unpack(getattr(found, name), batch), unpack(getattr(expected, name), batch), rtol=1e-4, atol=1e-5
        )
    for c in rest:
        assert not unpack(found.gates[c][missing], batch).any()
        for m in rest:
            np.testing.assert_allclose(
                unpack(found.gates[c][m], batch), unpack(expected.gates[c][m], batch), rtol=1e-4, atol=1e-5
            )


def poisoned(batch: Batch) -> Batch:
    """Where an utterance lacks a modality, its features are large instead of 0."""
    features = {m: jnp.where(batch.present[m][..., None], x, 1e3) for m, x in batch.features.items()}
    return batch.replace(features=features)


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_model, make_sdt])
def test_what_is_missing_has_no_influence(make: Any) -> None:
    """On its own utterance, on any other, on losses and on gradients, whatever stands in its place."""
    batch = pack(with_gaps(), ROWS, 12)
    model = make()
    params = float32(init(model, batch))

    @jax.jit
    def outcome(batch: Batch) -> Any:
        def loss(params: Any) -> Any:
            outputs = model.apply({"params": params}, batch, train=False)
            terms = loss_terms(outputs, batch, loss_weights(stop_teacher=0.0))
            return sum(term.value() for term in terms.values()), (outputs.logits_rlc, outputs.mean_rld)

        return jax.value_and_grad(loss, has_aux=True)(params)

    chex.assert_trees_all_close(outcome(batch), outcome(poisoned(batch)), rtol=1e-5, atol=1e-6)
    unmasked = [b.replace(present={}) for b in (batch, poisoned(batch))]
    assert abs(outcome(unmasked[0])[0][0] - outcome(unmasked[1])[0][0]) > 1  # it is the mask that keeps it out


def test_gates_listen_to_nothing_that_is_missing() -> None:
    batch = pack(with_gaps(), ROWS, 12)
    model = make_model()
    outputs = outputs_of(model, init(model, batch), batch)
    first = slice(0, LENGTHS[0])  # the conversation without video
    for c in "tav":
        np.testing.assert_allclose(sum(outputs.gates[c].values()), 1.0, rtol=1e-6)
        weights = unpack(outputs.gates[c]["v"], batch)
        assert not weights[first].any()
        assert weights[LENGTHS[0] :].all()


def test_an_utterance_of_which_nothing_is_known_is_told_from_its_neighbours() -> None:
    talks = conversations((4, 3))
    for m in "tav":
        talks[0] = lacking(talks[0], m, [2])
    model = make_model()
    batch = pack(talks, ((0, 1),), 8)
    params = init(model, batch)

    def logits(batch: Batch) -> np.ndarray:
        return unpack(outputs_of(model, params, batch).logits_rlc, batch)

    before = logits(batch)
    assert np.isfinite(before).all()
    changed = logits(batch.replace(features={**batch.features, "t": batch.features["t"].at[0, 0].add(1.0)}))
    assert abs(changed[2] - before[2]).max() > 1e-4
    np.testing.assert_allclose(changed[4:], before[4:], atol=1e-6)  # the conversation beside it hears nothing


@pytest.mark.parametrize("make", [make_model, make_sdt])
def test_company_and_padding_change_nothing(make: Any) -> None:
    talks = with_gaps()
    together = pack(talks, ROWS, 12)
    model = make()
    params = init(model, together)
    whole = unpack(outputs_of(model, params, together).logits_rlc, together)
    start = 0
    for i, talk in enumerate(talks):
        alone = jax.tree.map(jnp.asarray, Table.of([talk], "tav", masked=True).batch([[0]], Shape(1, 9)))
        logits = unpack(outputs_of(model, params, alone).logits_rlc, alone)
        np.testing.assert_allclose(logits, whole[start : start + len(talk)], rtol=1e-4, atol=1e-5, err_msg=f"{i}")
        start += len(talk)


def test_losses_against_sums_by_hand() -> None:
    """Every term in float64, utterance by utterance and modality by modality."""
    batch = pack(with_gaps(), ROWS, 12)
    batch = batch.replace(label_rl=batch.label_rl.at[0, 1].set(-1))
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=(*batch.label_rl.shape, *shape)), jnp.float32)

    h, logits = draw(WIDTH), draw(CLASSES)
    outputs = Outputs(
        logits_rlc=logits, modality_logits={m: draw(CLASSES) for m in "tav"}, mean_rld=h, deviation_rld=h, sample_rld=h,
        augmented={m: draw(WIDTH) for m in "tav"}, reconstructions={m: draw(DIMS[m]) for m in "tav"}, gates={},
    )  # fmt: skip
    sums, count = dict.fromkeys(("ce", "kl", "mse", "reconstruction"), 0.0), 0

    def log_softmax(x_c: Any) -> np.ndarray:
        x_c = np.asarray(x_c, np.float64)
        return x_c - np.log(np.exp(x_c).sum())

    for place in np.argwhere(np.asarray(batch.label_rl) >= 0):
        at, label = tuple(place), int(batch.label_rl[tuple(place)])
        count += 1
        sums["ce"] -= log_softmax(logits[at])[label]
        for m in "tav":
            if not batch.present[m][at]:
                continue
            teacher, student = log_softmax(logits[at]), log_softmax(outputs.modality_logits[m][at])
            sums["ce"] -= student[label]
            sums["kl"] += (np.exp(teacher) * (teacher - student)).sum()
            sums["mse"] += np.square(np.asarray(h[at] - outputs.augmented[m][at], np.float64)).mean()
            error_d = np.asarray(batch.features[m][at] - outputs.reconstructions[m][at], np.float64)
            sums["reconstruction"] += np.square(error_d).mean()
    found = loss_terms(outputs, batch, loss_weights())
    assert {name: float(term.count) for name, term in found.items()} == dict.fromkeys(sums, float(count))
    for name, value in sums.items():
        np.testing.assert_allclose(found[name].value(), value / count, rtol=1e-5, err_msg=name)


def test_scaling_leaves_out_what_is_missing() -> None:
    talks = with_gaps()
    corpus = Corpus("gaps", tuple("abcd"), {"train": talks, "validation": [], "test": []}, SPEAKERS)
    scaling = Standardizer.of(corpus, standardize=True)
    for m in "tav":
        x_nd = np.concatenate([talk.features[m] for talk in talks]).astype(np.float64)
        np.testing.assert_allclose(scaling.mean[m], np.nanmean(x_nd, 0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scaling.deviation[m], np.nanstd(x_nd, 0), rtol=1e-5)
    none = Moments.of([lacking(talk, "v").features for talk in talks], DIMS)
    assert none.count["v"] == 0 and not none.deviation("v").any()


def test_a_row_that_is_partly_nan_is_refused() -> None:
    talks = conversations((3,))
    talks[0].features["a"][1, 2] = np.nan
    with pytest.raises(ValueError, match="'c0', utterance 1: audio feature 2 is nan"):
        Corpus("odd", tuple("abcd"), {"train": talks, "validation": [], "test": []}, SPEAKERS)


def test_equal_data_have_equal_fingerprints_whatever_the_bits_of_nan() -> None:
    talk = lacking(conversations((3,))[0], "a", [1])
    other_nan = np.array(0x7FC00123, np.uint32).view(np.float32)
    same = replace(
        talk, features={**talk.features, "a": np.where(np.isnan(talk.features["a"]), other_nan, talk.features["a"])}
    )
    assert talk.features["a"].tobytes() != same.features["a"].tobytes()
    assert talk.digest() == same.digest()


@pytest.mark.slow
def test_a_folder_with_gaps_trains_and_streams_to_the_same_scores(tmp_path: Path) -> None:
    """A whole run of one's own data, without labels here and there: all is finite, streamed and on three devices."""
    rng = np.random.default_rng(0)
    talks = {}
    for split, lengths in {"train": (5, 1, 4, 7, 6, 3, 8), "validation": (4, 6), "test": (5, 3, 4)}.items():
        gaps = [lacking(t, "a", slice(None, None, 3)) for t in conversations(lengths, seed=len(lengths))]
        gaps = [lacking(talk, "t") if i == 1 else talk for i, talk in enumerate(gaps)]
        known = [np.where(rng.uniform(size=len(t)) < 0.2, -1, t.labels).astype(np.int32) for t in gaps]
        talks[split] = [replace(t, id=f"{split}-{t.id}", labels=n) for t, n in zip(gaps, known, strict=True)]
    write_own(Corpus("gaps", tuple("abcd"), talks, SPEAKERS), tmp_path / "own")
    options: dict[str, Any] = {"dataset": "conversations", "data__dir": str(tmp_path / "own")}
    options |= {"data__prepared_dir": str(tmp_path / "prepared"), "train__epochs": 2}
    alone = {"parallel__devices": 1}
    result = fit(tiny(linear_reference="ta", **options, **alone), tmp_path / "resident")
    assert result["classes"] == [*"abcd"] and result["diagnostics"]["linear"]["weighted_f1"] > 0
    assert lacks(load_corpus(str(tmp_path / "own")), "t")
    for name, elsewhere in {
        "streamed": {"data__stream": True, **alone},
        "mapped": {"parallel__devices": 3, "parallel__engine": "pmap"},
        "sharded": {"parallel__devices": 3, "parallel__engine": "jit"},
    }.items():
        fit(tiny(**options, **elsewhere), tmp_path / name)
        for one, other in zip(rows(tmp_path / "resident"), rows(tmp_path / name), strict=True):
            chex.assert_tree_all_finite((one["train"], one["validation"]))
            assert one["train"] == pytest.approx(other["train"], rel=1e-3), name
            assert one["validation"] == pytest.approx(other["validation"], rel=1e-3), name


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_gaps_in_one_split_alone(split: str, tmp_path: Path) -> None:
    talks = {name: conversations((3, 4, 2), seed=i) for i, name in enumerate(("train", "validation", "test"))}
    talks = {name: [replace(t, id=f"{name}-{t.id}") for t in group] for name, group in talks.items()}
    talks[split][1] = lacking(talks[split][1], "t")
    write_own(Corpus("gaps", tuple("abcd"), talks, SPEAKERS), tmp_path / "own")
    options: dict[str, Any] = {"dataset": "conversations", "data__dir": str(tmp_path / "own"), "train__epochs": 1}
    result = fit(tiny(parallel__devices=1, model__dropout=0.0, **options), tmp_path / "run")
    assert np.isfinite(result["test"]["weighted_f1"]["mean"])


@pytest.mark.parametrize("causal", [False, True])
def test_who_is_heard_is_who_is_seen(causal: bool) -> None:
    """Counted without pairs of utterances, the same as by pairs."""
    batch = pack(with_gaps(), ROWS, 12)
    context = Context.of(batch, "tav", dropout=0.0, train=False, causal=causal)
    np.testing.assert_array_equal(context.heard_mrl, visible(context, context).any(-1))
    assert not np.asarray(context.heard_mrl).all()
