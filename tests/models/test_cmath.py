"""The model and its losses against the float64 reference, and the invariants of the method."""

import itertools
from dataclasses import replace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import reference_losses
import reference_params
from samples import (
    CLASSES,
    DIMS,
    HEADS,
    KEYS,
    SPEAKERS,
    WIDTH,
    conversations,
    float32,
    init,
    losses_of,
    make_model,
    outputs_of,
    pack,
    unpack,
)

from cmath_jax.config import LossConfig
from cmath_jax.models.cmath import CMATH

SUBSETS = ["t", "a", "v", "ta", "tv", "av", "tav"]
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"kernel": 3},
    "block": {"inject": "block"},
    "symmetric": {"inject": "nothing"},
    "deterministic": {"noise": False},
    "pre_norm": {"norm": "pre"},
    "pre_norm_block": {"norm": "pre", "inject": "block"},
    "wo_mr": {"reconstruction": False},
    "wo_cma": {"cross_attention": False, "kernel": 3},
    "wo_mr_cma": {"reconstruction": False, "cross_attention": False},
}
LENGTHS = (5, 1, 4, 7)
ROWS = ((0, 2), (3, 1), ())  # several conversations to a row, one of a single utterance, an empty row
WEIGHTS = {"gamma1": 0.7, "gamma2": 1.3, "temperature": 1.5}
LOSS = LossConfig(**WEIGHTS, reconstruction=0.9)


def setting(variant: str, modalities: str) -> tuple[dict[str, Any], CMATH, Any]:
    """The settings of the reference, the model, and parameters as the reference has them; `stacked` for the model."""
    settings: dict[str, Any] = {"modalities": modalities, "heads": HEADS, **WEIGHTS, "reconstruction_weight": 0.9}
    settings |= VARIANTS[variant]
    params = reference_params.random_params(np.random.default_rng(3), DIMS, settings, SPEAKERS, CLASSES, WIDTH)
    return settings, make_model(modalities=modalities, **VARIANTS[variant]), float32(params)


def stacked(params: Any, settings: dict[str, Any]) -> Any:
    return float32(reference_params.stacked(params, settings))


def talks_of(talks: Any) -> list[dict[str, Any]]:
    return [{"features": t.features, "speakers": t.speakers, "labels": t.labels} for t in talks]


def cases(subsets: list[str]) -> list[Any]:
    """Returns all variants of all subsets, of which those that change one thing are quick."""
    return [
        pytest.param(variant, modalities, marks=() if variant == "full" or modalities == "tav" else pytest.mark.slow)
        for variant, modalities in itertools.product(VARIANTS, subsets)
    ]


@pytest.mark.parametrize(("variant", "modalities"), cases(SUBSETS))
def test_matches_reference(variant: str, modalities: str) -> None:
    agrees_with_the_reference(variant, modalities, stop_teacher=True)


def test_matches_reference_where_the_teacher_moves() -> None:
    agrees_with_the_reference("full", "tav", stop_teacher=False)


