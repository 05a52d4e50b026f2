"""ConversationPredictions show themselves, and become frames of pandas."""

import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cmath_jax
from cmath_jax.data.corpus import Conversation
from cmath_jax.errors import InputError
from cmath_jax.prediction.answers import ConversationPredictions, Prediction
from cmath_jax.prediction.frames import metrics_frame, predictions_frame, scores_frame

CLASSES = ("joy", "<anger>")
FIRST = Prediction("joy", {"joy": 0.75, "<anger>": 0.25}, 0.125, 0.8, {"t": {"t": 0.6, "a": 0.4}})
SECOND = Prediction("<anger>", {"joy": 0.4, "<anger>": 0.6}, 0.5, 0.9, {}, "a", ("a <b>loud</b> sound",))


@pytest.fixture
def predictions() -> ConversationPredictions:
    conversation = Conversation(
        "talk", {"t": np.ones((2, 3))}, np.array([0, 1]), np.array([1, -1]), sentences=("<i>You</i> came!", "Oh")
    )
    return ConversationPredictions([FIRST, SECOND], conversation, ("Ann", "Bob"))


def test_a_prediction_is_a_line() -> None:
    assert repr(FIRST) == "<Prediction joy 0.75; <anger> 0.25; uncertainty 0.12>"
    assert repr(SECOND).endswith("uncertainty 0.50; without audio; warning: a <b>loud</b> sound>")
    html = SECOND._repr_html_()
    assert "&lt;anger&gt;" in html and "<anger>" not in html
    assert html.index("0.600") < html.index("0.400")  # the most probable first


def test_the_predictions_of_a_conversation_are_a_list(predictions: ConversationPredictions) -> None:
    """With more to say, which costs nobody who takes them for a list."""
    assert predictions == [FIRST, SECOND] and isinstance(predictions, list)
    assert [*predictions[:1]] == [FIRST] and json.dumps([p.to_dict() for p in predictions])
    again = pickle.loads(pickle.dumps(predictions))
    assert again == predictions and again.speakers == ("Ann", "Bob")


def test_a_conversation_is_shown_line_by_line(predictions: ConversationPredictions) -> None:
    html = predictions._repr_html_()
    assert html.count("<tr>") == 3
    for words in (
        "Ann",
        "&lt;i&gt;You&lt;/i&gt; came!",
        "joy",
        "0.75",
        "&lt;anger&gt; 0.25",
        "a &lt;b&gt;loud&lt;/b&gt;",
    ):
        assert words in html
    assert "<i>" not in html and "<b>" not in html and "script" not in html and "color" not in html
    assert repr(predictions).splitlines() == [
        "<Predictions of 'talk', 2 utterances",
        "  Ann: joy 0.75, <anger> 0.25",
        "  Bob: <anger> 0.60, joy 0.40>",
    ]


def test_a_frame_has_a_row_for_each_utterance(predictions: ConversationPredictions) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = predictions_frame([predictions, predictions], CLASSES)
    assert len(frame) == 4
    assert frame["prediction"].tolist() == ["joy", "<anger>"] * 2
    assert frame["label"].isna().tolist() == [False, True] * 2 and frame["label"][0] == "<anger>"
    assert frame["p(joy)"].tolist() == [0.75, 0.4] * 2 and frame["probability"].tolist() == [0.75, 0.6] * 2
    assert frame["gate(t, a)"][0] == 0.4 and np.isnan(frame["gate(t, a)"][1])
    assert frame["warnings"][1] == "a <b>loud</b> sound" and frame["speaker"][1] == "Bob"
    alone = predictions_frame(predictions)
    assert len(alone) == 2 and "label" not in alone
    assert len(predictions_frame([])) == 0


def over(*values: float) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "std": 0.0, "values": list(values)}


RESULT = {
    "seeds": [0, 3],
    "validation": {"accuracy": over(50, 60), "weighted_f1": over(40, 50), "best_epoch": [1, 2]},
    "test": {"accuracy": over(51, 61), "weighted_f1": over(41, 51), "f1": {"joy": over(70, 80)}},
}


def test_scores_of_every_seed_are_a_frame(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = scores_frame(RESULT)
    (row,) = frame[(frame["split"] == "test") & (frame["score"] == "accuracy") & (frame["seed"] == 3)]["value"]
    assert row == 61
    assert frame[frame["emotion"] == "joy"]["value"].tolist() == [70, 80]
    assert len(frame) == 10
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    assert scores_frame(tmp_path).equals(frame) and scores_frame(str(tmp_path)).equals(frame)


def test_the_course_of_a_training_is_a_frame(tmp_path: Path) -> None:
    """A run that still goes on may have written half of its last line."""
    pytest.importorskip("pandas", reason="pandas is not installed")
    row = {"seed": 0, "epoch": 1, "train": {"loss": 2.5}, "test": {"weighted_f1": 40.0}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row)[:9])
    frame = metrics_frame(tmp_path)
    assert frame.to_dict("records") == [{"seed": 0, "epoch": 1, "train.loss": 2.5, "test.weighted_f1": 40.0}]


def test_what_is_not_there_is_told(tmp_path: Path, predictions: ConversationPredictions, monkeypatch: Any) -> None:
    for frame in (scores_frame, metrics_frame):
        with pytest.raises(InputError, match=r"there is no file .*: name the folder of a"):
            frame(tmp_path)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        predictions_frame(predictions)


def test_a_part_of_a_conversation_is_a_part_of_the_frame(predictions: ConversationPredictions) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    for part in (predictions[:1], predictions[0]):
        with pytest.raises(InputError, match=r"whole conversations.*predictions_frame\(\.\.\.\)\[:3\]"):
            predictions_frame(part)  # type: ignore[arg-type]


def test_the_scores_of_a_sweep_are_those_of_its_runs(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    sweep: dict[str, Any] = {"experiment": "meld", "sections": []}
    (tmp_path / "result.json").write_text(json.dumps(sweep))
    for given, place in ((tmp_path, str(tmp_path / "runs")), (sweep, "the folder `runs` of the sweep")):
        with pytest.raises(InputError, match=rf"this is a sweep: name one of the folders in {re.escape(place)}$"):
            scores_frame(given)


def test_the_package_has_them() -> None:
    assert (
        cmath_jax.predictions_frame is predictions_frame
        and cmath_jax.ConversationPredictions is ConversationPredictions
    )
    assert {*cmath_jax.__all__} == {*cmath_jax._HOMES}
