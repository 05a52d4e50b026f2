"""SDT against a float64 reference written from its equations, its invariants, and the example of docs/baselines.md."""

import itertools
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from samples import CLASSES, HEADS, KEYS, SPEAKERS, WIDTH, conversations, float32, init, outputs_of, pack, tiny, unpack

from cmath_jax.config import LossConfig
from cmath_jax.models import attention as attention_module
from cmath_jax.models import layers, registry
from cmath_jax.models import options as model_options
from cmath_jax.models.baselines.sdt import SDT
from cmath_jax.models.layers import drop
from cmath_jax.models.outputs import Outputs
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.fit import fit
from cmath_jax.training.losses import LossWeights, loss_terms, total_loss

SUBSETS = ["t", "a", "v", "ta", "tv", "av", "tav"]
LENGTHS = (5, 1, 4, 7)
ROWS = ((0, 2), (3, 1), ())  # several conversations to a row, one of a single utterance, an empty row
LOSS = LossConfig(gamma1=0.0, gamma2=1.0, stop_teacher=False, temperature=8.0)
Drop = Callable[[str, tuple[int, ...], np.ndarray], np.ndarray]  # a place, whose layer of the stack, and what goes in
PLACES = ("input", "weights", "attention", "hidden", "project", "classifier")  # where something is dropped, in order
BASELINES_MD = Path(__file__).parents[2] / "docs" / "baselines.md"


def make_sdt(**options: Any) -> SDT:
    settings: dict[str, Any] = {"width": WIDTH, "heads": HEADS, "dropout": 0.0}
    return SDT(CLASSES, SPEAKERS, **(settings | options))


def random_params(model: SDT, batch: Any) -> dict[str, Any]:
    """Of the model's shapes; no bias is 0 and no scale 1, so that each one matters."""
    shapes = init.eval_shape(model, batch)
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: rng.normal(size=x.shape) / math.sqrt(x.shape[-1]), shapes)


def total_of(outputs: Outputs, batch: Any, loss: LossConfig) -> jax.Array:
    weights = LossWeights.of(loss, np.ones(CLASSES, np.float32))
    return total_loss({name: term.value() for name, term in loss_terms(outputs, batch, weights).items()}, weights)


# The reference: one conversation at a time, n utterances, float64; its building blocks are those of reference.py.


