"""MultiDAG against a second computation of its equations, its gradient, and what is special to it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_model import Sizes, random_params, small_model
from own_vectors import write_vectors
from samples import CLASSES, DIMS, SPEAKERS, conversations, outputs_of, pack

from cmath_jax.config import Config, override
from cmath_jax.data.corpus import Conversation
from cmath_jax.errors import InputError
from cmath_jax.models.baselines import multidag
from cmath_jax.models.baselines.multidag import Kernels, MultiDAG, predecessors, recurrence, released_window
from cmath_jax.models.baselines.released import main
from cmath_jax.models.options.multidag import MultiDAGOptions
from cmath_jax.models.registry import make_model

LAYERS, WIDTH = 2, 4
INPUT = sum(DIMS.values())


# The second computation: one conversation, one utterance after the other, float64, by the names of the released code.


def dense(p: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    y: np.ndarray = p[f"{name}.weight"] @ x
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gru_cell(p: Mapping[str, np.ndarray], name: str, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    gates = np.split(p[f"{name}.weight_ih"] @ x + p[f"{name}.bias_ih"], 3)
    states = np.split(p[f"{name}.weight_hh"] @ h + p[f"{name}.bias_hh"], 3)
    r, z = sigmoid(gates[0] + states[0]), sigmoid(gates[1] + states[1])
    return (1 - z) * np.tanh(gates[2] + r * states[2]) + z * h


def heard_of(speakers: np.ndarray, i: int, window: int) -> list[int]:
    """Walks back from i - 1, up to and including the `window`-th utterance of the same speaker."""
    found, same = [], 0
    for j in range(i - 1, -1, -1):
        found.append(j)
        same += int(speakers[j] == speakers[i])
        if same == window:
            break
    return found


def forward(p: Mapping[str, np.ndarray], talk: Conversation, window: int) -> np.ndarray:
    x_nd = np.concatenate([talk.features[m] for m in "tav"], axis=1).astype(np.float64)
    states = [[np.maximum(dense(p, "fc1", x), 0) for x in x_nd]]
    for layer in range(LAYERS):
        new: list[np.ndarray] = []
        for i, h in enumerate(states[-1]):
            message = np.zeros(WIDTH)
            if i:
                heard = heard_of(talk.speakers, i, window)
                scores = [dense(p, f"gather.{layer}.linear", np.concatenate([h, new[j]]))[0] for j in heard]
                power = np.exp(np.array(scores) - max(scores))
                for j, alpha in zip(heard, power / power.sum(), strict=True):
                    relation = 0 if talk.speakers[j] == talk.speakers[i] else 1
                    message = message + alpha * dense(p, f"gather.{layer}.Wr{relation}", new[j])
            nodal = gru_cell(p, f"grus_c.{layer}", h, message)
            new.append(nodal + gru_cell(p, f"grus_p.{layer}", message, h))
        states.append(new)
    logits = []
    for i, x in enumerate(x_nd):
        z = np.concatenate([*(states_of_layer[i] for states_of_layer in states), x])
        for name in ("out_mlp.0", "out_mlp.2"):
            z = np.maximum(dense(p, name, z), 0)
        logits.append(dense(p, "out_mlp.5", z))
    power_nc = np.exp(np.array(logits))
    log_nc: np.ndarray = np.log(power_nc / power_nc.sum(1, keepdims=True))
    return log_nc


def released_parameters() -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, d_in: int, d_out: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (d_out, d_in)
        if bias:
            shapes[f"{name}.bias"] = (d_out,)

    linear("fc1", INPUT, WIDTH)
    for layer in range(LAYERS):
        linear(f"gather.{layer}.linear", 2 * WIDTH, 1)
        for relation in (0, 1):
            linear(f"gather.{layer}.Wr{relation}", WIDTH, WIDTH, bias=False)
        for cell in ("grus_c", "grus_p"):
            for end in ("ih", "hh"):
                shapes[f"{cell}.{layer}.weight_{end}"] = (3 * WIDTH, WIDTH)
                shapes[f"{cell}.{layer}.bias_{end}"] = (3 * WIDTH,)
        linear(f"fcs.{layer}", 2 * WIDTH, WIDTH)  # dead
    read = (LAYERS + 1) * WIDTH + INPUT
    linear("attentive_node_features.transform", read, read)  # dead
    linear("out_mlp.0", read, WIDTH)
    linear("out_mlp.2", WIDTH, WIDTH)
    linear("out_mlp.5", WIDTH, CLASSES)
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape) / math.sqrt(shape[-1]) for name, shape in shapes.items()}


@pytest.mark.parametrize("window", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_computes_what_its_equations_say(window: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Log-probabilities and the gradient, which is written by hand here and by differences there."""
    talks, extra, path = conversations((6, 1, 4)), {}, tmp_path / "vectors.npz"
    talks[0].speakers[:] = [1, 0, 1, 1, 2, 1]  # with two of one speaker to be heard
    for k, talk in enumerate(talks):
        heard = [heard_of(talk.speakers, i, window) for i in range(len(talk))]
        extra[f"adj_{k}"] = np.array([[float(j in found) for j in range(len(talk))] for found in heard])
        extra[f"same_{k}"] = (talk.speakers[:, None] == talk.speakers[None, :]).astype(float)
    write_vectors(path, released_parameters(), talks, lambda p, talk: forward(p, talk, window), extra)
    assert main(["MultiDAG", str(path)]) == 0, capsys.readouterr()
    assert f"window={window}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("speakers", "window", "expected"),
    [
        (([0, 1, 0, 1, 0, 1],), 1, 1),
        (([0, 1, 0, 1, 0, 1],), 2, 2),
        (([0, 1, 2, 0],), 2, 2),  # the last one hears all, though only one is of its speaker
        (([0, 1, 0], [0, 1, 2, 3]), 2, 2),
        (([0, 1, 2, 3], [1, 0, 0, 0]), 1, 1),
    ],
)
def test_the_window_of_vectors(speakers: Sequence[Sequence[int]], window: int, expected: int) -> None:
    pairs = []
    for who in map(np.array, speakers):
        heard = [heard_of(who, i, window) for i in range(len(who))]
        heard_nn = np.array([[j in found for j in range(len(who))] for found in heard], int)
        pairs.append((heard_nn, (who[:, None] == who).astype(int)))
    assert released_window(pairs) == expected


