"""The NumPy reference against facts worked out by hand or in closed form."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import reference
import reference_losses
from reference_samples import CLASSES, DIMS, SETTINGS, WIDTH, make_conversation, make_params

pytestmark = pytest.mark.filterwarnings("error")

SUBSETS = ["t", "a", "v", "ta", "tv", "av", "tav"]


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
    assert all(np.isfinite(value) for value in reference_losses.losses([output], [talk], settings).values())


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
    base = reference_losses.losses([reference.forward(params, talk, settings, noise)], [talk], settings)["total"]
    for path, leaf in leaves(params):
        direction: Any = rng.normal(size=leaf.shape)
        for name in reversed(path.split("/")):
            direction = {name: direction}
        moved = reference_losses.shifted(params, direction, 0.1)
        loss = reference_losses.losses([reference.forward(moved, talk, settings, noise)], [talk], settings)["total"]
        assert abs(loss - base) > 1e-9, path
