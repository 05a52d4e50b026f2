"""DialogueRNN against a second computation of its equations in NumPy, and what is special to it."""

from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from every_model import Sizes, random_params, small_model
from own_vectors import Parameters, write_vectors
from recurrences import cell_shapes, features_of, gru, matched, short_conversations
from samples import CLASSES, SPEAKERS, conversations, outputs_of, pack, unpack

from cmath_jax.data.corpus import Conversation
from cmath_jax.models.baselines.dialogue_rnn import emotion_rate
from cmath_jax.models.baselines.released import compare, main
from cmath_jax.models.baselines.speaker_states import Places, _states, emotions
from cmath_jax.models.baselines.vectors import read_vectors
from cmath_jax.models.options import recipe_options
from cmath_jax.models.options.dialogue_rnn import DialogueRNNOptions
from cmath_jax.models.registry import make_model

FEATURES, GLOBAL, PARTY, EMOTION, HIDDEN = 4, 3, 2, 2, 3


def released_parameters() -> dict[str, np.ndarray]:
    """Returns parameters by the names of the released code."""
    shapes: dict[str, tuple[int, ...]] = {}
    for direction in "fr":
        name = f"dialog_rnn_{direction}.dialogue_cell"
        shapes |= cell_shapes(f"{name}.g_cell", FEATURES + PARTY, GLOBAL, 3)
        shapes |= cell_shapes(f"{name}.p_cell", FEATURES + GLOBAL, PARTY, 3)
        shapes |= cell_shapes(f"{name}.e_cell", PARTY, EMOTION, 3)
        shapes[f"{name}.attention.transform.weight"] = (GLOBAL, FEATURES)
    both = 2 * EMOTION
    shapes |= {"matchatt.transform.weight": (both, both), "matchatt.transform.bias": (both,)}
    shapes |= {"linear.weight": (HIDDEN, both), "linear.bias": (HIDDEN,)}
    shapes |= {"smax_fc.weight": (CLASSES, HIDDEN), "smax_fc.bias": (CLASSES,)}
    rng = np.random.default_rng(1)
    return {name: 0.7 * rng.normal(size=shape) for name, shape in shapes.items()}


def direction_of(p: Parameters, name: str, u_nd: np.ndarray, speaker_n: np.ndarray) -> np.ndarray:
    """Returns the emotion after each utterance, in the order given."""
    history, emotions = [np.zeros(GLOBAL)], [np.zeros(EMOTION)]
    parties = {speaker: np.zeros(PARTY) for speaker in speaker_n}
    for u, speaker in zip(u_nd, speaker_n, strict=True):
        context = np.zeros(GLOBAL)
        if said := history[1:]:
            score = np.array([g @ (p[f"{name}.attention.transform.weight"] @ u) for g in said])
            context = reference.softmax(score) @ np.array(said)
        history.append(gru(p, f"{name}.g_cell", np.concatenate([u, parties[speaker]]), history[-1]))
        parties[speaker] = gru(p, f"{name}.p_cell", np.concatenate([u, context]), parties[speaker])
        emotions.append(gru(p, f"{name}.e_cell", parties[speaker], emotions[-1]))
    return np.array(emotions[1:])


def forward(p: Parameters, talk: Conversation, attention: bool = True) -> np.ndarray:
    """Returns log-probabilities [n, c]."""
    u_nd = features_of(talk)
    onwards = direction_of(p, "dialog_rnn_f.dialogue_cell", u_nd, talk.speakers)
    backwards = direction_of(p, "dialog_rnn_r.dialogue_cell", u_nd[::-1], talk.speakers[::-1])[::-1]
    e_nd = np.concatenate([onwards, backwards], axis=1)
    if attention:
        e_nd = matched(p, "matchatt.transform", e_nd)
    hidden_nd = np.maximum(e_nd @ p["linear.weight"].T + p["linear.bias"], 0)
    return np.log(reference.softmax(hidden_nd @ p["smax_fc.weight"].T + p["smax_fc.bias"]))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "own.npz"
    write_vectors(path, released_parameters(), short_conversations(), forward)
    return path


def test_it_computes_the_equations(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["DialogueRNN", str(vectors)]) == 0, capsys.readouterr()


