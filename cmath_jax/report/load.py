"""Reads a run folder: scores, curves, predictions and representations. n is a test utterance, t a seed.

What is in the files was written by others: names and texts are made printable here, once, and everything that the
report relies on is checked.
"""

import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.errors import InputError
from cmath_jax.evaluation.calibration import BOUNDS
from cmath_jax.evaluation.metrics import Scores
from cmath_jax.io.files import unreadable
from cmath_jax.io.json_files import read_json, read_lines, read_object
from cmath_jax.results.circumstances import Circumstances


@dataclass(frozen=True)
class Score:
    """A score in percent over the seeds of a run: mean, standard deviation (n - 1), the values."""

    mean: float
    std: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Score":
        return cls(float(entry["mean"]), float(entry["std"]), tuple(float(value) for value in entry["values"]))


@dataclass(frozen=True)
class Epoch:
    """A row of `metrics.jsonl`: training loss, and weighted F1 in percent."""

    number: int
    loss: float
    validation: float
    test: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Epoch":
        scores = (float(row[split]["weighted_f1"]) for split in ("validation", "test"))
        return cls(int(row["epoch"]), float(row["train"]["loss"]), *scores)


@dataclass(frozen=True)
class Reference:
    """A model that others have to beat; `modalities` is "" for the majority."""

    modalities: str
    accuracy: float
    weighted_f1: float

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Reference":
        return cls(str(entry.get("modalities", "")), float(entry["accuracy"]), float(entry["weighted_f1"]))


@dataclass(frozen=True)
class CalibrationScores:
    """The effect of dividing the logits of each seed by a temperature that is fitted on validation.

    Attributes:
      error: `validation` and `test` -> `before` and `after` -> the expected calibration error.
    """

    temperature: Score
    error: Mapping[str, Mapping[str, Score]]

    @classmethod
    def of(cls, entry: Mapping[str, Any], seeds: int) -> "CalibrationScores":
        """Returns the scores of an entry of `result.json`.

        Raises ValueError for what is no temperature or no error, or is not there for each of the seeds.
        """

        def checked(name: str, entry: Mapping[str, Any], lowest: float, highest: float) -> Score:
            score = Score.of(entry)
            if len(score.values) != seeds:
                raise ValueError(f"calibration, {name}: {len(score.values)} values for {seeds} seeds")
            if not all(lowest <= value <= highest for value in (score.mean, *score.values)):
                raise ValueError(f"calibration, {name}: not between {lowest:g} and {highest:g}")
            if not 0 <= score.std <= highest:
                raise ValueError(f"calibration, {name}: {score.std} is not a standard deviation")
            return score

        error = {
            split: {when: checked(f"{split} {when}", entry[split][when], 0, 100) for when in ("before", "after")}
            for split in ("validation", "test")
        }
        return cls(checked("temperature", entry["temperature"], *BOUNDS), error)


@dataclass(frozen=True)
class Predictions:
    """The predictions of a run for every test utterance.

    Attributes:
      conversations: the name of each conversation, in their order.
      conversation_n, utterance_n: int [n], the number of the conversation and of the utterance inside it.
      label_n: int [n], `UNLABELLED` where there is none.
      prediction_tn: int [t, n].
      probability_tnc: float32 [t, n, c], not calibrated.
      linear_n: int [n], what the linear model says, `UNLABELLED` where there is no label; None where it was not kept.
      speaker_n, text_n: of each utterance, or () where the run did not keep them.
    """

    conversations: tuple[str, ...]
    conversation_n: np.ndarray
    utterance_n: np.ndarray
    label_n: np.ndarray
    prediction_tn: np.ndarray
    probability_tnc: np.ndarray
    speaker_n: tuple[str, ...]
    text_n: tuple[str, ...]
    linear_n: np.ndarray | None = None

    def same_utterances(self, other: "Predictions") -> bool:
        return self.conversations == other.conversations and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("conversation_n", "utterance_n", "label_n")
        )


