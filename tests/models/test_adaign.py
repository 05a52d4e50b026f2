"""AdaIGN against a second computation of its equations, its parameters and options."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_model import Sizes, random_params, small_model
from own_vectors import Parameters, write_vectors
from samples import DIMS, conversations, pack

from cmath_jax.config import Config, override
from cmath_jax.data.corpus import Conversation
from cmath_jax.errors import InputError
from cmath_jax.models.baselines.released import main
from cmath_jax.models.options import recipe_options
from cmath_jax.models.registry import make_model

WIDTH, GRAPH_WIDTH, LAYERS, ROWS, TEXT = 4, 3, 2, 4, 4  # TEXT: layers of a language model
READ = {"l": 3, "a": 2, "v": 3}  # the widths of the layers that read the features
PARTY_WEIGHTS = {"a": 0.5, "v": 0.5, "l": 1.5}
LENGTHS = (3, 2, 1)


# The second computation: one conversation at a time, float64, by the names and in the order (a, v, l) of released code.


def linear(p: Parameters, name: str, x_nd: np.ndarray) -> np.ndarray:
    result: np.ndarray = x_nd @ p[f"{name}.weight"].T + p[f"{name}.bias"]
    return result


def sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-x))
    return result


def gru(p: Parameters, name: str, x_xnd: np.ndarray) -> np.ndarray:
    """Two layers, both directions, of several sequences x."""
    for layer in (0, 1):
        kernels = {
            part: np.stack([p[f"{name}.{part}_l{layer}{way}"] for way in ("", "_reverse")])
            for part in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        }
        both = np.stack([x_xnd, x_xnd[:, ::-1]])  # [way, x, n, d]
        inputs = np.split(both @ kernels["weight_ih"][:, None].mT + kernels["bias_ih"][:, None, None], 3, axis=-1)
        h, states = np.zeros((2, len(x_xnd), WIDTH // 2)), []
        for t in range(x_xnd.shape[1]):
            of_state = np.split(h @ kernels["weight_hh"].mT + kernels["bias_hh"][:, None], 3, axis=-1)
            reset, update = (sigmoid(inputs[gate][:, :, t] + of_state[gate]) for gate in (0, 1))
            h = (1 - update) * np.tanh(inputs[2][:, :, t] + reset * of_state[2]) + update * h
            states.append(h)
        forth, back = np.stack(states, axis=2)
        x_xnd = np.concatenate([forth, back[:, ::-1]], axis=-1)
    return x_xnd


def parties(p: Parameters, u: Mapping[str, np.ndarray], speaker_n: np.ndarray) -> dict[str, np.ndarray]:
    """Of each modality and speaker the own utterances, and zeros behind them up to the length of the conversation."""
    own = [np.flatnonzero(speaker_n == speaker) for speaker in sorted(set(speaker_n))]
    padded = np.zeros((len(u), len(own), *u["l"].shape))
    for i, u_nd in enumerate(u.values()):
        for j, places in enumerate(own):
            padded[i, j, : len(places)] = u_nd[places]
    states = gru(p, "rnn_parties", padded.reshape(-1, *u["l"].shape)).reshape(padded.shape)
    heard = np.zeros((len(u), *u["l"].shape))
    for j, places in enumerate(own):
        heard[:, places] = states[:, j, : len(places)]
    return dict(zip(u, heard, strict=True))


def graph(nodes: Sequence[np.ndarray], speaker_n: np.ndarray, contexts: Sequence[np.ndarray] | None) -> np.ndarray:
    """The normalized weights between all 3 n nodes; None hears all speakers alike."""
    n = len(speaker_n)
    unit = [x_nd / np.linalg.norm(x_nd, axis=1, keepdims=True) for x_nd in nodes]
    similar = [[1 - np.arccos(0.99999 * x_nd @ y_nd.T) / np.pi for y_nd in unit] for x_nd in unit]
    blocks = [
        [np.diag(np.diag(similar[i][j])) if i != j else np.tril(similar[i][j]) for j in range(3)] for i in range(3)
    ]
    if contexts is not None:
        own_nn = speaker_n[:, None] == speaker_n[None, :]
        for i, context_n in enumerate(contexts):
            blocks[i][i] = blocks[i][i] * np.where(own_nn, context_n[:, None], 1 - context_n[:, None])
    weights = np.block(blocks)
    assert weights.shape == (3 * n, 3 * n)
    degree = weights.sum(1)
    result: np.ndarray = weights / np.sqrt(degree[:, None] * degree[None, :])
    return result


def convolved(p: Parameters, name: str, nodes: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    first = np.maximum(linear(p, f"{name}.fcs.0", np.concatenate(nodes)), 0)
    h = first
    for layer in range(LAYERS):
        theta, heard = math.log(0.5 / (layer + 1) + 1), weights @ h
        mixed = np.concatenate([heard, first], axis=1) @ p[f"{name}.convs.{layer}.weight"]
        h = np.maximum(theta * mixed + (1 - theta) * (0.8 * heard + 0.2 * first), 0)
    return residual(np.split(h, 3))


def residual(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([share * x_nd for share, x_nd in zip((0.1, 0.1, 0.8), parts, strict=True)], axis=1)


def policy(p: Parameters, name: str, n: int) -> np.ndarray:
    """Of the places of a conversation of n utterances, from the last row up."""
    logits = p[name][-n:] / 5
    result: np.ndarray = np.exp(logits[:, 0]) / np.exp(logits).sum(1)
    return result


def forward(
    p: Parameters,
    talk: Conversation,
    forced: Mapping[str, np.ndarray],
    party: bool,
    hard: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Returns log-probabilities; `hard` has all policies of the conversation but that of the mix, which then is 0."""
    n, speaker_n = len(talk), talk.speakers
    samples, contexts = (
        {m: policy(p, f"modal{i}_{kind}0_logits", n) for i, m in enumerate("avl", start=1)}
        for kind in ("sample", "context")
    )
    contexts["a"] = np.where(forced[talk.id], 1.0, contexts["a"])
    mix = policy(p, "modal_logits", 1)[0]
    if hard is not None:
        samples, contexts = ({m: hard[f"{kind}_{m}"] for m in "avl"} for kind in ("sample", "context"))
        mix = 0.0
    read = {"l": np.zeros((n, READ["l"])), "a": linear(p, "fc2", talk.features["a"])}
    read["v"] = linear(p, "fc3", talk.features["v"])
    for name, x_nd in zip("abcd", np.split(talk.features["t"], TEXT, axis=1), strict=True):
        y_nd = linear(p, "fc1", x_nd)
        normed_nd = (y_nd - y_nd.mean(1, keepdims=True)) / np.sqrt(y_nd.var(1, keepdims=True) + 1e-5)
        read["l"] = read["l"] + (normed_nd * p[f"normLN{name}.weight"] + p[f"normLN{name}.bias"]) / TEXT

    graphs = []
    for ending, taken in (("", {m: np.ones(n) for m in "avl"}), ("1", samples)):
        u = {m: linear(p, f"linear_{m}{ending}", taken[m][:, None] * read[m]) for m in "av"}
        u["l"] = linear(p, f"linear_l{ending}", read["l"])
        nodes = {**u, "l": gru(p, f"lstm_l{ending}", u["l"][None])[0]}
        if party:
            for m, heard_nd in parties(p, u, speaker_n).items():
                nodes[m] = nodes[m] + PARTY_WEIGHTS[m] * taken[m][:, None] * heard_nd
        graphs.append([nodes[m] for m in "avl"])
    whole = convolved(p, "graph_model1.graph_net", graphs[0], graph(graphs[0], speaker_n, None))
    weights = graph(graphs[1], speaker_n, [contexts[m] for m in "avl"])
    chosen = convolved(p, "graph_model2.graph_net", graphs[1], weights)
    z_nd = np.concatenate([mix * whole + (1 - mix) * chosen, residual(graphs[0])], axis=1)
    logits_nc = linear(p, "smax_fc", np.maximum(z_nd, 0))
    result: np.ndarray = logits_nc - np.log(np.exp(logits_nc).sum(1, keepdims=True))
    return result