def test_its_gradient_is_that_of_the_loop() -> None:
    """Of the plain loop as JAX takes it, in float64: of every argument."""
    rng = np.random.default_rng(1)
    segment_rl = np.array([[1, 1, 1, 1, 1, 1, 2, 2, 2], [1, 2, 2, 2, 2, 0, 0, 0, 0]])
    speaker_rl = rng.integers(2, size=segment_rl.shape)
    with jax.enable_x64(True):
        told_lrgk = predecessors(jnp.asarray(segment_rl), jnp.asarray(speaker_rl), 1)
        d, (rows, slots) = 3, segment_rl.shape
        shapes = [(d,), (2 * d, d), (d, 6 * d), (6 * d,), (slots, rows, d), (slots, rows, 6 * d), (slots, rows, d)]
        *arrays, weight_lrd = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]

        def loss_of(function: Any, arrays: Any) -> Any:
            return (function(Kernels(*arrays[:4]), *arrays[4:], told_lrgk) * weight_lrd).sum()

        ours, plain = (
            jax.jit(jax.grad(lambda arrays, function=function: loss_of(function, arrays)))(arrays)
            for function in (recurrence, recurrence.fun)
        )
    chex.assert_trees_all_close(ours, plain, rtol=1e-9, atol=1e-11)