def agrees_with_the_reference(variant: str, modalities: str, stop_teacher: bool) -> None:
    """Outputs, losses and gradients of a packed batch, as the reference has them conversation by conversation."""
    settings, model, params = setting(variant, modalities)
    settings["stop_teacher"] = stop_teacher
    loss = replace(LOSS, stop_teacher=stop_teacher)
    talks = conversations(LENGTHS)
    talks[0].labels[1] = -1  # an unlabelled utterance
    batch = pack(talks, ROWS, 12, modalities)
    class_weights = np.array([0.5, 1.0, 2.0, 1.5])

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        outputs = model.apply({"params": params}, batch, train=True, rngs=KEYS)
        losses = losses_of(outputs, batch, loss, jnp.asarray(class_weights, jnp.float32))
        return losses["total"], (outputs, losses)

    (_, (outputs, losses)), grads = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(stacked(params, settings))

    # The noise that was drawn, conversation by conversation.
    noisy = settings.get("noise", True)
    deviation_rld = outputs.deviation_rld if noisy else jnp.ones(())
    eps_nd = unpack((outputs.sample_rld - outputs.mean_rld) / deviation_rld, batch)
    assert 0.3 < eps_nd.std() < 2 if noisy else not eps_nd.any()
    noises = np.split(eps_nd, np.cumsum(LENGTHS)[:-1])
    settings["class_weights"] = class_weights
    expected = [
        reference.forward(params, talk, settings, eps) for talk, eps in zip(talks_of(talks), noises, strict=True)
    ]

    def compare(ours: Any, *path: str) -> None:
        theirs = []
        for one in expected:
            for name in path:
                one = one[name]
            theirs.append(one)
        np.testing.assert_allclose(unpack(ours, batch), np.concatenate(theirs), rtol=1e-5, atol=1e-5, err_msg=str(path))

    compare(outputs.logits_rlc, "logits")
    compare(outputs.mean_rld, "mean")
    compare(outputs.deviation_rld, "deviation")
    for m in modalities:
        compare(outputs.modality_logits[m], "modality_logits", m)
        compare(outputs.augmented[m], "augmented", m)
    assert set(outputs.reconstructions) == set(expected[0]["reconstructions"])
    for m in outputs.reconstructions:
        compare(outputs.reconstructions[m], "reconstructions", m)
    assert {(c, x) for c in outputs.gates for x in outputs.gates[c]} == {
        (c, x) for c in expected[0]["gates"] for x in expected[0]["gates"][c]
    }
    for c, gates in outputs.gates.items():
        for x in gates:
            compare(gates[x], "gates", c, x)

    theirs = reference_losses.losses(expected, talks_of(talks), settings)
    for name, value in losses.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)

    rng = np.random.default_rng(4)
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)
    slope = reference_losses.directional_derivative(params, direction, talks_of(talks), settings, noises)
    products = jax.tree.map(lambda g, d: float((g * d).sum()), grads, reference_params.stacked(direction, settings))
    ours = sum(jax.tree.leaves(products))
    np.testing.assert_allclose(ours, slope, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("variant", "modalities"), cases(["t", "av", "tav"]))
def test_parameters_are_those_of_the_reference_and_all_alive(variant: str, modalities: str) -> None:
    """A variant has exactly the parameters that it uses: the tree is the reference's, and each one has a gradient."""
    settings, model, params = setting(variant, modalities)
    expected = stacked(params, settings)
    batch = pack(conversations(LENGTHS), ROWS, 12, modalities)
    chex.assert_trees_all_equal_shapes_and_dtypes(init(model, batch), expected)

    def loss_of(params: Any) -> jax.Array:
        return losses_of(model.apply({"params": params}, batch, train=True, rngs=KEYS), batch, LOSS)["total"]

    for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss_of))(expected)):
        assert float(jnp.abs(gradient).max()) > 1e-7, f"{jax.tree_util.keystr(path)} is dead"


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_neighbours_and_padding_change_nothing(kernel: int, train: bool) -> None:
    """In any row, at any place, beside any others: even dropout and noise are the same for a conversation."""
    model = make_model(kernel=kernel, dropout=0.4)
    talks = conversations(LENGTHS)
    layouts = [(((0,), (1,), (2,), (3,)), 7), (((3, 0), (2, 1)), 12), (((), (1, 2, 0, 3)), 40)]
    batches = [pack(talks, rows, slots) for rows, slots in layouts]
    params = init(model, batches[0])
    results = []
    for batch in batches:
        outputs = outputs_of(model, params, batch, train)
        results.append(
            {name: unpack(getattr(outputs, name), batch) for name in ("logits_rlc", "sample_rld", "mean_rld")}
        )
    for other in results[1:]:
        chex.assert_trees_all_close(results[0], other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_dropout_differs_by_utterance_and_step_and_keeps_the_mean() -> None:
    model = make_model(dropout=0.5, width=60, heads=2)
    batch = pack(conversations((30,)), ((0,),), 30)
    params = init(model, batch)
    outputs = [
        model.apply(
            {"params": params}, batch, train=True, rngs={"dropout": jax.random.key(k), "noise": jax.random.key(0)}
        )
        for k in (1, 1, 2)
    ]
    chex.assert_trees_all_equal(outputs[0], outputs[1])
    assert not np.allclose(outputs[0].mean_rld, outputs[2].mean_rld)
    from cmath_jax.models.attention import attend_at_once
    from cmath_jax.models.layers import Context, Dropout

    context = Context.of(batch, "tav", dropout=0.3, train=True, causal=False)
    ones = jnp.ones((1, 30, 60))
    dropped = Dropout().apply({}, ones, context, rngs={"dropout": jax.random.key(0)})
    values = np.unique(np.asarray(dropped))
    np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)
    assert abs(float(dropped.mean()) - 1) < 0.05
    assert len(np.unique(np.asarray(dropped[0]), axis=0)) == 30  # no two utterances alike
    # Equal weights on values that tell the answering utterances apart: what is heard are the weights.
    zeros, values = jnp.zeros((1, 1, 1, 2, 30, 30)), jnp.broadcast_to(jnp.eye(30), (1, 1, 1, 2, 30, 30))
    weights = 30 * attend_at_once(zeros, zeros, values, context, jax.random.key(0))
    np.testing.assert_allclose(np.unique(np.round(weights, 5)), [0, 1 / 0.7], rtol=1e-4)
    assert abs(float(weights.mean()) - 1) < 0.05
    assert len(np.unique(np.asarray(weights).reshape(60, 30), axis=0)) == 60  # nor two heads


