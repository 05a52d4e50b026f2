"""DialogueGCN, of both releases, against a second computation of its equations in NumPy, and what is special to it."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from every_model import Sizes, random_params, small_model
from own_vectors import Parameters, write_vectors
from recurrences import cell_shapes, features_of, lstm, matched, short_conversations
from samples import CLASSES, conversations, outputs_of, pack, unpack

from cmath_jax.data.corpus import Conversation
from cmath_jax.models.baselines.dialogue_gcn import edges
from cmath_jax.models.baselines.released import compare, find_released, main
from cmath_jax.models.baselines.vectors import read_vectors
from cmath_jax.models.baselines.weights import Weights
from cmath_jax.models.options import recipe_options
from cmath_jax.models.options.dialogue_gcn import DialogueGCNOptions
from cmath_jax.models.registry import make_model

FEATURES, WIDTH, HIDDEN, BASES, SPEAKERS = 4, 4, 3, 2, 2
SECOND = {"DialogueGCN": 2, "DialogueGCNorig": 3}  # the width after the second convolution: there, that of the first
PAST, FUTURE = 2, 1
LONGEST = 3  # positions of the original's table, and fewer than utterances
NAMES = {
    "DialogueGCN": ("rnn.rnn", "gcn", "clf.lin1", "clf.lin2"),
    "DialogueGCNorig": ("lstm", "graph_net", "graph_net.linear", "graph_net.smax_fc"),
}
releases = pytest.mark.parametrize("release", NAMES)


def released_parameters(release: str) -> dict[str, np.ndarray]:
    """Returns parameters by the names of a released code, with one that is dead there."""
    name, graph, hidden, classifier = NAMES[release]
    second, both = SECOND[release], WIDTH + SECOND[release]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, dim in enumerate((FEATURES, WIDTH)):
        for ending in (f"_l{layer}", f"_l{layer}_reverse"):
            shapes |= cell_shapes(name, dim, WIDTH // 2, 4, ending)
    shapes |= {f"{graph}.conv1.basis": (BASES, WIDTH, HIDDEN), f"{graph}.conv1.att": (2 * SPEAKERS**2, BASES)}
    shapes |= {f"{graph}.conv1.root": (WIDTH, HIDDEN), f"{graph}.conv1.bias": (HIDDEN,)}
    shapes |= {f"{graph}.conv2.weight": (HIDDEN, second)}
    shapes |= {f"{graph}.conv2.lin.weight": (second, HIDDEN), f"{graph}.conv2.lin.bias": (second,)}
    shapes |= {f"{hidden}.weight": (HIDDEN, both), f"{hidden}.bias": (HIDDEN,)}
    shapes |= {f"{classifier}.weight": (CLASSES, HIDDEN), f"{classifier}.bias": (CLASSES,)}
    if release == "DialogueGCN":
        shapes |= {"edge_att.weight": (WIDTH, WIDTH), "clf.emotion_att.lin.bias": (2,)}
    else:
        shapes |= {"att_model.scalar.weight": (LONGEST, WIDTH), "att_model.simpleatt.scalar.weight": (1, 2)}
        shapes |= {"graph_net.matchatt.transform.weight": (both, both), "graph_net.matchatt.transform.bias": (both,)}
    rng = np.random.default_rng(2)
    return {each: 0.7 * rng.normal(size=shape) for each, shape in shapes.items()}


def forward(release: str, p: Parameters, talk: Conversation, nodal: bool = True) -> np.ndarray:
    """Returns log-probabilities [n, c] of one conversation, edge by edge."""
    name, graph, hidden, classifier = NAMES[release]
    x_nd = features_of(talk)
    for layer in range(2):
        onwards, backwards = lstm(p, name, x_nd, f"_l{layer}"), lstm(p, name, x_nd[::-1], f"_l{layer}_reverse")[::-1]
        x_nd = np.concatenate([onwards, backwards], axis=1)

    first, second, n = f"{graph}.conv1", f"{graph}.conv2", len(talk)
    h_nd = x_nd @ p[f"{first}.root"] + p[f"{first}.bias"]
    around_nd = np.zeros((n, HIDDEN))
    windows = [range(max(0, j - PAST), min(n, j + FUTURE + 1)) for j in range(n)]
    for j, window in enumerate(windows):
        if release == "DialogueGCN":
            score = [x_nd[j] @ p["edge_att.weight"] @ x_nd[i] for i in window]
        else:
            score = [p["att_model.scalar.weight"][min(j, LONGEST - 1)] @ x_nd[i] for i in window]
        for i, weight in zip(window, reference.softmax(np.array(score)), strict=True):
            relation = 2 * (talk.speakers[j] * SPEAKERS + talk.speakers[i]) + (0 if j < i else 1)
            kernel = np.tensordot(p[f"{first}.att"][relation], p[f"{first}.basis"], 1)
            h_nd[i] += weight * x_nd[j] @ kernel
    for j, window in enumerate(windows):
        around_nd[list(window)] += h_nd[j]
    z_nd = h_nd @ p[f"{second}.lin.weight"].T + p[f"{second}.lin.bias"] + around_nd @ p[f"{second}.weight"]
    z_nd = np.concatenate([x_nd, z_nd], axis=1)
    if release == "DialogueGCNorig" and nodal:
        z_nd = matched(p, "graph_net.matchatt.transform", z_nd, bounded=True)
    y_nd = np.maximum(z_nd @ p[f"{hidden}.weight"].T + p[f"{hidden}.bias"], 0)
    return np.log(reference.softmax(y_nd @ p[f"{classifier}.weight"].T + p[f"{classifier}.bias"]))


# Both windows are seen in the longest conversation: 0 tells 1, and 2 tells 0.
EXTRA = {"edge_index/0": np.array([[0, 2], [1, 0]])}


@pytest.mark.slow
@releases
def test_it_computes_the_equations(release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, talks = tmp_path / "own.npz", short_conversations()
    write_vectors(path, released_parameters(release), talks, lambda p, talk: forward(release, p, talk), EXTRA)
    assert main([release, str(path)]) == 0, capsys.readouterr()
    assert f"past={PAST}, future={FUTURE}" in capsys.readouterr().out


@releases
def test_a_state_dict_has_the_windows_of_its_authors(release: str) -> None:
    for classes in (6, 7):
        options = find_released(release)[1].options(Weights(released_parameters(release), classes, 2))
        assert (options["past"], options["future"]) == (10, 10)


def written(path: Path, release: str, of: Callable[[Parameters, Conversation], np.ndarray], speakers: int = 2) -> Path:
    """Writes a file without gradients, in which the second speaker may have a higher index."""
    talks = [Conversation(c.id, c.features, c.speakers * (speakers - 1), c.labels) for c in short_conversations()]
    parameters = released_parameters(release)
    write_vectors(path, parameters, talks, of, EXTRA, fixed=list(parameters))
    return path


def test_it_computes_them_without_the_nodal_attention(tmp_path: Path) -> None:
    path = written(tmp_path / "own.npz", "DialogueGCNorig", lambda p, talk: forward("DialogueGCNorig", p, talk, False))
    converted, found = compare("DialogueGCNorig", read_vectors(path), {"nodal_attention": False})
    assert "nodal_attention" not in converted.params
    assert found.log_probability < 1e-12 and found.loss < 1e-12


def test_weights_of_fewer_speakers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "own.npz", "DialogueGCN", lambda p, talk: np.zeros((len(talk), CLASSES)), speakers=3)
    assert main(["DialogueGCN", str(path)]) == 2
    assert "gcn.conv1.att is of 2 speakers, and there are 3" in capsys.readouterr().err


def count_of(dims: dict[str, int], speakers: int, classes: int, **options: object) -> int:
    """Counts the parameters at the released settings."""
    recipe = recipe_options("released", "dialogue_gcn", "iemocap")
    chosen = {name.removeprefix("model."): x for name, x in recipe.items() if name.startswith("model.")} | options
    sizes = Sizes(speakers)
    sizes.classes = tuple(map(str, range(classes)))
    model = make_model(DialogueGCNOptions(**chosen), sizes, "".join(dims), "float32")
    batch = pack(conversations((2,)), ((0,),), 2)
    batch = batch.replace(features={m: jnp.zeros((1, 2, d)) for m, d in dims.items()})
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
    return sum(x.size for x in jax.tree.leaves(shapes))


IEMOCAP = {"t": 1024, "a": 1582, "v": 342}
MELD = {"t": 1024, "a": 300, "v": 342}
CORPORA = [({"t": 100}, 2, 6), (IEMOCAP, 2, 6), (MELD, 9, 7)]


@pytest.mark.parametrize(("corpus", "released"), list(zip(CORPORA, (1_204_646, 3_483_046, 2_462_167), strict=True)))
def test_number_of_parameters(corpus: tuple[dict[str, int], int, int], released: int) -> None:
    """It is that of the released code without its dead attention."""
    dead = 300 * 300 + 300
    assert count_of(*corpus) == released - dead


@pytest.mark.parametrize(("corpus", "released"), list(zip(CORPORA, (1_348_046, 3_626_446, 2_605_567), strict=True)))
def test_number_of_parameters_of_the_original(corpus: tuple[dict[str, int], int, int], released: int) -> None:
    """It is that of the released code without the three kinds of attention that it does not use."""
    dead = (200 * 200 + 200) + 200 + (2 * 200 + 3 * (200 * 200 + 200))
    assert count_of(*corpus, edge_attention="position", nodal_attention=True) == released - dead


def test_an_edge_is_within_the_window_of_its_sender() -> None:
    """The window of the sender, and not of the receiver; none to another conversation, or to padding."""
    position, segment = np.array([[0, 1, 2, 3, 0, 0]]), np.array([[1, 1, 1, 1, 2, 0]])
    expected = np.zeros((6, 6), bool)
    expected[0, [0, 1, 2]] = expected[1, [0, 1, 2, 3]] = expected[2, [1, 2, 3]] = expected[3, [2, 3]] = True
    expected[4, 4] = True
    np.testing.assert_array_equal(edges(jnp.asarray(position), jnp.asarray(segment), past=1, future=2)[0], expected)


def test_positions_beyond_the_table_have_its_last_row() -> None:
    batch = pack(conversations((7, 2)), ((0, 1),), 10)
    short, long = (small_model("dialogue_gcn", edge_attention="position", longest=x) for x in (3, 7))
    params = random_params(short, batch)
    kernel = params["edge_attention"]["kernel"]
    more = {**params, "edge_attention": {"kernel": jnp.concatenate([kernel, *[kernel[-1:]] * 4])}}
    few, many = (outputs_of(*each, batch).logits_rlc for each in ((short, params), (long, more)))
    np.testing.assert_allclose(unpack(few, batch), unpack(many, batch), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"edge_attention": "position", "nodal_attention": True}], ids=["new", "old"])
def test_a_conversation_is_the_same_beside_others_with_any_options(options: dict[str, object]) -> None:
    talks, model = conversations((5, 1, 4)), small_model("dialogue_gcn", dropout=0.4, **options)
    alone, beside = pack(talks, ((0,), (1,), (2,)), 6), pack(talks, ((2, 0, 1), ()), 13)
    params = random_params(model, alone)
    one, other = (unpack(outputs_of(model, params, each, train=True).logits_rlc, each) for each in (alone, beside))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_renaming_speakers_renames_relations() -> None:
    batch, model = pack(conversations((5, 1, 4)), ((0, 1), (2,)), 7), small_model("dialogue_gcn", speakers=3)
    params = random_params(model, batch)
    names = np.array([2, 0, 1])
    renamed = batch.replace(speaker_rl=jnp.asarray(names)[batch.speaker_rl])
    share = params["relations"]["share"][np.argsort(names)][:, np.argsort(names)]
    moved = {**params, "relations": {**params["relations"], "share": share}}
    expected, same, other = (
        unpack(outputs_of(model, p, b).logits_rlc, batch)
        for p, b in ((params, batch), (moved, renamed), (params, renamed))
    )
    np.testing.assert_allclose(same, expected, rtol=1e-6, atol=1e-6)
    assert not np.allclose(other, expected, rtol=1e-3)