def test_the_gradient_keeps_no_history_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that it stores has the size of slots times slots times width, as that of the plain loop has."""
    slots, width = 64, 8
    model, batch = small_model("multidag"), pack(conversations((slots,)), ((0,),), slots)
    params = random_params(model, batch)

    def largest() -> int:
        def loss_of(params: Any) -> jax.Array:
            return model.apply({"params": params}, batch, train=False).logits_rlc.sum()

        equations = jax.make_jaxpr(jax.grad(loss_of))(params).jaxpr.eqns
        return max(math.prod(x.aval.shape) for each in equations for x in each.outvars)

    assert largest() < slots * slots * width
    monkeypatch.setattr(multidag, "recurrence", recurrence.fun)
    assert largest() >= slots * slots * width


@pytest.mark.parametrize("window", [1, 2, 3])
def test_predecessors_go_back_to_the_same_speaker(window: int) -> None:
    """In every conversation of a row by itself; padding hears nothing, and is not heard."""
    rng = np.random.default_rng(2)
    lengths = (7, 1, 9)
    segment_l = np.repeat([1, 2, 3, 0], [*lengths, 4])
    speaker_l = np.where(segment_l > 0, rng.integers(3, size=len(segment_l)), 0)
    told_lgk = np.asarray(predecessors(jnp.asarray(segment_l[None]), jnp.asarray(speaker_l[None]), window))[:, 0]
    expected_lgk = np.zeros_like(told_lgk)
    for start, length in zip((0, 7, 8), lengths, strict=True):
        speakers = speaker_l[start : start + length]
        for i in range(length):
            for j in heard_of(speakers, i, window):
                expected_lgk[start + i, 0 if speakers[j] == speakers[i] else 1, start + j] = True
    np.testing.assert_array_equal(told_lgk, expected_lgk)


@pytest.mark.parametrize(
    ("layers", "classes", "d_input", "live"),
    [(4, 6, 2948, 7_368_310), (4, 7, 1666, 6_599_411), (2, 7, 1666, 3_891_009)],
)
def test_number_of_parameters(layers: int, classes: int, d_input: int, live: int) -> None:
    """The live count of the released code, without what its softmax cancels: in each layer a scalar, and half of w.

    w.[h_i; H_j] + c: neither c nor the part of h_i depends on j, over which the softmax is.
    """
    dims = {"t": 1024, "a": d_input - 1024 - 342, "v": 342}
    batch = pack(conversations((2,)), ((0,),), 2)
    batch = batch.replace(features={m: jnp.zeros((1, 2, d)) for m, d in dims.items()})
    model = MultiDAG(classes, 2, width=300, layers=layers)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
    ours = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
    assert ours + layers * (300 + 1) == live


def test_who_speaks_matters_and_not_by_which_number() -> None:
    talks = conversations((8, 5))
    batch = pack(talks, ((0, 1),), 13)
    model = small_model("multidag", speakers=SPEAKERS)
    params = random_params(model, batch)
    renamed = batch.replace(speaker_rl=jnp.asarray([2, 0, 1])[batch.speaker_rl])
    one = batch.replace(speaker_rl=jnp.zeros_like(batch.speaker_rl))
    logits, same, other = (outputs_of(model, params, each).logits_rlc for each in (batch, renamed, one))
    np.testing.assert_allclose(logits, same, rtol=1e-5, atol=1e-6)
    assert not np.allclose(logits, other, atol=1e-3)


def test_the_first_utterance_hears_nobody() -> None:
    """So it is what it is alone."""
    talks = conversations((4,))
    features = {m: x_nd[:1] for m, x_nd in talks[0].features.items()}
    alone = [replace(talks[0], features=features, speakers=talks[0].speakers[:1], labels=talks[0].labels[:1])]
    model, batch = small_model("multidag"), pack(talks, ((0,),), 4)
    params = random_params(model, batch)
    first, only = (outputs_of(model, params, each).logits_rlc[0, 0] for each in (batch, pack(alone, ((0,),), 3)))
    np.testing.assert_allclose(first, only, rtol=1e-5, atol=1e-6)


def test_it_is_drawn_as_by_torch() -> None:
    """U(-1, 1) / sqrt(inputs), of which the score has 2 d in the released code, and that of cells / sqrt(width)."""
    model = make_model(MultiDAGOptions(width=40, layers=3), Sizes(2), "tav", "float32")
    batch = pack(conversations((3,)), ((0,),), 3)
    params = jax.jit(lambda: model.init(jax.random.key(0), batch, train=False))()["params"]
    for name, fan in {"score": 80, "relation": 40}.items():
        assert 0.8 < float(jnp.abs(params["graph"][name]).max()) * math.sqrt(fan) <= 1
    for cell in ("nodal", "contextual"):
        for name, x in params["graph"][cell].items():
            assert len(x) == 3 and 0.9 < float(jnp.abs(x).max()) * math.sqrt(40) <= 1, name
            assert not np.array_equal(x[0], x[1])


def test_recipes() -> None:
    released = override(Config(), {"model.name": "multidag", "recipe": "released", "dataset": "iemocap"})
    assert (released.train.curriculum, released.optim.clip_norm, released.optim.decoupled) == (12, 5.0, True)
    assert released.model == MultiDAGOptions(width=300, dropout=0.4, layers=4, window=1)
    with pytest.raises(InputError, match="has one for dataset=iemocap, not for dataset=meld"):
        override(Config(), {"model.name": "multidag", "recipe": "released", "dataset": "meld"})
    with pytest.raises(InputError, match=r"^model\.window=0 must be positive$"):
        override(Config(), {"model.name": "multidag", "model.window": 0})
