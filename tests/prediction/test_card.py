"""The card of a model is one of the Hugging Face hub, and says what is known and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cmath_jax.config import override
from cmath_jax.prediction.card import card
from cmath_jax.prediction.trained import TrainedModel

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")


def read(model: TrainedModel) -> Any:
    return hub.ModelCard(card(model)).data


def of(model: TrainedModel, dataset: str, modalities: str = "ta", **settings: str) -> TrainedModel:
    """Returns a model as if it were trained on a data set, with an encoder of these settings."""
    config = override(model.config, {"data.modalities": modalities})
    extraction = {"t": settings} if settings else {}
    return replace(model, config=config, extraction=extraction, facts=replace(model.facts, dataset=dataset))


def test_the_folder_can_be_uploaded_as_it_is(run: Path) -> None:
    """The hub shows README.md, and looks for facts there; the file of this name is the card."""
    folder = run / "model"
    assert (folder / "README.md").read_text() == (folder / "MODEL_CARD.md").read_text() == card(TrainedModel.load(run))
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "MODEL_CARD.md",
        "model.json",
        "parameters.safetensors",
    }


def test_the_hub_reads_the_scores(run: Path) -> None:
    model = TrainedModel.load(run)
    found = hub.ModelCard.load(run / "model" / "README.md").data
    assert found.library_name == "cmath_jax" and found.model_name == model.facts.name
    assert found.pipeline_tag == "text-classification" and found.metrics == ["accuracy", "f1"]
    assert {"cmath", "jax", "multimodal", "emotion-recognition-in-conversations"} <= {*found.tags}
    scores = {result.metric_type: result.metric_value for result in found.eval_results}
    test = model.facts.scores["test"]
    assert scores == {"accuracy": round(test["accuracy"], 2), "f1": round(test["weighted_f1"], 2)}
    assert {(r.dataset_type, r.dataset_split, r.task_type) for r in found.eval_results} == {
        ("simulated", "test", "text-classification")
    }
    (f1,) = [result for result in found.eval_results if result.metric_type == "f1"]
    assert f1.metric_args == {"average": "weighted"}


def test_nothing_unknown_is_stated(run: Path) -> None:
    """A licence is chosen by those who give a model away; the simulated data are in no language and not on the hub."""
    found = read(TrainedModel.load(run))
    assert (found.license, found.language, found.datasets) == (None, None, None)


def test_known_data_sets_are_named_as_the_hub_names_them(run: Path) -> None:
    model = TrainedModel.load(run)
    for dataset in ("meld", "meld3", "MELD"):
        found = read(of(model, dataset))
        assert (found.datasets, found.language) == (["declare-lab/MELD"], ["en"])
        assert {result.dataset_type for result in found.eval_results} == {"declare-lab/MELD"}
    found = read(of(model, "iemocap4"))
    assert (found.datasets, found.language) == (None, ["en"])


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en", ["en"]), ("no", ["no"]), ("de,fr", ["de", "fr"]), ("multilingual", None), ("", None)],
)
def test_the_language_is_that_of_the_encoder_of_text(run: Path, language: str, expected: list[str] | None) -> None:
    model = TrainedModel.load(run)
    assert read(of(model, "mine", encoder="some", language=language)).language == expected
    assert read(of(model, "mine", "a", encoder="some", language=language)).language is None


@pytest.mark.parametrize(("modalities", "task"), [("t", "text"), ("a", "audio"), ("ta", "text")])
def test_the_task_is_that_of_the_first_modality(run: Path, modalities: str, task: str) -> None:
    found = read(of(TrainedModel.load(run), "mine", modalities))
    assert found.pipeline_tag == f"{task}-classification"
    assert ("multimodal" in found.tags) == (len(modalities) > 1)


def test_no_name_breaks_the_page(run: Path) -> None:
    model, odd = TrainedModel.load(run), "joy|<b>\n# anger"
    facts = replace(model.facts, name="mine\n# yours", f1={odd: 50.0})
    lines = card(replace(model, facts=facts, classes=(odd, *model.classes[1:]))).splitlines()
    assert "# mine # yours" in lines and "# yours" not in lines
    assert r"| joy\|\<b\> \# anger | 50.00 |" in lines
    assert any(line.startswith(r"Emotions: joy\|\<b\> \# anger, ") for line in lines)


def test_names_of_any_letters_are_kept(run: Path) -> None:
    name = 'my "data": no\n#1 é 😀'
    model = TrainedModel.load(run)
    found = read(replace(model, facts=replace(model.facts, name=name, dataset=name)))
    assert found.model_name == found.eval_results[0].dataset_name == name
