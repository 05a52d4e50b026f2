"""GraphSmile against a second computation of its equations, and its losses of sentiments and their shifts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from every_model import SMALL, Sizes, random_params, small_model
from own_vectors import Parameters, write_vectors
from samples import conversations, losses_of, outputs_of, pack, unpack

from cmath_jax.config import LossConfig
from cmath_jax.data.corpus import CLASSES, Conversation
from cmath_jax.errors import InputError
from cmath_jax.models.baselines.released import batch_of, convert, main
from cmath_jax.models.baselines.vectors import read_vectors
from cmath_jax.models.baselines.weights import Weights
from cmath_jax.models.options import MODELS, recipe_options
from cmath_jax.models.options.graphsmile import sentiments_of
from cmath_jax.models.registry import make_model

WIDTH, LENGTHS, PAIRS = 3, (5, 1, 2), ("tv", "ta", "va")
LAYERS = {"tv": 2, "ta": 1, "va": 1}
# By the number of classes, as the vectors of released code: before, after, the block of shifts, weights of the terms.
SETTINGS = {6: (3, 2, 4, (1.0, 0.7)), 7: (10**6, 4, 10**6, (0.5, 0.2))}
NAMES = ("joy", "sadness", "neutral", "surprise")
VECTORS = Path(__file__).parents[3] / "shared" / "conformance"


# The second computation: one conversation at a time, node by node, in float64, by the names of the released code.


def linear(p: Parameters, name: str, x_nd: np.ndarray) -> np.ndarray:
    result: np.ndarray = x_nd @ p[f"{name}.weight"].T + p[f"{name}.bias"]
    return result


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def fused(p: Parameters, talk: Conversation) -> np.ndarray:
    """The representation that all classifiers read. A modality that is missing is no node."""
    n, (past, future, *_) = len(talk), SETTINGS[len(p["emo_output.bias"])]
    has = {m: ~np.isnan(talk.features[m]).any(1) for m in "tav"}
    norm = {part: p[f"batchnorms_t.0.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    text_nd = (talk.features["t"] - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)
    x = {**talk.features, "t": text_nd * norm["weight"] + norm["bias"]}
    h = {m: leaky(linear(p, f"dim_layer_{m}.0", x[m])) for m in "tav"}
    told: list[list[np.ndarray]] = [[] for _ in range(n)]
    for pair in PAIRS:
        weight = p[f"hetergconv_{pair}.edge_weight"]
        nodes = [(m, i) for m in pair for i in range(n)]
        edges, place = {}, 0
        for m, j in nodes:
            other = pair.replace(m, "")
            for z in range(max(0, j - past), min(n - 1, j + future) + 1):
                if has[m][j] and has[other][z]:
                    edges[(m, j), (other, z)] = weight[place] if place < len(weight) else 1.0
                place += 1
        degree = {node: sum(w for (one, _), w in edges.items() if one == node) for node in nodes}
        degree = {node: d if d > 0 else 1.0 for node, d in degree.items()}
        state = {(m, i): h[m][i] for m, i in nodes if has[m][i]}
        summed = dict(state)
        for layer in range(LAYERS[pair]):
            name = f"hetergconv_{pair}.hetergcn_layers.{layer}.hetergconv"
            moved = {node: x_d @ p[f"{name}.weight"] for node, x_d in state.items()}
            state = dict.fromkeys(state, p[f"{name}.bias"])
            for (one, two), w in edges.items():
                state[one] = state[one] + w / math.sqrt(degree[one] * degree[two]) * moved[two]
            for node, x_d in state.items():
                summed[node] = summed[node] + leaky(linear(p, f"hetergconv_{pair}.fc_layers.{layer}.0", x_d))
        for (_, i), x_d in summed.items():
            told[i].append(leaky(linear(p, "modal_fusion.0", x_d)))
    return np.stack([sum(each) / len(each) if each else np.zeros(WIDTH) for each in told])


def forward(p: Parameters, talk: Conversation) -> np.ndarray:
    result: np.ndarray = reference.log_softmax(linear(p, "emo_output", fused(p, talk)))
    return result


def terms(p: Parameters, talks: Sequence[Conversation], sentiments: Sequence[int]) -> dict[str, float]:
    """The mean losses of sentiments, and of whether two utterances of a block differ in them; where both are known."""
    block, found = SETTINGS[len(p["emo_output.bias"])][2], {"sentiment": [], "shift": []}
    for talk in talks:
        f_nd = fused(p, talk)
        said = [sentiments[label] if label >= 0 else -1 for label in talk.labels]
        log_nc = reference.log_softmax(linear(p, "sen_output", f_nd))
        found["sentiment"] += [-log_nc[i, s] for i, s in enumerate(said) if s >= 0]
        for i, k in np.ndindex(len(talk), len(talk)):
            if i // block == k // block and said[i] >= 0 and said[k] >= 0:
                both = np.concatenate([f_nd[i], f_nd[k]])[None]
                log_c = reference.log_softmax(linear(p, "senshift.shift_output_layer.0", both))[0]
                found["shift"].append(-log_c[int(said[i] != said[k])])
    return {name: float(np.mean(values)) for name, values in found.items()}


def released_parameters(dims: Mapping[str, int], classes: int) -> dict[str, np.ndarray]:
    rng, d = np.random.default_rng(7), WIDTH
    p: dict[str, np.ndarray] = {}

    def layer(name: str, *shape: int) -> None:
        p[f"{name}.weight"] = rng.normal(size=shape) / math.sqrt(shape[-1])
        p[f"{name}.bias"] = 0.3 * rng.normal(size=shape[:1])

    for k in (0, 1):  # the second is dead
        layer(f"batchnorms_t.{k}", dims["t"])
        p[f"batchnorms_t.{k}.running_mean"] = rng.normal(size=dims["t"])
        p[f"batchnorms_t.{k}.running_var"] = rng.uniform(0.5, 2.0, size=dims["t"])
        p[f"batchnorms_t.{k}.num_batches_tracked"] = np.array(3.0)
    for m in "tav":
        layer(f"dim_layer_{m}.0", d, dims[m])
    for pair in PAIRS:
        p[f"hetergconv_{pair}.edge_weight"] = rng.uniform(0.5, 1.5, size=60)
        layer(f"hetergconv_{pair}.fc_layer.0", d, d)  # dead
        for k in range(LAYERS[pair]):
            layer(f"hetergconv_{pair}.hetergcn_layers.{k}.hetergconv", d, d)
            layer(f"hetergconv_{pair}.fc_layers.{k}.0", d, d)
    layer("modal_fusion.0", d, d)
    layer("emo_output", classes, d)
    layer("sen_output", 3, d)
    layer("senshift.shift_output_layer.0", 2, 2 * d)
    return p


def talks_of(dims: Mapping[str, int], classes: int, lengths: Sequence[int] = LENGTHS) -> list[Conversation]:
    rng = np.random.default_rng(3)
    return [
        Conversation(
            f"c{n}",
            {m: rng.normal(size=(n, d)) for m, d in dims.items()},
            rng.integers(2, size=n).astype(np.int32),
            rng.integers(classes, size=n).astype(np.int32),
        )
        for n in lengths
    ]


OWN = {"t": 4, "a": 2, "v": 3}


@pytest.mark.parametrize("classes", [6, pytest.param(7, marks=pytest.mark.slow)])
def test_a_second_computation_agrees(classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    p = released_parameters(OWN, classes)
    fixed = [name for name in p if "running" in name or "tracked" in name or name.startswith("sen")]
    write_vectors(tmp_path / "own.npz", p, talks_of(OWN, classes), forward, fixed=fixed)
    assert main(["GraphSmile", str(tmp_path / "own.npz")]) == 0, capsys.readouterr()


def converted_outputs(p: Parameters, talks: Sequence[Conversation], classes: int) -> tuple[Any, Any]:
    """What our model makes of these parameters, with the classes of the data set that has so many, and the batch."""
    sizes = Sizes(2)
    sizes.classes = tuple(str(c) for c in range(classes))
    past, future, window, _ = SETTINGS[classes]
    options = {"past": past, "future": future, "shift_window": window}
    converted = convert("GraphSmile", Weights(p, classes, 2), sizes, options)
    batch = pack(talks, ((0, 2), (1,)), sum(map(len, talks)))
    outputs = outputs_of(converted.model, jax.tree.map(jnp.asarray, converted.params), batch)
    return jax.tree.map(np.asarray, outputs), batch


@pytest.mark.parametrize("classes", [6, pytest.param(7, marks=pytest.mark.slow)])
def test_terms_and_missing_modalities(classes: int) -> None:
    """What is missing is no node; what has no label or no sentiment is in no term."""
    p = released_parameters(OWN, classes)
    p |= {"batchnorms_t.0.running_mean": np.zeros(4), "batchnorms_t.0.running_var": np.full(4, 1 - 1e-5)}
    talks = talks_of(OWN, classes, (9, 1, 5))
    talks[0].features["t"][3] = talks[0].features["a"][:2] = np.nan
    for x_nd in (talks[2].features["v"], *(talks[2].features[m][:1] for m in "tav")):
        x_nd[:] = np.nan
    talks[0].labels[4] = -1
    for talk in talks:  # a batch holds float32
        talk.features.update({m: x.astype(np.float32).astype(np.float64) for m, x in talk.features.items()})  # type: ignore[attr-defined]
    with jax.enable_x64(True):
        outputs, batch = converted_outputs(p, talks, classes)
    log_rlc = reference.log_softmax(outputs.logits_rlc)
    expected = np.concatenate([forward(p, talk) for talk in talks])
    np.testing.assert_allclose(unpack(log_rlc, batch), expected, rtol=1e-9, atol=1e-9)

    sentiments = sentiments_of(CLASSES["meld" if classes == 7 else "iemocap"])
    weights = dict(zip(("sentiment", "shift"), SETTINGS[classes][3], strict=True))
    for name, value in terms(p, talks, sentiments).items():
        term = outputs.terms[name]
        np.testing.assert_allclose(term.value_rl.sum() / term.count_rl.sum(), weights[name] * value, rtol=1e-9)


@pytest.mark.skipif(not VECTORS.exists(), reason="no test vectors of released code beside the project")
@pytest.mark.parametrize("case", [1, 2])
def test_released_terms(case: int) -> None:
    """The logits of the released code with the sentiments of our table; on IEMOCAP its own sentiments are these."""
    vectors = read_vectors(VECTORS / f"GRAPHSMILE_case{case}.npz")
    sizes, extra = Sizes(vectors.speakers), vectors.extra
    sizes.classes = CLASSES["iemocap" if case == 1 else "meld"]
    table = np.array([*sentiments_of(sizes.classes)])
    block, scales = ((4, (1.0, 0.7)), (10**6, (0.5, 0.2)))[case - 1]
    found: dict[str, list[float]] = {"sentiment": [], "shift": []}
    for i, talk in enumerate(vectors.conversations):
        said = table[talk.labels]
        log_nc = reference.log_softmax(extra[f"logits_sen_{i}"])
        found["sentiment"] += [-log_nc[k, s] for k, s in enumerate(said) if s >= 0]
        pairs = [(q, k) for q, k in np.ndindex(len(talk), len(talk)) if q // block == k // block]
        log_nc = reference.log_softmax(extra[f"logits_shift_{i}"])
        known = [(x, int(said[q] != said[k])) for x, (q, k) in enumerate(pairs) if said[q] >= 0 and said[k] >= 0]
        found["shift"] += [-log_nc[x, shift] for x, shift in known]
    with jax.enable_x64(True):
        weights = Weights(vectors.parameters, vectors.classes, vectors.speakers, extra)
        converted = convert("GRAPHSMILE", weights, sizes)
        batch = jax.tree.map(jnp.asarray, batch_of(vectors, converted.standardization))
        outputs = outputs_of(converted.model, jax.tree.map(jnp.asarray, converted.params), batch)
        outputs = jax.tree.map(np.asarray, outputs)
    for name, scale in zip(found, scales, strict=True):
        term = outputs.terms[name]
        assert int(term.count_rl.sum()) == len(found[name])
        np.testing.assert_allclose(term.value_rl.sum() / term.count_rl.sum(), scale * np.mean(found[name]), rtol=1e-12)
    if case == 1:
        released = extra["loss_released_terms"][1:]
        np.testing.assert_allclose([np.mean(values) for values in found.values()], released, rtol=1e-12)


def with_sentiments(**options: Any) -> Any:
    sizes = Sizes(9)
    sizes.classes = NAMES
    return make_model(
        MODELS["graphsmile"](**{**SMALL["graphsmile"], "dropout": 0.0, **options}), sizes, "tav", "float32"
    )


def loss_and_gradient(model: Any, params: Any, batch: Any) -> tuple[jax.Array, Any]:
    """The loss with all terms of the model."""

    @jax.jit
    @jax.value_and_grad
    def loss_of(params: Any) -> jax.Array:
        return losses_of(model.apply({"params": params}, batch, train=False), batch, LossConfig())["total"]

    loss: tuple[jax.Array, Any] = loss_of(params)
    return loss


def test_sentiments_of_emotions() -> None:
    assert sentiments_of(CLASSES["iemocap"]) == (2, 0, 1, 0, 2, 0)
    assert sentiments_of(CLASSES["meld"]) == (1, -1, 0, 0, 2, 0, 0)
    assert sentiments_of(CLASSES["meld3"]) == (1, 2, 0)
    assert sentiments_of((" Happy", "bored")) == (2, -1)


def test_what_is_not_told_has_no_parameters() -> None:
    batch = pack(conversations((3,)), ((0,),), 3)

    def heads(model: Any) -> set[str]:
        params = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
        return {name for name in params if name.startswith(("sentiment", "shift"))}

    shift = {"shift_kernel", "shift_bias"}
    assert heads(with_sentiments()) == {"sentiment", *shift}
    assert heads(with_sentiments(sentiment_weight=0.0)) == shift
    assert heads(with_sentiments(shift_weight=0.0)) == {"sentiment"}
    assert heads(small_model("graphsmile")) == set()  # nobody knows the sentiment of class 0


def test_every_parameter_has_a_gradient_from_terms_and_they_are_the_same_anywhere() -> None:
    talks, model = conversations((5, 1, 4, 7)), with_sentiments(weighted_edges=9, past=-1, shift_window=2)
    batches = [pack(talks, rows, slots) for rows, slots in ((((0,), (1,), (2,), (3,)), 7), (((3, 0), (2, 1)), 14))]
    params = random_params(model, batches[0])

    (loss, gradient), (other, other_gradient) = (loss_and_gradient(model, params, batch) for batch in batches)
    np.testing.assert_allclose(loss, other, rtol=1e-5)
    for path, x in jax.tree_util.tree_leaves_with_path(gradient):
        assert float(jnp.abs(x).max()) > 1e-9, f"{jax.tree_util.keystr(path)} is dead"
    for x, y in zip(jax.tree.leaves(gradient), jax.tree.leaves(other_gradient), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    logits = [unpack(outputs_of(model, params, batch).logits_rlc, batch) for batch in batches]
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-5)


def test_nobody_who_has_no_sentiment_is_in_a_term() -> None:
    talks, model = conversations((4, 3)), with_sentiments()
    talks[0].labels[:], talks[1].labels[:] = 3, -1  # surprise; no label
    batch = pack(talks, ((0, 1),), 8)
    params = random_params(model, batch)
    loss, gradient = loss_and_gradient(model, params, batch)
    assert np.isfinite(loss)
    assert not gradient["sentiment"]["kernel"].any() and not gradient["shift_kernel"].any()


def test_a_sum_of_weights_that_is_not_positive_counts_as_1() -> None:
    batch = pack(conversations((5,)), ((0,),), 5)
    model = small_model("graphsmile", weighted_edges=200)
    params = random_params(model, batch)
    for pair in PAIRS:
        weights = params[f"graph_{pair}"]["edge_weights"]
        weights["weight"] = -jnp.abs(weights["weight"])
    for tree in (outputs_of(model, params, batch).logits_rlc, loss_and_gradient(model, params, batch)):
        assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(tree))


def test_layers_of_a_graph_start_alike() -> None:
    batch = pack(conversations((3,)), ((0,),), 3)
    params = jax.jit(lambda: small_model("graphsmile").init(jax.random.key(0), batch, train=False))()["params"]
    kernels = params["graph_tv"]["graph_kernel"]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], params["graph_tv"]["feed_forward_kernel"][0])
    assert not np.array_equal(kernels[0], params["graph_va"]["graph_kernel"][0])
    assert float(jnp.abs(kernels).max()) <= 1 / math.sqrt(SMALL["graphsmile"]["width"])


def test_nobody_beyond_the_window_is_heard() -> None:
    """Each layer brings one window more: with one layer, what is further away changes nothing."""
    one = {f"layers_{pair}": 1 for pair in PAIRS}
    batch = pack(conversations((9,)), ((0,),), 9)
    model = small_model("graphsmile", **one, past=2, future=1)
    params = random_params(model, batch)
    before = outputs_of(model, params, batch).logits_rlc[0]
    changed = batch.replace(features={m: x_rld.at[:, 4].add(3.0) for m, x_rld in batch.features.items()})
    after = outputs_of(model, params, changed).logits_rlc[0]
    moved = [i for i in range(9) if not np.allclose(before[i], after[i], rtol=1e-5, atol=1e-6)]
    assert moved == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("dataset", "audio", "speakers", "live"), [("iemocap", 1582, 2, 13_601_803), ("meld", 300, 9, 5_674_892)]
)
def test_number_of_parameters(dataset: str, audio: int, speakers: int, live: int) -> None:
    """The count of the released code without weights by place, without the layer of each graph that only is copied."""
    options = {
        name.removeprefix("model."): value
        for name, value in recipe_options("released", "graphsmile", dataset).items()
        if name.startswith("model.")
    }
    batch = pack(conversations((2,)), ((0,),), 2)
    dims = {"t": 1024, "a": audio, "v": 342}
    batch = batch.replace(features={m: jnp.zeros((1, 2, d)) for m, d in dims.items()})
    sizes = Sizes(speakers)
    sizes.classes = CLASSES[dataset]
    model = make_model(MODELS["graphsmile"](**options), sizes, "tav", "float32")
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
    d = options["width"]
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) + 3 * (d * d + d) == live


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("layers_ta", 0, "must be positive"),
        ("past", -2, "0 or more, or -1 for all"),
        ("shift_window", 0, "positive, or -1 for all"),
        ("shift_weight", -0.1, "0 or more"),
        ("sentiment_weight", math.nan, "0 or more"),
        ("weighted_edges", -1, "0 or more"),
    ],
)
def test_wrong_options(option: str, value: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        MODELS["graphsmile"](**{option: value})
