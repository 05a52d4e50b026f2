"""Frames of pandas: predictions, scores and the course of a training, for those who go on from there.

pandas is optional: `pip install pandas`.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError
from cmath_jax.io.json_files import read_object, read_whole_lines
from cmath_jax.prediction.answers import ConversationPredictions, Prediction

RESULT, METRICS = "result.json", "metrics.jsonl"


def predictions_frame(predictions: Iterable[ConversationPredictions], classes: Sequence[str] = ()) -> Any:
    """Returns a frame with a row for each utterance: who said what, its emotion, probabilities, weights of the gates.

    Args:
      predictions: what `predict` returns, or the predictions of one conversation.
      classes: `Corpus.classes` of the conversations, to have their own labels in the column `label`.

    Raises:
      InputError: it is only a part of the predictions of a conversation, or pandas is not installed.
    """
    several = [predictions] if isinstance(predictions, ConversationPredictions | Prediction) else predictions
    return _frame(row for each in several for row in _rows(each, classes))


def scores_frame(result: Mapping[str, Any] | str | Path) -> Any:
    """Returns a frame with a row for each score of each seed: `split`, `score`, `emotion`, `seed`, `value`, in percent.

    Args:
      result: what `fit` returns, or the run folder that it wrote.

    Raises:
      InputError: the run is not finished, it is a sweep, or pandas is not installed.
    """
    return _frame(_scores(_result(result)))


def metrics_frame(run: str | Path) -> Any:
    """Returns a frame with a row for each seed and epoch of a run folder: losses, scores, seconds.

    Raises:
      InputError: there is no such run, or pandas is not installed.
    """
    path = Path(run) / METRICS
    if not path.is_file():
        raise InputError(f"there is no file {path}: name the folder of a run")
    return _frame(map(_flat, read_whole_lines(path)))


def _rows(predictions: Any, classes: Sequence[str]) -> list[dict[str, Any]]:
    if not isinstance(predictions, ConversationPredictions):
        raise InputError(
            "predictions_frame takes the predictions of whole conversations, as `predict` returns them; a part of them "
            "is a part of the frame: predictions_frame(...)[:3]"
        )
    return predictions.rows(classes)


def _scores(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for split in ("validation", "test"):
        scores = {(name, None): result[split][name] for name in ("accuracy", "weighted_f1")}
        scores |= {("f1", emotion): values for emotion, values in result[split].get("f1", {}).items()}
        for (score, emotion), values in scores.items():
            for seed, value in zip(result["seeds"], values["values"], strict=True):
                yield {"split": split, "score": score, "emotion": emotion, "seed": seed, "value": value}


def _result(given: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """Returns the result of a single run, which is given or in its folder. Raises InputError."""
    if isinstance(given, Mapping):
        result, place = given, "the folder `runs` of the sweep"
    else:
        path, place = Path(given) / RESULT, str(Path(given) / "runs")
        if not path.is_file():
            raise InputError(f"there is no file {path}: name the folder of a finished run")
        result = read_object(path)
    if "seeds" not in result:
        raise InputError(f"scores are those of a single run, and this is a sweep: name one of the folders in {place}")
    return result


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row whose objects are columns: {"test": {"f1": 1}} as {"test.f1": 1}."""
    columns: dict[str, Any] = {}
    for name, value in row.items():
        inner = _flat(value) if isinstance(value, Mapping) else {"": value}
        columns |= {f"{name}.{key}" if key else name: x for key, x in inner.items()}
    return columns


def _frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise InputError("a frame is one of pandas, which is not installed: pip install pandas") from error
    return pandas.DataFrame([*rows])