@dataclass(frozen=True, eq=False)  # two runs are the same if they are of the same folder
class Run:
    """A configuration, trained with several seeds.

    Attributes:
      fingerprint: of the corpus; equal data, equal fingerprint.
      circumstances: what its scores belong to.
      f1: of each class.
      test_peak: the best test epoch, a diagnostic.
      references: `majority` and, if it was asked for, `linear`.
      calibration: None for a result from before there was one.
      curves: the epochs of each seed.
      representations: the arrays of `representations.npz`, of the first seed; empty where there is none.
      unusable: the names of the arrays of that file that are not a finite row for each test utterance.
    """

    name: str
    experiment: str
    dataset: str
    source: str
    fingerprint: str
    circumstances: Circumstances
    classes: tuple[str, ...]
    parameters: int
    seeds: tuple[int, ...]
    accuracy: Score
    weighted_f1: Score
    f1: tuple[Score, ...]
    confusion_cc: np.ndarray
    validation_f1: Score
    best_epochs: tuple[int, ...]
    test_peak: Score
    references: Mapping[str, Reference]
    calibration: CalibrationScores | None
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    curves: Mapping[int, tuple[Epoch, ...]]
    predictions: Predictions
    representations: Mapping[str, np.ndarray]
    unusable: tuple[str, ...]

    @cached_property
    def labelled(self) -> int:
        """Returns how many test utterances have a label."""
        return int((self.predictions.label_n != UNLABELLED).sum())

    @cached_property
    def collapsed_seeds(self) -> tuple[int, ...]:
        """Returns the seeds that predict one emotion for every labelled utterance."""
        label_n, classes = self.predictions.label_n, len(self.classes)
        pairs = zip(self.seeds, self.predictions.prediction_tn, strict=True)
        return tuple(seed for seed, prediction_n in pairs if Scores.of(label_n, prediction_n, classes).collapsed)


def printable(value: Any) -> str:
    """Returns a string without the control characters that neither HTML nor SVG can hold, on one line."""
    return "".join(" " if c.isspace() else "\N{REPLACEMENT CHARACTER}" if _control(c) else c for c in str(value))