def keep(place: str, layer: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    """No dropout."""
    return x


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layers_of(tree: Any, *index: Any) -> Any:
    return jax.tree.map(lambda x: np.asarray(x, np.float64)[index], tree)


def attention(x_nd: np.ndarray, source_nd: np.ndarray, kernels: Any, m: int, s: int, drop: Drop) -> np.ndarray:
    projections = (kernels["query"]["kernel"][m, :, s], *(kernels[x]["kernel"][s, :, m] for x in ("key", "value")))
    query_hne, key_hne, value_hne = (
        np.stack(np.split(y_nd @ kernel_dd, HEADS, axis=1))
        for y_nd, kernel_dd in zip((x_nd, source_nd, source_nd), projections, strict=True)
    )
    weight_hqk = reference.softmax(query_hne @ key_hne.swapaxes(1, 2) / math.sqrt(WIDTH / HEADS))
    mixed_hne = drop("weights", (m, s), weight_hqk) @ value_hne
    output = layers_of(kernels["output"], m, s)
    return drop("attention", (m, s), reference.dense(np.concatenate([*mixed_hne], axis=1), output))


def forward(params: Any, talk: Any, modalities: str, drop: Drop = keep) -> dict[str, Any]:
    """H_m, H_k, the weights of the multimodal gate and all logits of one conversation."""
    place_nd = reference.position(len(talk.labels), WIDTH) + params["speaker"]["embedding"][talk.speakers]
    modalities = "".join(m for m in "tav" if m in modalities)
    x, h, z = {}, {}, {}
    for i, m in enumerate(modalities):
        u_nd = talk.features[m].astype(np.float64) @ params[f"convolution_{m}"]["kernel"][0]
        x[m] = drop("input", (i,), u_nd + place_nd)
    blocks = params["blocks"]
    for (i, m), (j, s) in itertools.product(enumerate(modalities), enumerate(modalities)):
        block = layers_of({name: blocks[name] for name in ("norm", "hidden", "project", "gate")}, i, j)
        y_nd = x[m] + attention(x[m], x[s], blocks["attention"], i, j, drop)
        hidden_nd = gelu_tanh(reference.dense(reference.layer_norm(y_nd, block["norm"]), block["hidden"]))
        f_nd = reference.dense(drop("hidden", (i, j), hidden_nd), block["project"])
        z_nd = y_nd + drop("project", (i, j), f_nd)
        z[m, s] = sigmoid(z_nd @ block["gate"]["kernel"]) * z_nd
    for i, m in enumerate(modalities):
        heard_nx = np.concatenate([z[m, s] for s in modalities], axis=1)
        h[m] = reference.dense(heard_nx, layers_of(params["merge"], i))
    if len(modalities) == 1:
        fused_nd, alpha = h[modalities], {}
    else:
        score = {m: np.exp(h[m] @ params["gate"]["kernel"]) for m in modalities}
        alpha = {m: score[m] / sum(score.values()) for m in modalities}
        fused_nd = sum(alpha[m] * h[m] for m in modalities)
    heard = {m: drop("classifier", (i,), np.maximum(h[m], 0)) for i, m in enumerate(modalities)}
    return {
        "h": h,
        "fused": fused_nd,
        "alpha": alpha,
        "logits": {"k": reference.dense(fused_nd, params["classifier"])}
        | {m: reference.dense(heard[m], layers_of(params["classifiers"], i)) for i, m in enumerate(modalities)},
    }


def loss_of_sdt(params: Any, talks: Sequence[Any], modalities: str, temperature: float) -> float:
    """CE of all classifiers, and KL(softmax(z_k / T), softmax(z_m / T)) of every m; means over labelled utterances."""
    outputs = [forward(params, talk, modalities)["logits"] for talk in talks]
    label_n = np.concatenate([talk.labels for talk in talks])
    logits = {x: np.concatenate([one[x] for one in outputs])[label_n >= 0] for x in outputs[0]}
    label_n = label_n[label_n >= 0]
    total = 0.0
    for x, logits_nc in logits.items():
        total -= np.log(reference.softmax(logits_nc)[np.arange(len(label_n)), label_n]).mean()
        if x != "k":
            p_nc, q_nc = (reference.softmax(logits[y] / temperature) for y in ("k", x))
            total += (p_nc * np.log(p_nc / q_nc)).sum(-1).mean()
    return total


@pytest.mark.parametrize(("modalities", "temperature"), [*((s, 8.0) for s in SUBSETS), ("tav", 1.0)])
def test_matches_reference(modalities: str, temperature: float) -> None:
    """Outputs, loss and gradient of a packed batch, as the reference has them conversation by conversation."""
    talks = conversations(LENGTHS)
    talks[0].labels[1] = -1  # an unlabelled utterance
    batch = pack(talks, ROWS, 12, modalities)
    model = make_sdt(modalities=modalities)
    params = random_params(model, batch)

    def loss_of(params: Any) -> tuple[jax.Array, Outputs]:
        outputs = model.apply({"params": params}, batch, train=True, rngs=KEYS)
        return total_of(outputs, batch, replace(LOSS, temperature=temperature)), outputs

    (total, outputs), gradient = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(float32(params))
    expected = [forward(params, talk, modalities) for talk in talks]

    def compare(ours: Any, theirs: Sequence[np.ndarray]) -> None:
        np.testing.assert_allclose(unpack(ours, batch), np.concatenate(theirs), rtol=1e-5, atol=1e-5)

    compare(outputs.logits_rlc, [one["logits"]["k"] for one in expected])
    for fused in (outputs.mean_rld, outputs.sample_rld):
        compare(fused, [one["fused"] for one in expected])
    assert set(outputs.modality_logits) == set(outputs.augmented) == set(modalities)
    for m in modalities:
        compare(outputs.modality_logits[m], [one["logits"][m] for one in expected])
        compare(outputs.augmented[m], [one["h"][m] for one in expected])
    assert outputs.reconstructions == {}
    assert not outputs.deviation_rld.any()
    assert set(outputs.gates) == ({"k"} if len(modalities) > 1 else set())
    for gates in outputs.gates.values():
        for m in modalities:
            compare(gates[m], [one["alpha"][m] for one in expected])

    np.testing.assert_allclose(total, loss_of_sdt(params, talks, modalities, temperature), rtol=1e-5)
    # A central difference along a random direction: the teacher moves too.
    rng, step = np.random.default_rng(4), 1e-5
    direction = jax.tree.map(lambda x: rng.normal(size=x.shape), params)

    def loss_at(distance: float) -> float:
        moved = jax.tree.map(lambda x, d: x + distance * d, params, direction)
        return loss_of_sdt(moved, talks, modalities, temperature)

    slope = sum(float((g * d).sum()) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    np.testing.assert_allclose(slope, (loss_at(step) - loss_at(-step)) / (2 * step), rtol=2e-4, atol=2e-4)


def test_number_of_parameters() -> None:
    """79,687,704 in the original at width 1024 on IEMOCAP; docs/baselines.md says which of them are not here."""
    d, dims, speakers, classes = 1024, {"t": 1024, "a": 1582, "v": 342}, 2, 6
    batch = pack(conversations((2,)), ((0,),), 2)
    batch = batch.replace(features={m: jnp.zeros((1, 2, width)) for m, width in dims.items()})
    model = SDT(classes, speakers, d)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
    ours = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))

    blocks = 9 * (4 * d**2 + d + 2 * d + 2 * (d**2 + d) + d**2)  # attention, norm, feed-forward, gate
    merges, gate = 3 * (3 * d**2 + d), d**2
    inputs, classifiers = (sum(dims.values()) + speakers) * d, 4 * (d + 1) * classes
    assert ours == blocks + merges + gate + inputs + classifiers
    attention_biases, idle_norms, padding_speaker = 9 * 3 * d, 9 * 2 * d, d
    assert ours + attention_biases + idle_norms + padding_speaker == 79_687_704


