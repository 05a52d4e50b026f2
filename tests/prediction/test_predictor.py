"""A finished run labels new conversations: with the numbers of its test, in any company, wherever it is moved to."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file
from samples import tiny

from cmath_jax.config import override
from cmath_jax.data.corpus import Conversation
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import InputError
from cmath_jax.evaluation.calibration import calibrated
from cmath_jax.prediction import predictor as prediction
from cmath_jax.prediction.card import card
from cmath_jax.prediction.predictor import Predictor, predict
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.training.fit import fit

ARRAYS = "parameters.safetensors"
CONFIG = tiny(seeds=2, data__modalities="tav")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prediction") / "run"
    fit(CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def talks() -> list[Conversation]:
    return list(load_corpus("simulated", simulation=CONFIG.data.simulation).splits["test"])


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_predictions_are_those_of_the_test_calibrated(run: Path, talks: list[Conversation]) -> None:
    """Those of the seed with the best validation score."""
    result = json.loads((run / "result.json").read_text())
    seed = int(np.argmax(result["validation"]["weighted_f1"]["values"]))
    rows = [row for row in lines(run) if row["seed"] == seed]
    model = TrainedModel.load(run)
    assert (model.facts.seed, model.facts.epoch) == (seed, result["validation"]["best_epoch"][seed])
    assert model.temperature == pytest.approx(result["calibration"]["temperature"]["values"][seed])
    found = [p for predictions in predict(run, talks) for p in predictions]
    expected_nc = calibrated(np.array([row["probabilities"] for row in rows]), model.temperature)
    np.testing.assert_allclose([[*p.probabilities.values()] for p in found], expected_nc, atol=1e-5)
    assert [p.label for p in found] == [row["prediction"] for row in rows]
    assert {*found[0].probabilities} == {*result["classes"]}
    for p in found:
        assert 0 <= p.uncertainty < 1 and 0 < p.entropy <= 1
        assert {c: pytest.approx(1.0) for c in "tav"} == {c: sum(weights.values()) for c, weights in p.gates.items()}


def test_batch_and_single_give_the_same(run: Path, talks: list[Conversation]) -> None:
    predictor = Predictor.load(run / "model")
    together = predictor.predict_features(talks)
    for talk, predictions in zip(talks, together, strict=True):
        (alone,) = predictor.predict_features([talk])
        for one, other in zip(predictions, alone, strict=True):
            assert one.label == other.label
            assert one.uncertainty == pytest.approx(other.uncertainty, abs=1 / prediction.DRAWS)
            np.testing.assert_allclose([*one.probabilities.values()], [*other.probabilities.values()], atol=1e-5)


def test_a_conversation_longer_than_any_batch(run: Path, talks: list[Conversation], monkeypatch: Any) -> None:
    monkeypatch.setattr(prediction, "MOST_SLOTS", 64)
    monkeypatch.setattr(prediction, "LEAST_SLOTS", 4)
    long = Conversation(
        "long",
        {m: np.concatenate([talk.features[m] for talk in talks] * 4) for m in "tav"},
        np.concatenate([talk.speakers for talk in talks] * 4),
        np.concatenate([talk.labels for talk in talks] * 4),
    )
    assert len(long) > 64
    found = Predictor.load(run).predict_features([talks[0], long, talks[1]])
    assert [len(predictions) for predictions in found] == [len(talks[0]), len(long), len(talks[1])]


@pytest.mark.slow
def test_uncertainty_is_how_often_a_draw_says_something_else(run: Path, talks: list[Conversation]) -> None:
    """Against draws of the fused representation itself, all d numbers of it, through the classifier."""
    from cmath_jax.data.batches import Table
    from cmath_jax.data.packing import Shape

    model = TrainedModel.load(run)
    talk = replace(talks[0], features=model.standardizer.features(talks[0].features))
    batch = Table.of([talk], "tav", masked=True).batch([[0]], Shape(1, len(talk)))
    outputs: Any = model.module().apply({"params": model.params}, batch, train=False)
    eps = np.random.default_rng(1).normal(size=(20_000, *outputs.mean_rld.shape[1:]))
    drawn = np.asarray(outputs.mean_rld[0]) + eps * np.asarray(outputs.deviation_rld[0])
    kernel, bias = (np.asarray(model.params["classifier"][name]) for name in ("kernel", "bias"))
    label = (np.asarray(outputs.mean_rld[0]) @ kernel + bias).argmax(-1)
    expected = ((drawn @ kernel + bias).argmax(-1) != label).mean(0)
    found = [p.uncertainty for p in predict(run, [talks[0]])[0]]
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(prediction.DRAWS))
    assert max(expected) > 0.02


def test_missing_modalities_are_masked_and_named(run: Path, talks: list[Conversation]) -> None:
    video = talks[0].features["v"].copy()
    video[1] = np.nan
    found = predict(run, [replace(talks[0], features={**talks[0].features, "v": video})])[0]
    assert [p.missing for p in found[:3]] == ["", "v", ""]
    assert "v" not in found[1].gates
    none = {**talks[0].features, "a": np.full_like(talks[0].features["a"], np.nan)}
    for p in predict(run, [replace(talks[0], features=none)])[0]:
        assert p.missing == "a" and all(weights["a"] == 0 for weights in p.gates.values())


def test_a_model_can_be_moved_without_its_run(run: Path, talks: list[Conversation], tmp_path: Path) -> None:
    moved = Path(shutil.copytree(run / "model", tmp_path / "elsewhere"))
    assert predict(moved, talks) == predict(run, talks)
    text = (moved / "MODEL_CARD.md").read_text()
    result = json.loads((run / "result.json").read_text())
    model = TrainedModel.load(moved)
    f1 = result["test"]["weighted_f1"]["values"][model.facts.seed]
    for fact in (f"{f1:.2f}", "text: 9 features", "Licence", model.facts.fingerprint, f"{model.facts.parameters:,}"):
        assert fact in text, fact


def test_a_model_comes_back_as_it_was_saved(run: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(run)
    model.save(tmp_path / "again", card(model))
    again = TrainedModel.load(tmp_path / "again")
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    assert (again.config, again.facts, again.dims) == (model.config, model.facts, model.dims)
    for name in ("model.json", "MODEL_CARD.md"):
        assert (tmp_path / "again" / name).read_text() == (run / "model" / name).read_text()


def test_a_model_does_not_say_where_the_data_lie(run: Path, tmp_path: Path) -> None:
    model, home = TrainedModel.load(run), "/home/ann"
    places = {name: f"{home}/{name}" for name in ("features_dir", "dir", "file", "prepared_dir")}
    config = override(model.config, {"dataset": f"{home}/talks", **{f"data.{name}": x for name, x in places.items()}})
    replace(model, config=config).save(tmp_path / "model", card(model))
    assert home not in (tmp_path / "model" / "model.json").read_text()
    again = TrainedModel.load(tmp_path / "model")
    assert again.config == override(model.config, {"dataset": "talks"})
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder": "minilm", "language": "en"}, "The encoder of the text knows English alone"),
        ({"encoder": "mine", "language": "de,fr"}, "knows German and French alone"),
        ({"encoder": "roberta-large"}, "knows English alone"),  # extracted before it was written down
        ({"encoder": "mine", "language": "multilingual"}, "knows many languages"),
        ({"encoder": "mine", "language": ""}, "is not stated"),
        (None, "is not stated"),
    ],
)
def test_the_card_says_which_languages_the_encoder_knows(
    run: Path, settings: dict[str, Any] | None, words: str
) -> None:
    model = replace(TrainedModel.load(run), extraction={} if settings is None else {"t": settings})
    assert words in card(model)
    alone = replace(model.config, data=replace(model.config.data, modalities="a"))
    assert "languages the encoder" not in card(replace(model, config=alone)) and words not in card(
        replace(model, config=alone)
    )


def as_format_1(folder: Path, cut: int = 0) -> Path:
    """Turns a model folder into one of earlier versions, which had all arrays in an .npz."""
    path = folder / "arrays.npz"
    np.savez(path, **load_file(folder / ARRAYS))
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    for name in (ARRAYS, "README.md"):
        (folder / name).unlink()
    damage(folder, "format", 1)
    return folder


def test_a_model_of_an_earlier_version_is_the_same_model(run: Path, talks: list[Conversation], tmp_path: Path) -> None:
    folder = as_format_1(Path(shutil.copytree(run / "model", tmp_path / "old")))
    assert {path.name for path in folder.iterdir()} == {"model.json", "arrays.npz", "MODEL_CARD.md"}
    old = TrainedModel.load(folder)
    assert predict(folder, talks) == predict(run, talks)
    old.save(tmp_path / "new", card(old))
    for path in (run / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "new" / path.name).read_bytes()


def test_nothing_of_a_model_is_lost_in_its_file(run: Path) -> None:
    """Every parameter and the standardization, to the bit, under names that say what they are."""
    model, arrays = TrainedModel.load(run), load_file(run / "model" / ARRAYS)
    tree = {"params": model.params, "scaling": model.standardizer.tree()}
    flat = flatten_dict(tree, sep="/")
    assert {*flat} == {*arrays} and "params/classifier/kernel" in arrays
    for name, x in flat.items():
        assert arrays[name].dtype == np.asarray(x).dtype
        np.testing.assert_array_equal(arrays[name], x)


def damage(folder: Path, name: str, value: Any) -> None:
    record = json.loads((folder / "model.json").read_text())
    place = record
    *parents, leaf = name.split(".")
    for parent in parents:
        place = place[parent]
    place[leaf] = value
    (folder / "model.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.json").write_text("{"), "damaged"),
        (lambda f: (f / ARRAYS).write_bytes(b"nothing"), "damaged"),
        (lambda f: (f / ARRAYS).write_bytes(b"\xff" * 8 + b"{}"), "damaged"),  # a header of 2^64 bytes
        (lambda f: (f / ARRAYS).write_bytes((f / ARRAYS).read_bytes()[:-500]), "damaged"),
        (lambda f: (f / ARRAYS).unlink(), r"not whole: there is no parameters\.safetensors"),
        (lambda f: (as_format_1(f) / "arrays.npz").write_bytes(b"PK nothing"), "damaged"),
        (lambda f: as_format_1(f, cut=500), "damaged"),
        (lambda f: (as_format_1(f) / "arrays.npz").unlink(), r"not whole: there is no arrays\.npz"),
        (lambda f: damage(f, "format", 99), "format 99"),
        (lambda f: damage(f, "dims", {}), "damaged"),
        (lambda f: damage(f, "dims.t", 10), "parameters are not those"),
        (lambda f: damage(f, "speakers", "x"), "damaged"),
        (lambda f: damage(f, "temperature", "x"), "damaged"),
        (lambda f: damage(f, "calling_convention", 10), "exported model"),
        (lambda f: (f / "model.json").write_text("[" * 100_000), "damaged"),
        (lambda f: damage(f, "config.model.width", 16), "parameters are not those"),
        (lambda f: damage(f, "config.model.wdth", 16), "unknown option"),
        (lambda f: damage(f, "classes", ["a", "b"]), "parameters are not those"),
    ],
)
def test_a_damaged_model_is_refused(run: Path, tmp_path: Path, spoil: Any, message: str) -> None:
    folder = Path(shutil.copytree(run / "model", tmp_path / "model"))
    spoil(folder)
    with pytest.raises(InputError, match=message):
        Predictor.load(folder)


def test_what_is_no_finished_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no model\.json"):
        Predictor.load(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="is a sweep"):
        Predictor.load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="not finished"):
        Predictor.load(tmp_path)


def test_what_cannot_be_labelled_is_refused(run: Path, talks: list[Conversation]) -> None:
    talk, features = talks[0], talks[0].features
    nothing = {m: np.full_like(x, np.nan) for m, x in features.items()}
    endless = {**features, "t": features["t"].copy()}
    endless["t"][1, 0] = np.inf
    for wrong, message in (
        (replace(talk, features={"t": features["t"]}), "no audio features"),
        (replace(talk, features={**features, "a": features["a"][:, 1:]}), r"audio has shape .*; the model takes"),
        (replace(talk, features=nothing), "no utterance has any text or audio or visual"),
        (replace(talk, features=endless), "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            predict(run, [talks[1], wrong])
    with pytest.raises(InputError, match="text and audio and visual features of unknown origin"):
        predict(run, [{"id": "x", "utterances": [{"speaker": "Ann", "text": "Hello"}]}])
    assert predict(run, []) == []


def test_more_speakers_than_the_model_knows_are_told_of(run: Path, talks: list[Conversation]) -> None:
    many = replace(talks[0], speakers=np.arange(len(talks[0]), dtype=np.int32) + 6)
    found = predict(run, [many])[0]
    assert [p.warnings for p in found] == [p.warnings for p in predict(run, [many, talks[0]])[0]]
    assert all("tells 6 speakers of a conversation apart" in words for p in found for words in p.warnings)
    assert all(len(p.warnings) == 1 for p in found)
    mixed = replace(many, speakers=np.where(np.arange(len(many)) % 3 == 1, 6, 5).astype(np.int32))
    assert [len(p.warnings) for p in predict(run, [mixed])[0]] == [int(i % 3 == 1) for i in range(len(many))]
    assert not any(p.warnings for p in predict(run, [talks[0]])[0])
    beyond = replace(many, speakers=many.speakers + 90)  # those beyond are all alike
    assert found == predict(run, [beyond])[0] != predict(run, [talks[0]])[0]


def test_a_singular_classifier_gives_uncertainties(run: Path, talks: list[Conversation]) -> None:
    """Large weights that add up to 0 over the classes: softmax sees no difference, and the covariance is singular."""
    model = TrainedModel.load(run)
    kernel = np.asarray(model.params["classifier"]["kernel"], np.float64)
    large = (10 * (kernel - kernel.mean(-1, keepdims=True))).astype(np.float32)
    centred = replace(model, params={**model.params, "classifier": {**model.params["classifier"], "kernel": large}})
    off_centre = replace(
        model, params={**model.params, "classifier": {**model.params["classifier"], "kernel": large + np.float32(3)}}
    )
    found, other = (
        [p.uncertainty for ps in Predictor(m).predict_features(talks) for p in ps] for m in (centred, off_centre)
    )
    assert 0 < np.mean(found) < 0.8
    np.testing.assert_allclose(found, other, atol=0.12)


def test_the_function_can_be_called_whatever_was_imported() -> None:
    import importlib

    import cmath_jax

    importlib.import_module("cmath_jax.predict")
    with pytest.raises(InputError, match="nowhere"):
        cmath_jax.predict("nowhere", [])