def _all_printable(value: Any) -> Any:
    """Returns a JSON value whose texts are `printable`."""
    if isinstance(value, Mapping):
        return {printable(name): _all_printable(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_all_printable(entry) for entry in value]
    return printable(value) if isinstance(value, str) else value


@contextmanager
def reading() -> Iterator[None]:
    """Makes an InputError of a file that the system does not give."""
    try:
        yield
    except OSError as error:
        raise unreadable(error.filename, error) from error


def load_run(folder: Path, name: str) -> Run:
    """Returns the run in a folder, under the name by which its sweep or its reader knows it.

    Raises:
      InputError: naming the file that is not there, or not as a run writes it.
    """
    try:
        with reading():
            return _run(folder, name)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{folder}: not as a run writes it: {type(error).__name__}: {error}") from error


def _run(folder: Path, name: str) -> Run:
    result = read_json(folder / "result.json")
    classes, seeds = tuple(result["classes"]), tuple(int(seed) for seed in result["seeds"])
    test, diagnostics = result["test"], result["diagnostics"]
    environment = read_object(folder / "environment.json")
    predictions = _predictions(folder / "predictions.jsonl", classes, seeds)
    rows = list(read_lines(folder / "metrics.jsonl"))
    arrays = _representations(folder / "representations.npz")
    usable = {name: array for name, array in arrays.items() if _is_usable(name, array, len(predictions.label_n))}
    config = read_object(folder / "config.json")
    run = Run(
        name=printable(name),
        experiment=printable(result["experiment"]),
        dataset=printable(result["dataset"]),
        source=printable(result["source"]),
        fingerprint=str(environment.get("data", {}).get("fingerprint", "")),
        circumstances=Circumstances.read(_all_printable(result), _all_printable(config)),
        classes=tuple(map(printable, classes)),
        parameters=int(result["parameters"]),
        seeds=seeds,
        accuracy=Score.of(test["accuracy"]),
        weighted_f1=Score.of(test["weighted_f1"]),
        f1=tuple(Score.of(test["f1"][c]) for c in classes),
        confusion_cc=np.array(test["confusion_matrix"], dtype=np.int64).reshape(len(classes), len(classes)),
        validation_f1=Score.of(result["validation"]["weighted_f1"]),
        best_epochs=tuple(int(epoch) for epoch in result["validation"]["best_epoch"]),
        test_peak=Score.of(diagnostics["test_peak"]["weighted_f1"]),
        references={k: Reference.of(diagnostics[k]) for k in ("majority", "linear") if k in diagnostics},
        calibration=CalibrationScores.of(result["calibration"], len(seeds)) if "calibration" in result else None,
        config=config,
        environment=environment,
        curves={seed: tuple(Epoch.of(row) for row in rows if row["seed"] == seed) for seed in seeds},
        predictions=predictions,
        representations={name: array.astype(np.float32) for name, array in usable.items()},
        unusable=tuple(printable(name) for name in arrays if name not in usable),
    )
    per_seed = [run.best_epochs, *(s.values for s in (run.accuracy, run.weighted_f1, run.test_peak, *run.f1))]
    if any(len(values) != len(seeds) for values in per_seed):
        raise ValueError(f"result.json does not have a value for each of {len(seeds)} seeds")
    if not all(run.curves.values()):
        raise InputError(f"{folder / 'metrics.jsonl'}: there is a seed without an epoch")
    return run


def _predictions(path: Path, classes: Sequence[str], seeds: Sequence[int]) -> Predictions:
    by_seed: dict[int, list[Mapping[str, Any]]] = {seed: [] for seed in seeds}
    for row in read_lines(path):
        by_seed[row["seed"]].append(row)
    index = {name: c for c, name in enumerate(classes)}

    def utterances(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str | None]]:
        return [(row["conversation"], row["utterance"], row["label"]) for row in rows]

    first = by_seed[seeds[0]]
    for seed in seeds:
        if not by_seed[seed] or utterances(by_seed[seed]) != utterances(first):
            raise InputError(f"{path}: seed {seed} does not have the utterances of seed {seeds[0]}")
    names = tuple(dict.fromkeys(row["conversation"] for row in first))
    number = {name: k for k, name in enumerate(names)}
    probability_tnc = np.array([[row["probabilities"] for row in by_seed[seed]] for seed in seeds], dtype=np.float64)
    probability_tnc = probability_tnc.reshape(len(seeds), len(first), len(classes))
    for t, n in np.argwhere(~_is_distribution(probability_tnc))[:1]:
        where = f"conversation {printable(first[n]['conversation'])}, utterance {printable(first[n]['utterance'])}"
        raise InputError(f"{path}: seed {seeds[t]}, {where}: the probabilities are no distribution")

    def of_all(key: str) -> tuple[str, ...]:
        return tuple(printable(row[key]) for row in first) if all(row.get(key) is not None for row in first) else ()

    return Predictions(
        conversations=tuple(map(printable, names)),
        conversation_n=np.array([number[row["conversation"]] for row in first]),
        utterance_n=np.array([row["utterance"] for row in first]),
        label_n=np.array([UNLABELLED if row["label"] is None else index[row["label"]] for row in first]),
        prediction_tn=np.array([[index[row["prediction"]] for row in by_seed[seed]] for seed in seeds]),
        probability_tnc=probability_tnc.astype(np.float32),
        speaker_n=of_all("speaker"),
        text_n=of_all("text"),
        linear_n=_linear(first, index),
    )


def _linear(rows: Sequence[Mapping[str, Any]], index: Mapping[str, int]) -> np.ndarray | None:
    """Returns the predictions of the linear model, int [n]; None where a labelled utterance has none."""
    if any(row["label"] is not None and row.get("linear") is None for row in rows):
        return None
    return np.array([UNLABELLED if row.get("linear") is None else index[row["linear"]] for row in rows])


def _is_distribution(probability_tnc: np.ndarray) -> np.ndarray:
    """Returns which rows are distributions, bool [t, n]; a sum may differ from 1 by what rounding takes."""
    inside_tnc = (probability_tnc >= 0) & (probability_tnc <= 1)
    return inside_tnc.all(-1) & (np.abs(np.where(inside_tnc, probability_tnc, 0).sum(-1) - 1) < 0.01)


def _representations(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in sorted(file.files)}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a file of arrays: {error}") from error


def _is_usable(name: str, array: np.ndarray, utterances: int) -> bool:
    axes = 1 if name.endswith("_n") else 2
    if array.ndim != axes or len(array) != utterances or array.dtype.kind not in "fiu":
        return False
    return bool((np.abs(array) <= np.finfo(np.float32).max).all())


def _control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff"
