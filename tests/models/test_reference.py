"""The NumPy reference against facts worked out by hand or in closed form."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import reference

pytestmark = pytest.mark.filterwarnings("error")

DIMS = {"t": 5, "a": 4, "v": 3}
WIDTH, SPEAKERS, CLASSES = 6, 3, 4
SETTINGS: dict[str, Any] = {"heads": 2, "kernel": 3, "gamma1": 0.7, "gamma2": 1.3, "reconstruction_weight": 0.9}
SUBSETS = ["t", "a", "v", "ta", "tv", "av", "tav"]


def make_conversation(rng: np.random.Generator, length: int) -> dict[str, Any]:
    return {
        "features": {m: rng.normal(size=(length, size)) for m, size in DIMS.items()},
        "speakers": rng.integers(SPEAKERS, size=length),
        "labels": rng.integers(CLASSES, size=length),
    }


def make_params(rng: np.random.Generator, settings: Mapping[str, Any]) -> dict[str, Any]:
    return reference.random_params(rng, DIMS, settings, SPEAKERS, CLASSES, WIDTH)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, leaf in tree.items():
        if isinstance(leaf, Mapping):
            yield from leaves(leaf, f"{prefix}{name}/")
        else:
            yield prefix + name, leaf


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# Building blocks


def test_activations_have_their_known_values() -> None:
    phi_one = 0.8413447460685429
    np.testing.assert_allclose(
        reference.gelu(np.array([0.0, 1.0, -1.0, 40.0])), [0, phi_one, phi_one - 1, 40], atol=1e-15
    )
    softplus = reference.softplus(np.array([0.0, 1.0, -800.0, 800.0]))
    np.testing.assert_allclose(softplus, [math.log(2), math.log(1 + math.e), 0, 800], atol=1e-15)
    np.testing.assert_allclose(reference.softmax(np.log([[1.0, 2.0, 5.0]])), [[0.125, 0.25, 0.625]])
    np.testing.assert_allclose(reference.log_softmax(np.array([1e4, -1e4])), [0, -2e4])


def test_layer_norm_by_hand() -> None:
    layer = {"scale": np.array([1.0, 2.0]), "bias": np.array([0.5, 0.0])}
    normed = reference.layer_norm(np.array([[1.0, 3.0], [4.0, 4.0]]), layer)
    unit = 1 / math.sqrt(1 + 1e-6)
    np.testing.assert_allclose(normed, [[0.5 - unit, 2 * unit], [0.5, 0.0]])


def test_position_by_hand_and_with_an_odd_width() -> None:
    even = reference.position(3, 4)
    np.testing.assert_allclose(even[0], [0, 1, 0, 1])
    np.testing.assert_allclose(even[2], [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)])
    odd = reference.position(2, 3)
    np.testing.assert_allclose(odd[1], [math.sin(1), math.cos(1), math.sin(10000 ** (-2 / 3))])


def test_convolution_by_hand() -> None:
    # Cross-correlation: the first tap reads the utterance before, the last one that after; zeros outside.
    layer = {"kernel": np.array([100.0, 10.0, 1.0]).reshape(3, 1, 1), "bias": np.array([0.5])}
    convolved = reference.convolve(np.array([[1.0], [2.0], [3.0]]), layer)
    np.testing.assert_allclose(convolved, [[12.5], [123.5], [230.5]])


def test_convolution_equals_numpy_and_shrinks_to_a_dense_layer(rng: np.random.Generator) -> None:
    x, kernel = rng.normal(size=(6, 3)), rng.normal(size=(5, 3, 2))
    expected = np.zeros((6, 2))
    for source, target in itertools.product(range(3), range(2)):
        padded = np.pad(x[:, source], 2)
        expected[:, target] += np.correlate(padded, kernel[:, source, target], mode="valid")
    np.testing.assert_allclose(reference.convolve(x, {"kernel": kernel}), expected)
    np.testing.assert_allclose(reference.convolve(x, {"kernel": kernel[:1]}), x @ kernel[0])
    np.testing.assert_allclose(reference.convolve(x[:1], {"kernel": kernel}), x[:1] @ kernel[2])


def make_attention(rng: np.random.Generator) -> dict[str, Any]:
    layer = make_params(rng, SETTINGS)["cma_t"]["attention_a"]
    assert isinstance(layer, dict)
    return layer


def test_attention_on_one_utterance_is_the_value_projection(rng: np.random.Generator) -> None:
    layer = make_attention(rng)
    query, source = rng.normal(size=(4, WIDTH)), rng.normal(size=(1, WIDTH))
    expected = source @ layer["value"]["kernel"] @ layer["output"]["kernel"] + layer["output"]["bias"]
    np.testing.assert_allclose(
        reference.attention(query, source, layer, heads=3), np.repeat(expected, 4, axis=0), rtol=1e-6, atol=1e-12
    )


def test_attention_with_equal_scores_is_the_mean_value(rng: np.random.Generator) -> None:
    layer = {**make_attention(rng), "query": {"kernel": np.zeros((WIDTH, WIDTH))}}
    source = rng.normal(size=(5, WIDTH))
    expected = source.mean(axis=0) @ layer["value"]["kernel"] @ layer["output"]["kernel"] + layer["output"]["bias"]
    np.testing.assert_allclose(reference.attention(source[:1], source, layer, heads=2)[0], expected)


def test_heads_are_contiguous_blocks_with_their_own_scale() -> None:
    identity = {"kernel": np.eye(4)}
    layer = {"query": identity, "key": identity, "value": identity, "output": {**identity, "bias": np.zeros(4)}}
    query, source = np.array([[1.0, 0.0, 0.0, 0.0]]), np.array([[2.0, 0.0, 4.0, 0.0], [0.0, 0.0, 0.0, 8.0]])
    first = 1 / (1 + math.exp(-2 / math.sqrt(2)))  # head one scores 2/sqrt(2) and 0, head two 0 and 0
    np.testing.assert_allclose(reference.attention(query, source, layer, heads=2), [[2 * first, 0, 2, 4]])


# The model


def test_numbers_of_a_model_of_one_modality_by_hand() -> None:
    one = np.ones((1, 1))
    params = {
        "linear_t": {"kernel": 2 * one, "bias": np.array([0.5])},
        "speaker": {"embedding": np.array([[10.0], [20.0]])},
        "fusion_t": {
            "mean_hidden": {"kernel": one, "bias": np.array([-21.0])},
            "mean_output": {"kernel": 3 * one, "bias": np.array([1.0])},
            "deviation_hidden": {"kernel": -one, "bias": np.zeros(1)},
            "deviation_output": {"kernel": one, "bias": np.zeros(1)},
        },
        "classifier_t": {"kernel": np.array([[1.0, 0.0]]), "bias": np.zeros(2)},
        "classifier": {"kernel": np.array([[0.0, 1.0]]), "bias": np.array([0.0, 1.0])},
    }
    talk = {"features": {"t": np.array([[1.0], [2.0]])}, "speakers": [0, 1]}
    settings = {"modalities": "t", "reconstruction": False, "cross_attention": False}
    output = reference.forward(params, talk, settings, np.array([[1.0], [-2.0]]))
    augmented = np.array([[12.5], [24.5 + math.sin(1)]])
    mean = np.array([[1.0], [3 * (3.5 + math.sin(1)) + 1]])
    deviation = math.log(2) + 1e-6
    sample = mean + deviation * np.array([[1.0], [-2.0]])
    np.testing.assert_allclose(output["augmented"]["t"], augmented)
    np.testing.assert_allclose(output["mean"], mean)
    np.testing.assert_allclose(output["deviation"], deviation)
    np.testing.assert_allclose(output["sample"], sample)
    np.testing.assert_allclose(output["logits"], np.hstack([0 * sample, sample + 1]))
    np.testing.assert_allclose(output["modality_logits"]["t"], np.hstack([augmented, 0 * augmented]))
    assert output["reconstructions"] == {} and output["gates"] == {}


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("modalities", SUBSETS)
@pytest.mark.parametrize("inject", ["attention", "block", "nothing"])
def test_shapes_and_gates(rng: np.random.Generator, modalities: str, inject: str, length: int) -> None:
    settings = {**SETTINGS, "modalities": modalities, "inject": inject}
    talk = make_conversation(rng, length)
    output = reference.forward(make_params(rng, settings), talk, settings, rng.normal(size=(length, WIDTH)))
    assert output["logits"].shape == (length, CLASSES)
    assert output["sample"].shape == (length, WIDTH)
    assert (output["deviation"] > 0).all()
    assert {m: x.shape for m, x in output["reconstructions"].items()} == {m: (length, DIMS[m]) for m in modalities}
    assert set(output["gates"]) == (set(modalities) if len(modalities) > 1 else set())
    for alpha in output["gates"].values():
        assert set(alpha) == set(modalities)
        assert all((weight > 0).all() for weight in alpha.values())
        np.testing.assert_allclose(sum(alpha.values()), 1.0)
    assert all(np.isfinite(value) for value in reference.losses([output], [talk], settings).values())


def test_block_adds_the_normed_input_to_its_feed_forward() -> None:
    # The residual of the FFN is the normed B: with a silent FFN the block is the norm of the norm.
    row = np.array([[0.0, 1.0, 5.0]])
    plain = {"scale": np.array([1.0, 2.0, 3.0]), "bias": np.array([0.0, 1.0, -1.0])}
    silent = {"kernel": np.zeros((3, 3)), "bias": np.zeros(3)}
    layers: dict[str, Any] = {
        "attention_norm_a": plain,
        "hidden_a": silent,
        "project_a": silent,
        "output_norm_a": plain,
    }
    expected = reference.layer_norm(reference.layer_norm(row, plain), plain)
    np.testing.assert_allclose(reference.cma_block(row, "a", layers), expected)
    # An FFN that is 4 gelu(B).
    layers["hidden_a"], layers["project_a"] = {"kernel": np.eye(3)}, {"kernel": 4 * np.eye(3)}
    b = reference.layer_norm(row, plain)
    expected = reference.layer_norm(4 * reference.gelu(b) + b, plain)
    np.testing.assert_allclose(reference.cma_block(row, "a", layers), expected)


def test_gaussian_is_the_average_over_the_modalities(rng: np.random.Generator) -> None:
    params, talk = make_params(rng, SETTINGS), make_conversation(rng, 3)
    values = {"t": (1.0, 0.0), "a": (2.0, 700.0), "v": (6.0, -3.0)}
    for m, (mean, deviation) in values.items():
        for name, value in (("mean_output", mean), ("deviation_output", deviation)):
            params[f"fusion_{m}"][name] = {"kernel": np.zeros((WIDTH, WIDTH)), "bias": np.full(WIDTH, value)}
    output = reference.forward(params, talk, SETTINGS, np.ones((3, WIDTH)))
    deviation = (math.log(2) + 700 + math.log1p(math.exp(-3))) / 3 + 1e-6
    np.testing.assert_allclose(output["mean"], 3.0)
    np.testing.assert_allclose(output["deviation"], deviation, rtol=1e-12)
    np.testing.assert_allclose(output["sample"], 3.0 + deviation, rtol=1e-12)


def test_inject_adds_the_attention_output_or_the_finished_block(rng: np.random.Generator) -> None:
    settings = {**SETTINGS, "modalities": "ta"}
    layers = make_params(rng, settings)["cma_t"]
    h = {m: rng.normal(size=(3, WIDTH)) for m in "ta"}
    cross = reference.attention(h["t"], h["a"], layers["attention_a"], 2)
    own = reference.attention(h["t"], h["t"], layers["attention_t"], 2)
    block = reference.cma_block(cross + h["t"], "a", layers)
    for inject, added in (("attention", cross), ("block", block), ("nothing", 0.0)):
        centre = reference.cma_block(own + added + h["t"], "t", layers)
        # Over two inputs the softmax is a sigmoid of the difference.
        weight = 1 / (1 + np.exp((block - centre) @ layers["gate"]["kernel"]))
        augmented, gates = reference.cma_transformer("t", h, layers, 2, inject)
        np.testing.assert_allclose(gates["t"], weight)
        np.testing.assert_allclose(augmented, weight * centre + (1 - weight) * block)


@pytest.mark.parametrize("inject", ["attention", "block", "nothing"])
def test_order_of_modalities_does_not_matter(rng: np.random.Generator, inject: str) -> None:
    settings = {**SETTINGS, "inject": inject}
    params, talk = make_params(rng, settings), make_conversation(rng, 4)
    expected = reference.forward(params, talk, settings, None)
    for order in ("vta", "avt"):
        output = reference.forward(params, talk, {**settings, "modalities": order}, None)
        np.testing.assert_allclose(output["logits"], expected["logits"])
        np.testing.assert_allclose(output["augmented"]["a"], expected["augmented"]["a"])


@pytest.mark.parametrize("inject", ["attention", "block", "nothing"])
def test_swapped_auxiliaries_with_their_parameters_change_nothing(rng: np.random.Generator, inject: str) -> None:
    layers = make_params(rng, SETTINGS)["cma_t"]
    h = {m: rng.normal(size=(3, WIDTH)) for m in "tav"}
    swap = {"_a": "_v", "_v": "_a"}
    swapped_layers = {name[:-2] + swap.get(name[-2:], name[-2:]): layer for name, layer in layers.items()}
    expected, _ = reference.cma_transformer("t", h, layers, 2, inject)
    swapped, _ = reference.cma_transformer("t", {**h, "a": h["v"], "v": h["a"]}, swapped_layers, 2, inject)
    np.testing.assert_allclose(swapped, expected)


def test_renamed_speakers_change_nothing(rng: np.random.Generator) -> None:
    params, talk = make_params(rng, SETTINGS), make_conversation(rng, 6)
    names = np.array([2, 0, 1])
    renamed = {**params, "speaker": {"embedding": params["speaker"]["embedding"][np.argsort(names)]}}
    expected = reference.forward(params, talk, SETTINGS, None)
    output = reference.forward(renamed, {**talk, "speakers": names[talk["speakers"]]}, SETTINGS, None)
    np.testing.assert_array_equal(output["logits"], expected["logits"])


def test_without_noise_the_sample_is_the_mean(rng: np.random.Generator) -> None:
    params, talk = make_params(rng, SETTINGS), make_conversation(rng, 4)
    evaluated = reference.forward(params, talk, SETTINGS, None)
    silent = reference.forward(params, talk, SETTINGS, np.zeros((4, WIDTH)))
    np.testing.assert_array_equal(evaluated["sample"], evaluated["mean"])
    np.testing.assert_array_equal(silent["logits"], evaluated["logits"])


def test_errors_are_clear(rng: np.random.Generator) -> None:
    params, talk = make_params(rng, SETTINGS), make_conversation(rng, 2)
    with pytest.raises(ValueError, match="without utterances"):
        reference.forward(params, make_conversation(rng, 0), SETTINGS, None)
    with pytest.raises(ValueError, match="noise of shape"):
        reference.forward(params, talk, SETTINGS, np.zeros((1, WIDTH)))
    with pytest.raises(ValueError, match="4 heads"):
        reference.forward(params, talk, {**SETTINGS, "heads": 4}, None)
    with pytest.raises(ValueError, match="3 taps"):
        reference.forward(params, talk, {**SETTINGS, "kernel": 5}, None)
    with pytest.raises(ValueError, match="unknown settings"):
        reference.forward(params, talk, {**SETTINGS, "gamma": 1}, None)


# The losses


def made_outputs(sample: Any, augmented: Any, logits: Any, student_logits: Any) -> dict[str, Any]:
    return {
        "sample": np.array(sample, dtype=float),
        "augmented": {"t": np.array(augmented, dtype=float)},
        "logits": np.array(logits, dtype=float),
        "modality_logits": {"t": np.array(student_logits, dtype=float)},
        "reconstructions": {},
    }


def test_losses_by_hand_over_conversations_of_unequal_length() -> None:
    zeros, third = [0.0, 0.0], [math.log(3), 0.0]
    outputs = [
        made_outputs([[1, 1], [1, 1]], [[1, 1], [1, 3]], [zeros, third], [third, third]),
        made_outputs([[0, 0]], [[2, 1]], [third], [zeros]),
    ]
    outputs[0]["reconstructions"]["t"] = np.array([[1.0], [2.0]])
    outputs[1]["reconstructions"]["t"] = np.array([[3.0]])
    conversations = [
        {"features": {"t": np.array([[1.0], [0.0]])}, "labels": [0, -1]},
        {"features": {"t": np.array([[0.0]])}, "labels": [1]},
    ]
    settings = {"modalities": "t", "gamma1": 2.0, "gamma2": 3.0, "reconstruction_weight": 0.5}
    ce = (math.log(2) + math.log(4)) / 2 + (math.log(4 / 3) + math.log(2)) / 2
    kl = (0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)) / 2
    kl += (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    # Three utterances of one feature and width two; the unlabelled one, in the middle, counts nowhere.
    expected = {"ce": ce, "reconstruction": 9 / 2, "mse": 5 / 4, "kl": kl}
    expected["total"] = ce + 0.5 * 9 / 2 + 2 * 5 / 4 + 3 * kl
    assert reference.losses(outputs, conversations, settings) == pytest.approx(expected)
    # Class weights 1 and 3: normalised by 1 + 3; the KL stays unweighted.
    weighted = reference.losses(outputs, conversations, {**settings, "class_weights": [1.0, 3.0]})
    ce = (math.log(2) + 3 * math.log(4)) / 4 + (math.log(4 / 3) + 3 * math.log(2)) / 4
    assert weighted["ce"] == pytest.approx(ce)
    assert weighted["kl"] == pytest.approx(kl)


def test_identical_teacher_and_student_cost_nothing(rng: np.random.Generator) -> None:
    h, logits = rng.normal(size=(3, 2)), rng.normal(size=(3, CLASSES))
    settings = {"modalities": "t", "reconstruction": False}
    shifted_logits = logits + rng.normal(size=(3, 1))  # the same distribution
    loss = reference.losses([made_outputs(h, h, logits, shifted_logits)], [{"labels": [0, 1, 3]}], settings)
    assert loss["mse"] == 0
    assert loss["kl"] == pytest.approx(0, abs=1e-14)
    assert loss["reconstruction"] == 0


def test_kl_is_never_negative(rng: np.random.Generator) -> None:
    labels = np.zeros(200, dtype=np.int64)
    for scale in (1e-3, 1.0, 1e2, 1e4):
        teacher, student = scale * rng.normal(size=(2, 200, CLASSES))
        for row in range(200):
            kl = reference.divergence(teacher[row : row + 1], student[row : row + 1], labels[:1])
            assert kl >= -1e-15 and np.isfinite(kl)


def test_no_label_no_loss(rng: np.random.Generator) -> None:
    params, talk = make_params(rng, SETTINGS), make_conversation(rng, 4)
    talk["labels"] = np.full(4, -1)
    loss = reference.losses([reference.forward(params, talk, SETTINGS, None)], [talk], SETTINGS)
    assert set(loss.values()) == {0.0}
    talk["labels"] = np.full(4, CLASSES)
    with pytest.raises(ValueError, match="a label outside"):
        reference.losses([reference.forward(params, talk, SETTINGS, None)], [talk], SETTINGS)


# Gradients


def test_derivative_along_the_classifiers_is_the_softmax_less_the_label(rng: np.random.Generator) -> None:
    params = make_params(rng, SETTINGS)
    talks = [make_conversation(rng, n) for n in (3, 1)]
    talks[0]["labels"][1] = -1
    labels = np.concatenate([talk["labels"] for talk in talks])
    valid = labels >= 0
    outputs = [reference.forward(params, talk, SETTINGS, None) for talk in talks]
    onehot = np.eye(CLASSES)[labels[valid]]
    probability = reference.softmax(np.concatenate([output["logits"] for output in outputs]))[valid]
    student = reference.softmax(np.concatenate([output["modality_logits"]["a"] for output in outputs]))[valid]
    along = {"bias": rng.normal(size=CLASSES)}
    # The stopped teacher: only cross-entropy reaches the fused classifier.
    derivative = reference.directional_derivative(params, {"classifier": along}, talks, SETTINGS)
    assert derivative == pytest.approx((probability - onehot).mean(axis=0) @ along["bias"], abs=1e-8)
    assert reference.directional_derivative(params, {"classifier": along}, talks, SETTINGS, term="kl") == 0
    # A student: (q - y) of cross-entropy and gamma2 (q - p) of the KL.
    derivative = reference.directional_derivative(params, {"classifier_a": along}, talks, SETTINGS)
    slope = (student - onehot) + SETTINGS["gamma2"] * (student - probability)
    assert derivative == pytest.approx(slope.mean(axis=0) @ along["bias"], abs=1e-8)


def test_derivative_of_the_reconstruction_is_linear_least_squares(rng: np.random.Generator) -> None:
    settings = {**SETTINGS, "modalities": "t", "kernel": 1}
    params, talk = make_params(rng, settings), make_conversation(rng, 5)
    residual = reference.forward(params, talk, settings, None)["reconstructions"]["t"] - talk["features"]["t"]
    hidden = talk["features"]["t"] @ params["down_t"]["kernel"][0]
    scale = SETTINGS["reconstruction_weight"] * 2 / residual.size
    coordinates = [("up_t/kernel", (0, 2, 1)), ("up_t/bias", (3,))]
    gradient = reference.loss_gradient(params, coordinates, [talk], settings)
    np.testing.assert_allclose(gradient, scale * np.array([hidden[:, 2] @ residual[:, 1], residual[:, 3].sum()]))


def test_teacher_moves_only_when_it_is_not_stopped(rng: np.random.Generator) -> None:
    params, talk = make_params(rng, SETTINGS), make_conversation(rng, 4)
    noises = [rng.normal(size=(4, WIDTH))]
    along = rng.normal(size=WIDTH)
    direction = {"fusion_v": {"mean_output": {"bias": along}}}
    flowing = {**SETTINGS, "stop_teacher": False}
    assert reference.directional_derivative(params, direction, [talk], SETTINGS, noises, term="mse") == 0
    # The teacher is mu + eps sigma with mu a mean over three: d mse = 2/3 sum_m mean((H'_k - H'_m) along).
    output = reference.forward(params, talk, SETTINGS, noises[0])
    expected = sum(2 / 3 * ((output["sample"] - output["augmented"][m]) * along).mean() for m in "tav")
    derivative = reference.directional_derivative(params, direction, [talk], flowing, noises, term="mse")
    assert derivative == pytest.approx(expected, abs=1e-8)
    # Cross-entropy moves the fused logits in either case.
    stopped_ce = reference.directional_derivative(params, direction, [talk], SETTINGS, noises, term="ce")
    assert stopped_ce == reference.directional_derivative(params, direction, [talk], flowing, noises, term="ce") != 0


# Parameters


@pytest.mark.parametrize("modalities", ["t", "av", "tav"])
@pytest.mark.parametrize("reconstruction", [True, False])
@pytest.mark.parametrize("cross_attention", [True, False])
def test_every_random_parameter_matters(
    rng: np.random.Generator, modalities: str, reconstruction: bool, cross_attention: bool
) -> None:
    settings = {
        **SETTINGS,
        "modalities": modalities,
        "reconstruction": reconstruction,
        "cross_attention": cross_attention,
    }
    params, talk = make_params(rng, settings), make_conversation(rng, 3)
    talk["speakers"] = np.arange(3)
    noise = rng.normal(size=(3, WIDTH))
    paths = [path for path, _ in leaves(params)]
    assert any(path.startswith("down_") for path in paths) == reconstruction
    assert any("cma_" in path for path in paths) == cross_attention
    assert any("gate" in path for path in paths) == (cross_attention and len(modalities) > 1)
    base = reference.losses([reference.forward(params, talk, settings, noise)], [talk], settings)["total"]
    for path, leaf in leaves(params):
        direction: Any = rng.normal(size=leaf.shape)
        for name in reversed(path.split("/")):
            direction = {name: direction}
        moved = reference.shifted(params, direction, 0.1)
        loss = reference.losses([reference.forward(moved, talk, settings, noise)], [talk], settings)["total"]
        assert abs(loss - base) > 1e-9, path
