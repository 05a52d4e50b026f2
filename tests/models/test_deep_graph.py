"""MMGCN and MM-DFN against a second computation of their equations; their graph, their parties and their counts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_model import Sizes, random_params, small_model
from own_vectors import Parameters, write_vectors
from samples import conversations, pack

from cmath_jax.config import Config, override
from cmath_jax.data.corpus import Conversation
from cmath_jax.errors import InputError
from cmath_jax.models.baselines.deep_graph import Graph, angular_graph, heard, normalized
from cmath_jax.models.baselines.released import compare, main
from cmath_jax.models.baselines.vectors import read_vectors
from cmath_jax.models.layers import Context
from cmath_jax.models.options import recipe_options
from cmath_jax.models.registry import make_model

VECTORS = Path(__file__).parents[3] / "shared" / "conformance"
WIDTH, GRAPH_WIDTH, LAYERS, CLASSES, SPEAKERS = 4, 2, 2, 3, 2
DIMS = {"a": 2, "v": 1, "t": 3}
LETTERS = {"a": "a", "v": "v", "t": "l"}  # in the order of the released nodes
PARTY_WEIGHTS = {"a": 0.5, "v": 0.5, "t": 1.5}
LENGTHS = (3, 2, 1)
Cell = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


# The second computation: one conversation at a time, float64, by the names of the released code.


def linear(p: Parameters, name: str, x_nd: np.ndarray) -> np.ndarray:
    result: np.ndarray = x_nd @ p[f"{name}.weight"].T + p[f"{name}.bias"]
    return result


def sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-x))
    return result


def gru(i: np.ndarray, s: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    (i_r, i_z, i_n), (s_r, s_z, s_n) = np.split(i, 3, axis=-1), np.split(s, 3, axis=-1)
    z = sigmoid(i_z + s_z)
    return (1 - z) * np.tanh(i_n + sigmoid(i_r + s_r) * s_n) + z * h, c


def lstm(i: np.ndarray, s: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    enter, forget, candidate, leave = np.split(i + s, 4, axis=-1)
    c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(candidate)
    return sigmoid(leave) * np.tanh(c), c


def take_step(p: Parameters, name: str, ending: str, cell: Cell, x: np.ndarray, state: Any) -> Any:
    """A step of a cell from the state (h, c)."""
    of_input = x @ p[f"{name}.weight_ih_{ending}"].T + p[f"{name}.bias_ih_{ending}"]
    of_state = state[0] @ p[f"{name}.weight_hh_{ending}"].T + p[f"{name}.bias_hh_{ending}"]
    return cell(of_input, of_state, *state)


def recurrent(p: Parameters, name: str, cell: Cell, x_xnd: np.ndarray) -> np.ndarray:
    """Two layers in both directions, of one sequence or several."""
    for layer in (0, 1):
        ways = []
        for ending, order in ((f"l{layer}", 1), (f"l{layer}_reverse", -1)):
            empty = np.zeros((*x_xnd.shape[:-2], WIDTH // 2))
            state, states = (empty, empty), []
            for x in np.moveaxis(x_xnd, -2, 0)[::order]:
                state = take_step(p, name, ending, cell, x, state)
                states.append(state[0])
            ways.append(np.stack(states[::order], axis=-2))
        x_xnd = np.concatenate(ways, axis=-1)
    return x_xnd


def parties(p: Parameters, u_mnd: np.ndarray, speaker_n: np.ndarray, padding: bool) -> np.ndarray:
    result = np.zeros_like(u_mnd)
    for speaker in set(speaker_n):
        own = np.flatnonzero(speaker_n == speaker)
        alone = np.zeros((len(u_mnd), len(speaker_n) if padding else len(own), WIDTH))
        alone[:, : len(own)] = u_mnd[:, own]
        result[:, own] = recurrent(p, "rnn_parties", gru, alone)[:, : len(own)]
    return result


def dense_graph(x_nd: np.ndarray, modality_n: np.ndarray, utterance_n: np.ndarray) -> np.ndarray:
    """P of any nodes [n, n]: of which modality and utterance each is."""
    unit_nd = x_nd / np.linalg.norm(x_nd, axis=1, keepdims=True)
    linked_nn = (modality_n[:, None] == modality_n) | (utterance_n[:, None] == utterance_n)
    weight_nn = linked_nn * (1 - np.arccos(0.99999 * unit_nd @ unit_nd.T) / np.pi)
    degree_n = weight_nn.sum(1)
    result: np.ndarray = weight_nn / np.sqrt(degree_n[:, None] * degree_n[None])
    return result


def forward(p: Parameters, talk: Conversation, memory: bool, padding: bool = True) -> np.ndarray:
    """MMGCN, or MM-DFN, which has a memory."""
    n = len(talk)
    u = {m: linear(p, f"linear_{letter}", talk.features[m]) for m, letter in LETTERS.items()}
    nodes = {**u, "t": recurrent(p, "lstm_l", gru if memory else lstm, u["t"])}
    if memory:
        own = parties(p, np.stack([*u.values()]), talk.speakers, padding)
        nodes = {m: nodes[m] + PARTY_WEIGHTS[m] * own_nd for m, own_nd in zip(u, own, strict=True)}
    else:
        nodes["t"] = nodes["t"] + p["graph_model.speaker_embeddings.weight"][talk.speakers]
    x_nd = np.concatenate([*nodes.values()])
    p_nn = dense_graph(x_nd, np.repeat(np.arange(3), n), np.tile(np.arange(n), 3))
    first = h = np.maximum(linear(p, "graph_model.graph_net.fcs.0", x_nd), 0)
    state, alpha = (np.zeros_like(h), np.zeros_like(h)), 0.2 if memory else 0.1
    for layer in range(LAYERS):
        theta, before = math.log(0.5 / (layer + 1) + 1), h
        if memory:
            state = take_step(p, "graph_model.graph_net.rnn", "l0", lstm, h, state)
            h = state[0]
        r = p_nn @ h
        mixed = np.concatenate([r, first], axis=1) @ p[f"graph_model.graph_net.convs.{layer}.weight"]
        h = np.maximum(theta * mixed + (1 - theta) * ((1 - alpha) * r + alpha * first), 0)
        h = h + before if memory else h
    said = np.concatenate(np.split(np.concatenate([x_nd, h], axis=1), 3), axis=1)
    logits_nc = linear(p, "smax_fc", np.maximum(said, 0))
    result: np.ndarray = logits_nc - np.log(np.exp(logits_nc).sum(1, keepdims=True))
    return result


def released_parameters(memory: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {
        f"linear_{letter}.{part}": (WIDTH, DIMS[m])[: 1 + (part == "weight")]
        for m, letter in LETTERS.items()
        for part in ("weight", "bias")
    }
    cells = {("lstm_l", f"l{layer}{way}"): (WIDTH, WIDTH // 2) for layer in (0, 1) for way in ("", "_reverse")}
    gates = {"lstm_l": 3 if memory else 4, "rnn_parties": 3, "graph_model.graph_net.rnn": 4}
    if memory:
        cells |= {("rnn_parties", ending): sizes for (_, ending), sizes in cells.items()}
        cells["graph_model.graph_net.rnn", "l0"] = (GRAPH_WIDTH, GRAPH_WIDTH)
    for (name, ending), (d, w) in cells.items():
        for part, shape in (("weight_ih", (d,)), ("weight_hh", (w,)), ("bias_ih", ()), ("bias_hh", ())):
            shapes[f"{name}.{part}_{ending}"] = (gates[name] * w, *shape)
    graph = "graph_model.graph_net"
    shapes |= {f"{graph}.fcs.0.weight": (GRAPH_WIDTH, WIDTH), f"{graph}.fcs.0.bias": (GRAPH_WIDTH,)}
    shapes |= {f"{graph}.convs.{layer}.weight": (2 * GRAPH_WIDTH, GRAPH_WIDTH) for layer in range(LAYERS)}
    shapes |= {"smax_fc.weight": (CLASSES, 3 * (WIDTH + GRAPH_WIDTH)), "smax_fc.bias": (CLASSES,)}
    # MM-DFN does not use its speakers, and neither of them the last two.
    shapes |= {"graph_model.speaker_embeddings.weight": (SPEAKERS, WIDTH)}
    shapes |= {"graph_model.a_fc.bias": (WIDTH,), "att_model.att.w_k.weight": (2, 2)}
    return {name: rng.normal(size=shape) / math.sqrt(shape[-1]) for name, shape in shapes.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "padding"), [("MMGCN", True), ("MMDFN", True), ("MMDFN", False)])
def test_a_second_computation_agrees(name: str, padding: bool, tmp_path: Path) -> None:
    rng, path, memory = np.random.default_rng(8), tmp_path / "own.npz", name == "MMDFN"
    talks = [
        Conversation(
            f"c{k}",
            {m: rng.normal(size=(n, d)) for m, d in DIMS.items()},
            (np.arange(n) % SPEAKERS).astype(np.int32),
            rng.integers(CLASSES, size=n).astype(np.int32),
        )
        for k, n in enumerate(LENGTHS)
    ]
    write_vectors(path, released_parameters(memory), talks, lambda p, talk: forward(p, talk, memory, padding))
    if padding:
        assert main([name, str(path)]) == 0
    else:
        assert compare(name, read_vectors(path), {"party_padding": False})[1].agree
        assert not compare(name, read_vectors(path))[1].agree


@pytest.mark.slow
@pytest.mark.parametrize("case", [1, 2])
def test_parties_without_padding_are_the_variant_of_the_vectors(case: int) -> None:
    path = VECTORS / f"MMDFN_case{case}.npz"
    if not path.exists():
        pytest.skip("no test vectors of released code beside the project")
    vectors = read_vectors(path)
    variant = [vectors.extra[f"logp_variant_partytrunc/{k}"] for k in range(len(vectors.conversations))]
    _, deviations = compare("MMDFN", replace(vectors, log_probabilities=variant), {"party_padding": False})
    assert deviations.log_probability < 1e-9


@pytest.mark.parametrize(
    ("name", "dataset", "audio", "speakers", "layers", "expected"),
    [
        ("mmgcn", "iemocap", 1582, 2, 64, 2_379_306),
        ("mmgcn", "meld", 300, 9, 64, 2_125_207),
        ("mm_dfn", "iemocap", 1582, 2, 16, 1_741_306),
        ("mm_dfn", "meld", 300, 9, 64, 2_445_807),
    ],
)
def test_number_of_parameters(name: str, dataset: str, audio: int, speakers: int, layers: int, expected: int) -> None:
    """That of the released code without its dead ones, by the recipe of its authors."""
    config = override(Config(), {"model.name": name, **recipe_options("released", name, dataset)})
    sizes = Sizes(speakers)
    sizes.classes = tuple("123456" if dataset == "iemocap" else "1234567")
    model: Any = make_model(config.model, sizes, "tav", "float32")
    assert model.layers == layers
    batch = pack(conversations((2,)), ((0,),), 2)
    batch = batch.replace(features={m: jnp.zeros((1, 2, d)) for m, d in (("t", 1024), ("a", audio), ("v", 342))})
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == expected


def context_of(
    lengths: tuple[int, ...], slots: int, present_mrl: np.ndarray | None = None, causal: bool = False
) -> Any:
    """The context of conversations in one row."""
    segment = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    position = np.concatenate([np.arange(n) for n in lengths])
    columns = [
        jnp.asarray(np.pad(x, (0, slots - len(x)), constant_values=empty)[None])
        for x, empty in ((np.arange(len(segment)), -1), (position, 0), (segment, 0))
    ]
    present = None if present_mrl is None else jnp.asarray(present_mrl)
    return Context(*columns, present, 0.0, train=False, causal=causal)


def test_the_graph_has_no_node_where_a_modality_is_missing() -> None:
    """The graph of a row is, conversation by conversation, the whole matrix of the nodes that there are."""
    rng, lengths, slots = np.random.default_rng(0), (4, 1, 3), 10
    present_mrl = rng.random((3, 1, slots)) < 0.6
    context = context_of(lengths, slots, present_mrl)
    x_mrld = rng.normal(size=(3, 1, slots, 5)) * present_mrl[..., None]
    h_mrld = rng.normal(size=(3, 1, slots, 2))
    with jax.enable_x64(True):
        result = np.asarray(heard(normalized(angular_graph(jnp.asarray(x_mrld), context)), jnp.asarray(h_mrld)))
    expected = np.zeros_like(h_mrld)
    for segment in (1, 2, 3):
        modality_n, _, slot_n = np.nonzero(present_mrl & (np.asarray(context.segment_rl) == segment)[None])
        nodes = (modality_n, 0, slot_n)
        expected[nodes] = dense_graph(x_mrld[nodes], modality_n, slot_n) @ h_mrld[nodes]
    np.testing.assert_allclose(result, expected, atol=1e-12)


def test_a_causal_graph_hears_nothing_later() -> None:
    x_mrld = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 6, 3)), jnp.float32)
    graph = angular_graph(x_mrld, context_of((4, 2), 6, causal=True))
    assert float(jnp.abs(jnp.triu(graph.own_mrqk, 1)).max()) == 0
    assert int((graph.own_mrqk > 0).sum()) == 2 * (10 + 3)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_nodes_of_zeros_and_equal_nodes_have_a_finite_gradient(value: float) -> None:
    def total_of(x_mrld: jax.Array) -> jax.Array:
        graph: Graph = normalized(angular_graph(x_mrld, context_of((4, 2), 7)))
        return graph.own_mrqk.sum() + graph.cross_mmrl.sum()

    total, gradient = jax.value_and_grad(total_of)(jnp.full((3, 1, 7, 5), value))
    assert math.isfinite(total)
    assert bool(jnp.isfinite(gradient).all())


def test_parties_without_weight_have_no_parameters() -> None:
    batch = pack(conversations((3,)), ((0,),), 3)
    weights = {"party_audio": 0.0, "party_text": 0.0}
    for modalities, has in (("tav", True), ("ta", False)):
        params = random_params(small_model("mm_dfn", modalities, layers=1, **weights), batch)
        assert ("party_context" in params) == has


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mmgcn", {"width": 7}, "model.width=7 is odd"),
        ("mmgcn", {"graph_width": 0}, "model.graph_width=0 must be positive"),
        ("mm_dfn", {"layers": 0}, "model.layers=0 must be positive"),
        ("mm_dfn", {"party_text": -1.0}, "model.party_text=-1.0 must be a number of 0 or more"),
    ],
)
def test_options_are_checked(name: str, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        override(Config(), {"model.name": name, **{f"model.{each}": value for each, value in options.items()}})
