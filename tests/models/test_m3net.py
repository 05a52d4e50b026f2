"""M3NET against a second computation of its equations, its parameters, and its weights by place."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_model import Sizes, random_params, small_model
from own_vectors import Parameters, write_vectors
from samples import conversations, outputs_of, pack, unpack

from cmath_jax.data.corpus import CLASSES, Conversation
from cmath_jax.errors import InputError
from cmath_jax.models.baselines.place_weights import PlaceWeights
from cmath_jax.models.baselines.released import convert, main
from cmath_jax.models.baselines.weights import Weights
from cmath_jax.models.options import MODELS, recipe_options
from cmath_jax.models.registry import make_model

WIDTH, GRAPH_WIDTH, LAYERS, FREQUENCY_LAYERS, TEXT = 4, 3, 2, 2, 4
LENGTHS = (3, 1, 2)
SPEAKERS = 3


# The second computation: one conversation at a time, node by node, in float64, by the names of the released code.


def linear(p: Parameters, name: str, x_nd: np.ndarray) -> np.ndarray:
    result: np.ndarray = x_nd @ p[f"{name}.weight"].T + p[f"{name}.bias"]
    return result


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def gru(p: Parameters, x_nd: np.ndarray) -> np.ndarray:
    """Two layers, both directions."""
    for layer in (0, 1):
        ways = []
        for ending in ("", "_reverse"):
            order = range(len(x_nd)) if not ending else range(len(x_nd) - 1, -1, -1)
            h, states = np.zeros(WIDTH // 2), {}
            for t in order:
                of_input, of_state = (
                    np.split(p[f"gru_l.weight_{k}_l{layer}{ending}"] @ y + p[f"gru_l.bias_{k}_l{layer}{ending}"], 3)
                    for k, y in (("ih", x_nd[t]), ("hh", h))
                )
                r, z = (1 / (1 + np.exp(-of_input[i] - of_state[i])) for i in (0, 1))
                h = (1 - z) * np.tanh(of_input[2] + r * of_state[2]) + z * h
                states[t] = h
            ways.append(np.stack([states[t] for t in range(len(x_nd))]))
        x_nd = np.concatenate(ways, axis=1)
    return x_nd


def forward(p: Parameters, talk: Conversation) -> np.ndarray:
    """The log-probabilities. On MELD (seven classes) the text is not projected. What is missing is no node."""
    n = len(talk)
    has = {m: ~np.isnan(talk.features[m]).any(1) for m in "tav"}
    said_nd = np.zeros((n, talk.features["t"].shape[1] // TEXT))
    for letter, x_nd in zip("abcd", np.split(talk.features["t"], TEXT, axis=1), strict=True):
        norm = {part: p[f"normBN{letter}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
        y_nd = (x_nd - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)
        said_nd = said_nd + (y_nd * norm["weight"] + norm["bias"]) / TEXT
    if len(p["smax_fc.bias"]) != 7:
        said_nd = linear(p, "linear_l", said_nd)
    said_nd = gru(p, np.where(has["t"][:, None], said_nd, 0.0))
    x = {m: linear(p, f"linear_{m}", talk.features[m]) for m in "av"}
    x["t"] = said_nd + p["graph_model.speaker_embeddings.weight"][talk.speakers]

    nodes = [(m, i) for m in "tav" for i in range(n) if has[m][i]]
    first = {(m, i): linear(p, "graph_model.fc1", x[m][i]) for m, i in nodes}
    high, smooth = dict(first), dict(first)

    edges = {k: [node for node in nodes if node[0] == m] for k, m in enumerate("tav")}
    edges |= {3 + i: [node for node in nodes if node[1] == i] for i in range(n)}
    edge_weight, node_weight = p["graph_model.hyperedge_weight"], p["graph_model.EW_weight"]
    place = {(m, i): "tav".index(m) * n + i for m, i in nodes}
    for layer in range(LAYERS):
        told = {
            e: sum(smooth[node] for node in members) / sum(node_weight[place[node]] for node in members)
            for e, members in edges.items()
            if members
        }
        of_node = {node: [e for e in edges if node in edges[e]] for node in nodes}
        bias = p[f"graph_model.hyperconv{layer + 1}.bias"]
        smooth = {
            node: leaky(sum(told[e] for e in own) / sum(edge_weight[e] for e in own) + bias)
            for node, own in of_node.items()
        }

    near = {
        (m, i): [(o, k) for o, k in nodes if (o == m) != (k == i)]  # same modality, or same utterance, and not itself
        for m, i in nodes
    }
    for layer in range(FREQUENCY_LAYERS):
        q, c = (p[f"graph_model.conv{layer + 1}.gate.{part}"][0] for part in ("weight", "bias"))
        high = {
            node: high[node]
            + sum(
                np.tanh(q @ np.concatenate([high[node], high[other]]) + c)
                / math.sqrt(len(near[node]) * len(near[other]))
                * high[other]
                for other in near[node]
            )
            for node in nodes
        }

    nothing = np.zeros(GRAPH_WIDTH)
    fused_nx = np.stack(
        [np.concatenate([each.get((m, i), nothing) for m in "tav" for each in (smooth, high)]) for i in range(n)]
    )
    logits_nc = linear(p, "smax_fc", np.maximum(fused_nx, 0))
    result: np.ndarray = logits_nc - np.log(np.exp(logits_nc).sum(1, keepdims=True))
    return result


def released_parameters(dims: Mapping[str, int], classes: int) -> dict[str, np.ndarray]:
    rng, text = np.random.default_rng(7), dims["t"] // TEXT
    g, h = GRAPH_WIDTH, WIDTH // 2
    p: dict[str, np.ndarray] = {}

    def layer(name: str, *shape: int) -> None:
        p[f"{name}.weight"] = rng.normal(size=shape) / math.sqrt(shape[-1])
        p[f"{name}.bias"] = 0.3 * rng.normal(size=shape[:1])

    for letter in "abcd":
        layer(f"normBN{letter}", text)
        p[f"normBN{letter}.running_mean"] = rng.normal(size=text)
        p[f"normBN{letter}.running_var"] = rng.uniform(0.5, 2.0, size=text)
        p[f"normBN{letter}.num_batches_tracked"] = np.array(3.0)
        layer(f"normLN{letter}", text)  # dead
    layer("linear_l", WIDTH, text)
    layer("linear_a", WIDTH, dims["a"])
    layer("linear_v", WIDTH, dims["v"])
    inputs = (WIDTH if classes != 7 else text, WIDTH)
    for k, d in enumerate(inputs):
        for ending in (f"_l{k}", f"_l{k}_reverse"):
            for part, width in (("ih", d), ("hh", h)):
                p[f"gru_l.weight_{part}{ending}"] = rng.normal(size=(3 * h, width)) / math.sqrt(width)
                p[f"gru_l.bias_{part}{ending}"] = 0.3 * rng.normal(size=3 * h)
    graph = "graph_model."
    # More places than a conversation of these lengths has.
    p[f"{graph}hyperedge_weight"], p[f"{graph}EW_weight"] = (rng.uniform(0.5, 1.5, size=k) for k in (8, 20))
    p[f"{graph}speaker_embeddings.weight"] = rng.normal(size=(SPEAKERS, WIDTH))
    p[f"{graph}modal_embeddings.weight"] = rng.normal(size=(3, WIDTH))  # dead
    layer(f"{graph}fc1", g, WIDTH)
    for k in range(LAYERS):
        layer(f"{graph}hyperconv{k + 1}", g)  # whose weight is dead
    for k in range(FREQUENCY_LAYERS):
        layer(f"{graph}conv{k + 1}.gate", 1, 2 * g)
    layer("smax_fc", classes, 6 * g)
    return p


def talks_of(dims: Mapping[str, int], classes: int, seed: int = 3) -> list[Conversation]:
    rng = np.random.default_rng(seed)
    return [
        Conversation(
            f"c{n}",
            {m: rng.normal(size=(n, d)) for m, d in dims.items()},
            rng.integers(SPEAKERS, size=n).astype(np.int32),
            rng.integers(classes, size=n).astype(np.int32),
        )
        for n in LENGTHS
    ]


@pytest.mark.parametrize("classes", [6, pytest.param(7, marks=pytest.mark.slow)])
def test_a_second_computation_agrees(classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dims = {"t": 12, "a": 2, "v": 3}
    p = released_parameters(dims, classes)
    extra = {"n_speakers": np.array(SPEAKERS)}
    fixed = [name for name in p if "running" in name or "tracked" in name]
    write_vectors(tmp_path / "own.npz", p, talks_of(dims, classes), forward, extra, fixed)
    assert main(["M3NET", str(tmp_path / "own.npz")]) == 0, capsys.readouterr()


def test_a_modality_that_is_missing_is_no_node() -> None:
    """It has no edges, and is counted nowhere."""
    dims = {"t": 12, "a": 2, "v": 3}
    p = released_parameters(dims, 6)
    for letter in "abcd":  # features are as they are
        p |= {f"normBN{letter}.running_mean": np.zeros(3), f"normBN{letter}.running_var": np.full(3, 1 - 1e-5)}
    talks = talks_of(dims, 6)
    talks[0].features["t"][0] = talks[0].features["a"][:2] = np.nan
    for x_nd in (talks[2].features["t"], talks[2].features["v"], *(talks[2].features[m][:1] for m in "tav")):
        x_nd[:] = np.nan
    sizes = Sizes(SPEAKERS)
    sizes.classes = tuple("abcdef")
    with jax.enable_x64(True):
        converted = convert("M3NET", Weights(p, 6, SPEAKERS), sizes)
        batch = pack(talks, ((0, 2), (1,)), 7)
        assert batch.present
        outputs = outputs_of(converted.model, jax.tree.map(jnp.asarray, converted.params), batch)
        found = unpack(jax.nn.log_softmax(outputs.logits_rlc), batch)
    # What is missing is read by no layer that matters; a batch holds float32.
    known = [replace(c, features={m: x.astype(np.float32).astype(float) for m, x in c.features.items()}) for c in talks]
    expected = [forward(p, talk) for talk in known]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("dataset", "audio", "speakers", "live"), [("iemocap", 1582, 2, 4_178_498), ("meld", 300, 9, 10_683_458)]
)
def test_number_of_parameters(dataset: str, audio: int, speakers: int, live: int) -> None:
    """The live count of the released code, whose tables of weights by place are longer than a conversation needs."""
    options = {
        name.removeprefix("model."): value
        for name, value in recipe_options("released", "m3net", dataset).items()
        if name.startswith("model.")
    }
    batch = pack(conversations((2,)), ((0,),), 2)
    dims = {"t": 4096, "a": audio, "v": 342}
    batch = batch.replace(features={m: jnp.zeros((1, 2, d)) for m, d in dims.items()})
    sizes = Sizes(speakers)
    sizes.classes = CLASSES[dataset]
    count = {}
    for weighted in (0, 997):
        model = make_model(MODELS["m3net"](**options, weighted_utterances=weighted), sizes, "tav", "float32")
        shapes = jax.eval_shape(lambda model=model: model.init(jax.random.key(0), batch, train=False))["params"]
        count[weighted] = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
    edges, nodes = 1000, 5200
    assert count[0] + edges + nodes == live
    assert count[997] + nodes - 3 * (edges - 3) == live


def test_weights_by_place_are_those_of_the_place_in_the_conversation() -> None:
    talks, model = conversations((5, 1, 4, 7)), small_model("m3net", weighted_utterances=4)  # fewer than utterances
    batches = [pack(talks, rows, slots) for rows, slots in ((((0,), (1,), (2,), (3,)), 7), (((3, 0), (2, 1)), 13))]
    params = jax.tree.map(jnp.abs, random_params(model, batches[0]))
    found = [unpack(outputs_of(model, params, batch).logits_rlc, batch) for batch in batches]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-5)
    plain = {**params, "hypergraph": {"bias": params["hypergraph"]["bias"]}}
    other = unpack(outputs_of(small_model("m3net"), plain, batches[0]).logits_rlc, batches[0])
    assert not np.allclose(found[0], other, rtol=1e-3, atol=1e-3)
    # At the start they are 1, as they are without: the model is the same.
    ones = {name: jax.tree.map(jnp.ones_like, params["hypergraph"][name]) for name in ("edge_weights", "node_weights")}
    same = outputs_of(model, {**params, "hypergraph": {**plain["hypergraph"], **ones}}, batches[0]).logits_rlc
    np.testing.assert_allclose(unpack(same, batches[0]), other, rtol=1e-6, atol=1e-6)


def test_places_beyond_the_table_weigh_1() -> None:
    weights = PlaceWeights(3)
    params = {"weight": jnp.asarray([0.5, 2.0, 3.0])}
    place = jnp.asarray([[2, 0], [3, 9]])
    np.testing.assert_array_equal(weights.apply({"params": params}, place), [[3.0, 0.5], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("width", 7, "must be even"),
        ("graph_width", 0, "must be positive"),
        ("text_layers", 0, "must be positive"),
        ("weighted_utterances", -1, "0 or more"),
    ],
)
def test_wrong_options(option: str, value: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        MODELS["m3net"](**{option: value})
