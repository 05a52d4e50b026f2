"""What a score belongs to: recorded by the training, told wherever the score is printed, and the same afterwards."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import own_samples
import pytest
from samples import tiny

from cmath_jax.config import Config, override, to_dict
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.sources.own import read_own, write_own
from cmath_jax.prediction.card import card
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.results.circumstances import Circumstances, Features, modalities_in_words, record
from cmath_jax.results.summary import readable
from cmath_jax.training.fit import fit

SIZES = {"meld": (1024, 300, 342), "iemocap": (1024, 1582, 342)}


def read_back(config: Config, corpus: Corpus) -> Circumstances:
    return Circumstances.read(json.loads(json.dumps(record(config, corpus))), {})


def published(path: Path, letter: str, dataset: str, dims: tuple[int, ...]) -> Corpus:
    layouts.dump(path, layouts.content(letter, layouts.corpus(dataset, dims=dims)))
    with pytest.warns(UserWarning, match="counts"):
        return load_corpus(str(path), check_counts="warn")


@pytest.mark.parametrize(("letter", "dataset"), [("F", "meld"), ("J", "meld"), ("E", "iemocap")])
def test_a_published_file_is_known_by_layout_and_sizes(letter: str, dataset: str, tmp_path: Path) -> None:
    config = Config(dataset=dataset)
    found = read_back(config, published(tmp_path / "x.pkl", letter, dataset, SIZES[dataset]))
    assert {m: (x.size, x.origin, x.layout) for m, x in found.features.items()} == {
        m: (size, "published", letter) for m, size in zip("tav", SIZES[dataset], strict=True)
    }
    assert "RoBERTa" in found.features["t"].words("t") and "RoBERTa" not in found.features["a"].words("a")
    other = read_back(config, published(tmp_path / "y.pkl", letter, dataset, (384, *SIZES[dataset][1:])))
    assert {x.origin for x in other.features.values()} == {"not stated"}
    assert "not stated" in other.short() and "RoBERTa" not in " ".join(other.lines())


def test_all_vectors_of_a_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    layouts.dump(path, layouts.content("F", layouts.corpus("meld", dims=SIZES["meld"])))
    found = {}
    for layer in (0, 2):
        with pytest.warns(UserWarning, match="counts"):
            loaded = load_corpus(str(path), check_counts="warn", text_layer=layer)
        found[layer] = read_back(override(Config(dataset="meld"), {"data.text_layer": layer}), loaded).features["t"]
    assert (found[0].size, found[0].vectors, found[0].layout) == (4096, 0, "F")
    assert "(vectors 1 to 4)" in found[0].words("t") and "(vectors 2)" in found[2].words("t")
    assert found[0].identity != found[2].identity


def test_the_prepared_form_of_a_file_belongs_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "meld_multimodal_features.pkl"
    direct = published(path, "F", "meld", SIZES["meld"])
    with pytest.warns(UserWarning, match="counts"):
        prepared = load_corpus("meld", features_dir=tmp_path, prepared_dir=tmp_path / "p", check_counts="warn")
    assert record(Config(dataset="meld"), prepared) == record(Config(dataset="meld"), direct)


def test_a_folder_that_calls_itself_meld_does_not_have_published_features(tmp_path: Path) -> None:
    folder = own_samples.put(tmp_path / "meld", own_samples.LINES, name="mine")
    found = read_back(
        Config(dataset=str(folder), data=override(Config(), {"data.modalities": "t"}).data), read_own(folder)
    )
    assert found.features["t"].origin == "not stated"
    source = replace(layouts.corpus("meld", dims=SIZES["meld"]), name="my meld")
    copied = read_own(write_own(source, tmp_path / "copy"))
    assert {x.origin for x in read_back(Config(dataset="meld"), copied).features.values()} == {"not stated"}


@pytest.mark.parametrize(
    ("encoder", "files", "fine_tuned", "words"),
    [
        ("minilm", (), False, "frozen"),
        ("roberta-large", (), False, "frozen"),
        ("{}/tuned", ("finetuning.json",), True, "fine-tuned on labels"),
        ("{}/tuned", ("config.json",), None, "not known"),
        ("/nowhere/tuned", (), None, "not known"),
    ],
)
def test_extracted_text_says_its_encoder_and_whether_it_is_frozen(
    encoder: str, files: tuple[str, ...], fine_tuned: bool | None, words: str, tmp_path: Path
) -> None:
    (tmp_path / "tuned").mkdir()
    for name in files:
        (tmp_path / "tuned" / name).write_text("{}")
    settings = {"encoder": encoder.format(tmp_path), "pooling": "mean", "layer": -1, "weights_hash": "12ab"}
    corpus = load_corpus("simulated")
    corpus = Corpus(
        "mine", corpus.classes, corpus.splits, corpus.speakers, extraction={"t": settings, "a": {"set": "IS10"}}
    )
    found = read_back(Config(dataset="conversations"), corpus)
    text = found.features["t"]
    assert (text.origin, text.fine_tuned) == ("extracted", fine_tuned)
    told = " ".join(found.lines())
    assert words in told and words in found.short() and "pooling mean" in told and "layer -1" in told
    assert "IS10" in told and "12ab" not in told and str(tmp_path) not in told and "/nowhere" not in told
    assert found.features["v"].origin == "not stated"


def test_a_result_of_before_there_was_a_record() -> None:
    config = to_dict(override(Config(), {"data.modalities": "ta"}))
    found = Circumstances.read({"dataset": "meld"}, config)
    assert (found.modalities, dict(found.features)) == ("ta", {})
    assert "not stated" in found.lines()[0] and "not stated" in found.short()
    nothing = Circumstances.read({}, {})
    assert nothing.seen == "modalities not stated"


@pytest.mark.parametrize("entry", [{"size": 3}, {"size": 3, "origin": "stolen"}, {"size": "x", "origin": "simulated"}])
def test_a_record_that_is_none(entry: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError)):
        Circumstances.read({"modalities": "t", "features": {"t": entry}}, {})


def test_what_differs_is_said() -> None:
    def made(modalities: str, size: int = 3, origin: str = "published") -> Circumstances:
        return Circumstances("cmath", modalities, {m: Features(size, origin) for m in modalities})

    assert made("tav").differences(made("tav")) == []
    assert made("ta").differences(made("tav")) == ["sees text + audio"]
    assert made("ta").differences(made("tav"), with_modalities=False) == []
    assert made("t", 5).differences(made("t")) == ["other text features: 5, published"]
    assert made("t", 3, "simulated").differences(made("t")) == ["other text features: 3, simulated"]
    old = Circumstances("cmath", "t", {})
    assert old.differences(made("t")) == ["features not stated"] and made("t").differences(old)
    assert modalities_in_words("vt") == "text + video"


def test_a_run_tells_it_wherever_its_score_is_printed(tmp_path: Path) -> None:
    config = override(tiny(seeds=2, linear_reference="t"), {"data.modalities": "ta"})
    result = fit(config, tmp_path / "run")
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["model"], result["modalities"], set(result["features"])) == ("cmath", "ta", {"t", "a"})
    terminal = readable(result)
    assert "cmath sees text + audio: text" in terminal and "(simulated)" in terminal and "video" not in terminal
    compared = result["diagnostics"]["linear"]["model_minus_linear"]
    gap = result["test"]["weighted_f1"]["mean"] - result["diagnostics"]["linear"]["weighted_f1"]
    assert compared["weighted_f1"] == pytest.approx(gap)
    assert f"p {compared['p_value']:.2g}, over seeds and conversations" in terminal
    model = TrainedModel.load(tmp_path / "run")
    scores = card(model).partition("## Scores")[2].partition("| |")[0]
    assert "text + audio" in scores and "simulated" in scores
    assert card(model) == (tmp_path / "run" / "model" / "MODEL_CARD.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    right = np.mean([row["linear"] == row["label"] for row in rows if row["label"] is not None])
    assert 100 * right == pytest.approx(result["diagnostics"]["linear"]["accuracy"])


def test_with_one_seed_the_terminal_gives_no_p_value(tmp_path: Path) -> None:
    result = fit(override(tiny(seeds=1, linear_reference="t"), {}), tmp_path)
    assert result["diagnostics"]["linear"]["model_minus_linear"]["p_value"] is None
    assert "how sure that is cannot be known with one seed" in readable(result)