def test_renaming_speakers_changes_nothing() -> None:
    model = make_model()
    talks = conversations(LENGTHS)
    batch = pack(talks, ROWS, 12)
    params = init(model, batch)
    names = np.array([2, 0, 1])
    moved = params | {"speaker": {"embedding": params["speaker"]["embedding"][np.argsort(names)]}}
    renamed = batch.replace(speaker_rl=jnp.asarray(names)[batch.speaker_rl])
    before, after = outputs_of(model, params, batch), outputs_of(model, moved, renamed)
    np.testing.assert_allclose(unpack(before.logits_rlc, batch), unpack(after.logits_rlc, batch), rtol=1e-6, atol=1e-6)
    assert not np.allclose(before.logits_rlc, outputs_of(model, params, renamed).logits_rlc)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("inject", ["attention", "block", "nothing"])
def test_the_order_of_the_modalities_changes_nothing(inject: str, norm: str) -> None:
    """Another order, with the parameters in that order: the same H'_m. So are two auxiliaries that change places."""
    from cmath_jax.models.cma_transformer import CMATransformer
    from cmath_jax.models.layers import Context

    batch = pack(conversations(LENGTHS), ROWS, 12)
    context = Context.of(batch, "tav", dropout=0.0, train=False, causal=False)
    h_crld = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 12, WIDTH)), jnp.float32)
    module = CMATransformer(HEADS, inject, norm, jnp.float32)
    params = module.init(jax.random.key(0), h_crld, context)["params"]
    for order in ([0, 2, 1], [2, 0, 1]):

        def reorder(path: Any, x: jax.Array, order: list[int] = order) -> jax.Array:
            names = [key.key for key in path]
            other = None if {"gate", "input_norm"} & {*names} else 2 if {"query", "key", "value"} & {*names} else 1
            x = x[jnp.array(order)]
            return x if other is None else jnp.take(x, jnp.array(order), other)

        reordered = jax.tree_util.tree_map_with_path(reorder, params)
        before, gates = module.apply({"params": params}, h_crld, context)
        after, other_gates = module.apply({"params": reordered}, h_crld[jnp.array(order)], context)
        np.testing.assert_allclose(before[jnp.array(order)], after, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gates[jnp.array(order)][:, jnp.array(order)], other_gates, rtol=1e-5, atol=1e-6)
        assert not np.allclose(before, after, atol=1e-2)


def test_gates_are_positive_and_sum_to_one() -> None:
    model = make_model()
    batch = pack(conversations(LENGTHS, scale=30.0), ROWS, 12)
    outputs = outputs_of(model, init(model, batch), batch)
    assert set(outputs.gates) == set("tav")
    for gates in outputs.gates.values():
        assert min(float(alpha.min()) for alpha in gates.values()) > 0
        np.testing.assert_allclose(sum(gates.values()), 1.0, rtol=1e-6)