def test_it_computes_them_without_the_attention(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    write_vectors(
        path,
        released_parameters(),
        short_conversations(),
        lambda p, talk: forward(p, talk, attention=False),
        fixed=list(released_parameters()),
    )
    converted, found = compare("DialogueRNN", read_vectors(path), {"attention": False})
    assert "attention" not in converted.params
    assert found.log_probability < 1e-12 and found.loss < 1e-12


@pytest.mark.parametrize(
    ("dataset", "dims", "speakers", "classes", "count"),
    [
        ("iemocap", {"t": 100}, 2, 6, 8_880_406),
        ("meld", {"t": 600, "a": 300}, 9, 7, 2_666_607),
        ("iemocap", {"t": 1024, "a": 1582, "v": 342}, 2, 6, 28_816_406),
        ("meld", {"t": 1024, "a": 300, "v": 342}, 9, 7, 4_275_207),
    ],
)
def test_number_of_parameters(dataset: str, dims: dict[str, int], speakers: int, classes: int, count: int) -> None:
    """It is that of the released code, of which no parameter is without a use."""
    recipe = recipe_options("released", "dialogue_rnn", dataset)
    options = {name.removeprefix("model."): x for name, x in recipe.items() if name.startswith("model.")}
    sizes = Sizes(speakers)
    sizes.classes = tuple(map(str, range(classes)))
    model = make_model(DialogueRNNOptions(**options), sizes, "".join(dims), "float32")
    batch = pack(conversations((2,)), ((0,),), 2)
    batch = batch.replace(features={m: jnp.zeros((1, 2, d)) for m, d in dims.items()})
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
    assert sum(x.size for x in jax.tree.leaves(shapes)) == count


def test_renaming_speakers_changes_nothing() -> None:
    """A speaker is known by what was said alone."""
    batch, model = pack(conversations((5, 1, 4)), ((0, 1), (2,)), 7), small_model("dialogue_rnn")
    params = random_params(model, batch)
    renamed = batch.replace(speaker_rl=jnp.asarray([7, 0, 5])[batch.speaker_rl])
    one = batch.replace(speaker_rl=jnp.zeros_like(batch.speaker_rl))
    expected, same, other = (
        unpack(outputs_of(model, params, each).logits_rlc, batch) for each in (batch, renamed, one)
    )
    np.testing.assert_allclose(same, expected, rtol=1e-6, atol=1e-6)
    assert not np.allclose(other, expected, rtol=1e-3)


def test_the_gradient_is_that_of_the_scan() -> None:
    """With dropout too, of which released vectors have none; several conversations to a row."""
    batch = pack(conversations((5, 1, 4, 2)), ((0, 1, 3), (2,)), 10)
    rng, slots = np.random.default_rng(6), (10, 2, 2)  # [l, g, r]
    widths = {"global": (PARTY, GLOBAL), "party": (GLOBAL, PARTY), "emotion": (PARTY, EMOTION)}
    weights, inputs = {}, {"query": rng.normal(size=(*slots, GLOBAL))}
    for name, (heard, d) in widths.items():
        weights |= {
            f"{name}_heard": rng.normal(size=(2, heard, 3 * d)),
            f"{name}_state": rng.normal(size=(2, d, 3 * d)),
        }
        weights |= {f"{name}_{kind}_bias": rng.normal(size=(2, 3 * d)) for kind in ("heard", "state")}
        inputs |= {f"keep_{name}": 2.0 * rng.integers(2, size=(*slots, d))}
        inputs |= {} if name == "emotion" else {name: rng.normal(size=(*slots, 3 * d))}
    factor_lgrd = rng.normal(size=(*slots, EMOTION))
    with jax.enable_x64(True):
        places = Places.of(batch, SPEAKERS, 2)
        arguments = jax.tree.map(jnp.asarray, (weights, inputs))
        ours = jax.jit(jax.grad(lambda x: (emotions(*x, places) * factor_lgrd).sum()))(arguments)
        scan = jax.jit(jax.grad(lambda x: (_states(*x, places)[0] * factor_lgrd).sum()))(arguments)
        for gradients in (ours, scan):  # the rate of dropout is no parameter
            for name in widths:
                del gradients[1][f"keep_{name}"]
        chex.assert_trees_all_close(ours, scan, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0.0), (0.1, 0.25), (0.5, 0.65), (0.99, 0.99)])
def test_emotions_are_dropped_more_often(rate: float, expected: float) -> None:
    np.testing.assert_allclose(emotion_rate(rate), expected, rtol=1e-6)


def test_memory_grows_with_the_slots_and_not_with_their_square() -> None:
    """The gradient keeps no history for each slot: that would be 256 times the states."""
    model = small_model("dialogue_rnn", width=64)

    def bytes_of(slots: int) -> int:
        batch = pack(conversations((slots,)), ((0,),), slots)
        params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]

        def loss_of(params: Any) -> jax.Array:
            return model.apply(
                {"params": params}, batch, train=True, rngs={"dropout": jax.random.key(1)}
            ).logits_rlc.sum()

        compiled = jax.jit(jax.grad(loss_of)).lower(params).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert bytes_of(256) < 4 * bytes_of(64) * 1.5