def released_parameters(dims: Mapping[str, int], classes: int, party: bool) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    shapes: dict[str, tuple[int, ...]] = {"modal_logits": (1, 2)}
    for i in (1, 2, 3):
        # Slot 1 of a batch is dead.
        shapes |= {f"modal{i}_{kind}{slot}_logits": (ROWS, 2) for kind in ("sample", "context") for slot in (0, 1)}
    for i, (m, d) in enumerate((("l", dims["t"] // TEXT), ("a", dims["a"]), ("v", dims["v"])), start=1):
        shapes |= {f"fc{i}.weight": (READ[m], d), f"fc{i}.bias": (READ[m],)}
        for ending in ("", "1"):
            shapes |= {f"linear_{m}{ending}.weight": (WIDTH, READ[m]), f"linear_{m}{ending}.bias": (WIDTH,)}
    for name in "abcd":
        shapes |= {f"normLN{name}.weight": (READ["l"],), f"normLN{name}.bias": (READ["l"],)}
    for name in ("lstm_l", "lstm_l1", *(["rnn_parties"] if party else [])):
        for ending in ("l0", "l0_reverse", "l1", "l1_reverse"):
            gates = 3 * WIDTH // 2
            shapes |= {f"{name}.weight_ih_{ending}": (gates, WIDTH), f"{name}.weight_hh_{ending}": (gates, WIDTH // 2)}
            shapes |= {f"{name}.bias_ih_{ending}": (gates,), f"{name}.bias_hh_{ending}": (gates,)}
    for name in ("graph_model1.graph_net", "graph_model2.graph_net"):
        shapes |= {f"{name}.fcs.0.weight": (GRAPH_WIDTH, WIDTH), f"{name}.fcs.0.bias": (GRAPH_WIDTH,)}
        shapes |= {f"{name}.convs.{layer}.weight": (2 * GRAPH_WIDTH, GRAPH_WIDTH) for layer in range(LAYERS)}
    shapes |= {"smax_fc.weight": (classes, 3 * (WIDTH + GRAPH_WIDTH)), "smax_fc.bias": (classes,)}
    return {name: rng.normal(size=shape) / math.sqrt(shape[-1]) for name, shape in shapes.items()}


@pytest.mark.slow
@pytest.mark.parametrize("party", [False, True], ids=["no parties", "parties"])
def test_a_second_computation_agrees(party: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    dims = {"t": 2 * TEXT, "a": 2, "v": 3}
    talks = [
        Conversation(
            f"c{k}",
            {m: rng.normal(size=(n, d)) for m, d in dims.items()},
            rng.integers(2, size=n).astype(np.int32),
            rng.integers(3, size=n).astype(np.int32),
        )
        for k, n in enumerate(LENGTHS)
    ]
    forced = {talk.id: rng.integers(2, size=len(talk)).astype(bool) for talk in talks}
    parameters, extra = released_parameters(dims, 3, party), {"mix_p_hard": np.zeros(1)}
    for k, talk in enumerate(talks):
        hard = {f"{kind}_{m}": rng.integers(2, size=len(talk)) for kind in ("sample", "context") for m in "avl"}
        extra |= {f"pos_con_a_{k}": forced[talk.id]} | {f"effhard_{name}_{k}": x for name, x in hard.items()}
        extra[f"logp_hard_{k}"] = forward(parameters, talk, forced, party, hard)
    write_vectors(tmp_path / "own.npz", parameters, talks, lambda p, talk: forward(p, talk, forced, party), extra)
    assert main(["AdaIGN", str(tmp_path / "own.npz")]) == 0
    if not party:
        extra["logp_hard_1"][0, 0] += 1e-5
        np.savez(tmp_path / "wrong.npz", **{**np.load(tmp_path / "own.npz"), **extra})
        assert main(["AdaIGN", str(tmp_path / "wrong.npz")]) == 1


@pytest.mark.parametrize(
    ("dataset", "dims", "network"),
    [("iemocap", (1024, 1582, 342), 4_946_118), ("meld", (1024, 300, 342), 3_739_113)],
)
def test_number_of_parameters(dataset: str, dims: tuple[int, ...], network: int) -> None:
    """That of the live network of the released code, and the policies: of 3 x 32 x 2 tables of 200 rows 6 act there.

    One more counts the epochs of policies, by which the temperature falls.
    """
    options = recipe_options("released", "adaign", dataset)
    config = override(Config(), {"model.name": "adaign", **options})
    sizes = Sizes(9)
    sizes.classes = tuple("123456" if dataset == "iemocap" else "1234567")
    model = make_model(config.model, sizes, "tav", "float32")
    batch = pack(conversations((2,)), ((0,),), 2)
    features = {m: jnp.zeros((1, 2, d)) for m, d in zip("tav", (4 * dims[0], *dims[1:]), strict=True)}
    batch = batch.replace(features=features)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
    policies = 6 * 200 * 2 + 2 + 1
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == network + policies
    assert sum(x.size for x in jax.tree.leaves(shapes["policies"])) == policies


def test_text_of_other_layers_is_refused() -> None:
    batch = pack(conversations((3,)), ((0,),), 3)
    with pytest.raises(InputError, match=rf"^model\.text_layers=4 does not divide {DIMS['t']} features of text"):
        random_params(small_model("adaign", text_layers=4), batch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 7}, "model.width=7 is odd"),
        ({"text_layers": 0}, "model.text_layers=0 must be positive"),
        ({"audio_width": -1}, "model.audio_width=-1 must not be negative"),
        ({"party_text": -1.0}, "model.party_text=-1.0 must be a number of 0 or more"),
        ({"temperature": 0.0}, "model.temperature=0.0 must be positive"),
        ({"temperature_decay": 1.5}, r"model.temperature_decay=1.5 is not in \(0, 1\]"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        override(Config(), {"model.name": "adaign", **{f"model.{name}": value for name, value in options.items()}})