def test_reparameterization() -> None:
    """The gradient of the deviation is eps times the gradient of the sample, and evaluation takes the mean."""
    from cmath_jax.models.fusion import sample
    from cmath_jax.models.layers import Context

    batch = pack(conversations((4, 3)), ((0, 1),), 8)
    rng = np.random.default_rng(0)
    mean, upstream = (jnp.asarray(rng.normal(size=(1, 8, WIDTH)), jnp.float32) for _ in range(2))
    deviation = jnp.abs(mean) + 0.1
    key, training = jax.random.key(5), Context.of(batch, "tav", dropout=0.3, train=True, causal=False)
    drawn, pull = jax.vjp(lambda mean, deviation: sample(mean, deviation, key, training), mean, deviation)
    eps = (drawn - mean) / deviation
    to_mean, to_deviation = pull(upstream)
    np.testing.assert_allclose(to_mean, upstream)
    np.testing.assert_allclose(to_deviation, eps * upstream, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(sample(mean, 0 * deviation, key, training), mean)
    model = make_model()
    outputs = outputs_of(model, init(model, batch), batch)
    np.testing.assert_array_equal(outputs.sample_rld, outputs.mean_rld)
    assert float(outputs.deviation_rld.min()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("left_out", ["t", "a", "v"])
def test_a_modality_that_is_left_out_has_no_influence(left_out: str) -> None:
    rest = "tav".replace(left_out, "")
    model = make_model(modalities=rest)
    talks = conversations(LENGTHS)
    batch = pack(talks, ROWS, 12)  # holds all three
    params = init(model, batch)
    names = jax.tree_util.tree_leaves_with_path(params)
    assert not [path for path, _ in names if f"_{left_out}" in jax.tree_util.keystr(path)]
    # NaN would spread if the modality were touched at all.
    poisoned = batch.replace(features={**batch.features, left_out: batch.features[left_out] * np.nan})
    chex.assert_trees_all_equal(outputs_of(model, params, batch), outputs_of(model, params, poisoned))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_huge_features_stay_finite(variant: str) -> None:
    model = make_model(width=60, heads=10, **VARIANTS[variant])
    batch = pack(conversations(LENGTHS, scale=1e4), ROWS, 12)
    params = init(model, batch)

    def loss_of(params: Any) -> jax.Array:
        return losses_of(model.apply({"params": params}, batch, train=True, rngs=KEYS), batch, LOSS)["total"]

    loss, grads = jax.jit(jax.value_and_grad(loss_of))(params)
    assert np.isfinite(loss)
    chex.assert_tree_all_finite(grads)


@pytest.mark.slow
@pytest.mark.parametrize("width", [5, 7])
def test_odd_width_and_a_single_utterance(width: int) -> None:
    model = make_model(width=width, heads=1)
    batch = pack(conversations((1,)), ((0,),), 1)
    outputs = outputs_of(model, init(model, batch), batch)
    chex.assert_shape(outputs.logits_rlc, (1, 1, CLASSES))
    chex.assert_tree_all_finite(outputs)


@pytest.mark.slow
def test_bfloat16_computes_near_and_keeps_float32_where_it_matters() -> None:
    batch = pack(conversations(LENGTHS), ROWS, 12)
    exact, coarse = make_model(width=60), make_model(width=60, dtype=jnp.bfloat16)
    params = init(coarse, batch)
    chex.assert_trees_all_equal_dtypes(params, init(exact, batch))
    outputs = outputs_of(coarse, params, batch)
    for x in (outputs.logits_rlc, outputs.mean_rld, outputs.deviation_rld, *outputs.modality_logits.values()):
        assert x.dtype == jnp.float32
    assert outputs.augmented["t"].dtype == jnp.bfloat16
    expected = outputs_of(exact, params, batch)
    np.testing.assert_allclose(unpack(outputs.logits_rlc, batch), unpack(expected.logits_rlc, batch), atol=0.1)
    assert not np.array_equal(outputs.logits_rlc, expected.logits_rlc)