def test_renaming_speakers_changes_nothing() -> None:
    model = make_sdt()
    batch = pack(conversations(LENGTHS), ROWS, 12)
    params = float32(random_params(model, batch))
    names = np.array([2, 0, 1])
    renamed = batch.replace(speaker_rl=jnp.asarray(names)[batch.speaker_rl])
    moved = params | {"speaker": {"embedding": params["speaker"]["embedding"][np.argsort(names)]}}
    before = outputs_of(model, params, batch)
    after = outputs_of(model, moved, renamed)
    np.testing.assert_allclose(unpack(before.logits_rlc, batch), unpack(after.logits_rlc, batch), rtol=1e-6, atol=1e-6)
    unmoved = outputs_of(model, params, renamed)
    assert not np.allclose(before.logits_rlc, unmoved.logits_rlc)


@pytest.mark.slow
def test_dropout_acts_where_the_equations_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference with the masks that the model drew: each one is used, and each at its place."""
    talks = conversations((6,))
    batch = pack(talks, ((0,),), 6)
    model = make_sdt(dropout=0.4)
    params = random_params(model, batch)
    kept: list[np.ndarray] = []

    def drop_and_remember(x: jax.Array, bits: jax.Array, rate: float) -> jax.Array:
        kept.append(np.asarray(drop(jnp.ones(x.shape), bits, rate)))
        return drop(x, bits, rate)

    for module in (layers, attention_module):
        monkeypatch.setattr(module, "drop", drop_and_remember)
    outputs = model.apply({"params": float32(params)}, batch, train=True, rngs=KEYS)
    masks = dict(zip(PLACES, kept, strict=True))
    unused = {(place, layer) for place, mask in masks.items() for layer in np.ndindex(*stack_of(mask))}

    def drop_again(place: str, layer: tuple[int, ...], x: np.ndarray) -> np.ndarray:
        unused.remove((place, layer))
        return x * masks[place][layer][0]

    expected = forward(params, talks[0], "tav", drop_again)
    assert not unused
    np.testing.assert_allclose(outputs.logits_rlc[0], expected["logits"]["k"], rtol=1e-5, atol=1e-5)
    for m in "tav":
        np.testing.assert_allclose(outputs.modality_logits[m][0], expected["logits"][m], rtol=1e-5, atol=1e-5)


def stack_of(mask: np.ndarray) -> tuple[int, ...]:
    """The axes before [r, l, d], or before the [r, h, q, k] of attention weights."""
    return mask.shape[:-3] if mask.ndim < 6 else mask.shape[:-4]


def test_it_is_made_as_the_config_says() -> None:
    config = tiny(model__name="sdt", precision="bfloat16", data__modalities="tv", model__width=12, model__heads=3)
    corpus = load_configured(config)
    expected = SDT(len(corpus.classes), corpus.speakers, 12, 3, 0.2, modalities="tv", dtype=jnp.dtype("bfloat16"))
    assert registry.make_model(config.model, corpus, "tv", "bfloat16") == expected


@pytest.mark.slow
def test_it_trains(tmp_path: Path) -> None:
    """With its own loss, through the same loop as CMATH."""
    options = {f"loss__{name}": value for name, value in vars(LOSS).items()}
    result = fit(tiny(model__name="sdt", train__epochs=2, parallel__devices=1, **options), tmp_path)
    assert len(result["test"]["weighted_f1"]["values"]) == 1
    assert result["parameters"] > 0


def test_the_example_of_the_documentation_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and the options that docs/baselines.md tells to write."""
    text = BASELINES_MD.read_text(encoding="utf-8").partition("## Add a baseline")[2]
    example, dataclass = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    exec(compile(dataclass, str(BASELINES_MD), "exec"), namespace := {"__name__": "early"})
    kind = namespace["EarlyFusionOptions"]
    module = ModuleType(kind.module.partition(":")[0])
    exec(compile(example, str(BASELINES_MD), "exec"), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(model_options.MODELS, kind.name, kind)
    config = tiny(model__layers=1, model__name="early", train__epochs=1, parallel__devices=1)
    result = fit(config, tmp_path)
    # One hidden layer, and one classifier.
    corpus = load_configured(config)
    inputs, hidden, classes = sum(corpus.dims[m] for m in "ta"), 8, len(corpus.classes)
    assert result["parameters"] == (inputs + 1) * hidden + (hidden + 1) * classes
