"""Makes `result.json` and `predictions.jsonl` from the results of the seeds of a run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.config import Config
from cmath_jax.data.corpus import UNLABELLED, Corpus
from cmath_jax.evaluation import reference_points
from cmath_jax.evaluation.calibration import Calibration
from cmath_jax.evaluation.joint_test import compare_models
from cmath_jax.evaluation.metrics import Scores, over_seeds
from cmath_jax.evaluation.statistics import Utterances
from cmath_jax.io.json_files import read_object
from cmath_jax.models.outputs import Evaluation
from cmath_jax.results.circumstances import Circumstances, record

MAJORITY = "always the most frequent emotion"


@dataclass(frozen=True)
class SeedResult:
    """The result of one seed: the epoch with the best validation weighted F1, and how it came to be.

    Attributes:
      history: the rows of `metrics.jsonl`.
      test, validation: scores of the best epoch.
      evaluation: of every test utterance; `probability` is float32 [n, c].
      parameters: how many numbers the model learns.
      calibration: of its probabilities, on validation and test.
    """

    seed: int
    history: list[dict[str, Any]]
    test: Scores
    validation: Scores
    evaluation: Evaluation
    parameters: int
    calibration: Calibration


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int:
    """Returns the number (from 1) of the first epoch with the highest validation weighted F1."""
    return 1 + int(np.argmax([row["validation"]["weighted_f1"] for row in history]))


def best_seed(seeds: Sequence[SeedResult]) -> SeedResult:
    """Returns the first seed with the highest validation weighted F1."""
    return max(seeds, key=lambda seed: seed.validation.weighted_f1)


class References:
    """The reference points that any model has to beat on a corpus, computed once for all runs that ask."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._majority = reference_points.majority(corpus)
        self._linear: dict[str, Linear] = {}

    def of(self, config: Config) -> tuple[dict[str, float], "Linear | None"]:
        """Returns the scores of `majority`, and the linear model if the config asks for it."""
        modalities = "".join(m for m in config.linear_reference if m in config.data.modalities)
        if modalities and modalities not in self._linear:
            scores, labelled_n = reference_points.fit_linear(self._corpus, modalities)
            label_n = self._corpus.labels("test")
            prediction_n = np.full(len(label_n), UNLABELLED)
            prediction_n[label_n != UNLABELLED] = labelled_n
            self._linear[modalities] = Linear({"modalities": modalities, **scores}, prediction_n)
        return self._majority, self._linear[modalities] if modalities else None


@dataclass(frozen=True)
class Linear:
    """The results of a linear model of single utterances.

    Attributes:
      scores: as they stand in `result.json`.
      prediction_n: int [n], of each test utterance; `UNLABELLED` where there is no label to be compared with.
    """

    scores: Mapping[str, Any]
    prediction_n: np.ndarray


def summarize(
    config: Config,
    corpus: Corpus,
    seeds: Sequence[SeedResult],
    references: tuple[Mapping[str, float], Linear | None],
) -> dict[str, Any]:
    """Returns the content of `result.json`. Scores are in percent; confusion matrices are summed over seeds."""
    rows = [row for seed in seeds for row in seed.history]
    majority, linear = references
    beside = {"linear": {**linear.scores, **_compared(corpus, seeds, linear)}} if linear else {}
    diagnostics = {
        "test_peak": {
            "weighted_f1": over_seeds([max(row["test"]["weighted_f1"] for row in seed.history) for seed in seeds]),
        },
        "majority": majority,
        **beside,
        "collapsed": any(seed.test.collapsed for seed in seeds),
        "collapsed_seeds": [seed.seed for seed in seeds if seed.test.collapsed],
    }
    return {
        "experiment": config.experiment,
        "dataset": corpus.name,
        "source": corpus.source,
        **record(config, corpus),
        "classes": list(corpus.classes),
        "parameters": seeds[0].parameters,
        "seeds": [seed.seed for seed in seeds],
        "test": {
            "accuracy": over_seeds([seed.test.accuracy for seed in seeds]),
            "weighted_f1": over_seeds([seed.test.weighted_f1 for seed in seeds]),
            "f1": {name: over_seeds([seed.test.f1_c[c] for seed in seeds]) for c, name in enumerate(corpus.classes)},
            "confusion_matrix": np.sum([seed.test.confusion_cc for seed in seeds], axis=0).tolist(),
        },
        "validation": {
            "accuracy": over_seeds([seed.validation.accuracy for seed in seeds]),
            "weighted_f1": over_seeds([seed.validation.weighted_f1 for seed in seeds]),
            "best_epoch": [best_epoch(seed.history) for seed in seeds],
        },
        "calibration": {
            "temperature": over_seeds([seed.calibration.temperature for seed in seeds]),
            **{
                split: {when: over_seeds([seed.calibration.error[split][when] for seed in seeds]) for when in values}
                for split, values in seeds[0].calibration.error.items()
            },
        },
        "diagnostics": diagnostics,
        "seconds": {
            "compile": sum(row["compile_seconds"] for row in rows),
            "train": sum(row["seconds"] for row in rows),
            "per_epoch": float(np.median([row["seconds"] for row in rows])),
        },
        "peak_memory_mb": max(row["peak_memory_mb"] for row in rows),
    }


def _compared(corpus: Corpus, seeds: Sequence[SeedResult], linear: Linear) -> dict[str, Any]:
    """Returns the model's weighted F1 minus the linear one's, over seeds and conversations: see `compare_models`."""
    conversation_n = np.repeat(np.arange(len(corpus.splits["test"])), [len(c) for c in corpus.splits["test"]])
    prediction_tn = np.stack([seed.evaluation.probability.argmax(-1) for seed in seeds])
    found = compare_models(
        Utterances(corpus.labels("test"), conversation_n, len(corpus.classes)),
        prediction_tn,
        linear.prediction_n[np.newaxis],
        fixed="b",
    )
    interval = [found.interval.low, found.interval.high] if found.interval else None
    return {"model_minus_linear": {"weighted_f1": found.difference, "interval": interval, "p_value": found.p_value}}


def predictions(corpus: Corpus, seeds: Sequence[SeedResult], linear: Linear | None = None) -> Iterator[dict[str, Any]]:
    """Yields a row per seed and test utterance; emotions by name. `text` is there where the corpus has sentences.

    `linear` is what the linear model says, where there is one and a label to compare it with.
    Probabilities have six significant digits, so that the small ones have a logarithm.
    """
    for seed in seeds:
        n = 0
        for conversation in corpus.splits["test"]:
            for i, label in enumerate(conversation.labels):
                probability_c = seed.evaluation.probability[n]
                reference = int(linear.prediction_n[n]) if linear else UNLABELLED
                n += 1
                text = {"text": conversation.sentences[i]} if conversation.sentences else {}
                yield {
                    "seed": seed.seed,
                    "conversation": conversation.id,
                    "utterance": i,
                    "speaker": int(conversation.speakers[i]),
                    **text,
                    "label": corpus.classes[label] if label >= 0 else None,
                    "prediction": corpus.classes[int(probability_c.argmax())],
                    "probabilities": [float(f"{p:.6g}") for p in probability_c],
                    **({"linear": corpus.classes[reference]} if reference != UNLABELLED else {}),
                }


def readable_sweep(result: Mapping[str, Any], folder: Path) -> str:
    """Returns the scores of a sweep in a line per point, and what they belong to, for the terminal."""
    lines, majority = [_header(result)], {}
    first: Circumstances | None = None
    for section in result["sections"]:
        lines.append(section["kind"])
        for point, place in section["points"].items():
            run_folder = folder / "runs" / place["run"]
            if not (run_folder / "result.json").exists():
                lines.append(f"  {point:<36}  failed: {result['failed'].get(place['run'], 'not run yet')}")
                continue
            run, config = (
                read_object(path) if path.exists() else {}
                for path in (run_folder / "result.json", run_folder / "config.json")
            )
            circumstances = Circumstances.read(run, config)
            first = first or circumstances
            marks = [*_other_data(run, result), *circumstances.differences(first)]
            note = _seeds_note(run) + (f"  [{'; '.join(marks)}]" if marks else "")
            lines.append(_line(point, run["test"]["accuracy"]["mean"], run["test"]["weighted_f1"]["mean"], note))
            majority = run["diagnostics"]["majority"]
    if majority:
        lines.append(_line(MAJORITY, majority["accuracy"], majority["weighted_f1"]))
    if first:
        lines += [f"where a row says nothing else: sees {first.seen}: {first.short()}", *_data(result)]
    return "\n".join(lines)


def readable(result: dict[str, Any]) -> str:
    """Returns the result in a few lines, and what the scores belong to, for the terminal."""
    test, diagnostics = result["test"], result["diagnostics"]
    lines = [
        _header(result),
        _line(result["experiment"], test["accuracy"]["mean"], test["weighted_f1"]["mean"], _seeds_note(result)),
    ]
    if "linear" in diagnostics:
        linear = diagnostics["linear"]
        letters = linear["modalities"]
        lines.append(_line(f"linear, one utterance ({letters})", linear["accuracy"], linear["weighted_f1"]))
    majority = diagnostics["majority"]
    lines.append(_line(MAJORITY, majority["accuracy"], majority["weighted_f1"]))
    lines += [_belonging(Circumstances.read(result, {})), *_data(result)]
    if "model_minus_linear" in diagnostics.get("linear", {}):
        lines.append(_against_linear(diagnostics["linear"]["model_minus_linear"], len(result["seeds"])))
    lines += [
        f"chosen by validation F1 {result['validation']['weighted_f1']['mean']:.2f} "
        f"(epoch {', '.join(map(str, result['validation']['best_epoch']))}); "
        f"best test epoch {diagnostics['test_peak']['weighted_f1']['mean']:.2f}, a diagnostic",
    ]
    if diagnostics["collapsed"]:
        lines.append("WARNING: a seed has collapsed: it predicts one emotion for every utterance")
    return "\n".join(lines)


def _header(result: Mapping[str, Any]) -> str:
    return f"{'test of ' + result['dataset']:<38}{'accuracy':>8}  weighted F1"


def _belonging(circumstances: Circumstances) -> str:
    model = f"{circumstances.model} sees" if circumstances.model else "seen:"
    return f"{model} {circumstances.seen}: {circumstances.short()}"


def _data(result: Mapping[str, Any]) -> list[str]:
    # The source of the built-in corpus is all its options, and they are in config.json.
    return [f"data: {result['source']}"] if result["dataset"] != "simulated" and result.get("source") else []


def _other_data(run: Mapping[str, Any], sweep: Mapping[str, Any]) -> list[str]:
    same = all(run.get(name) == sweep.get(name) for name in ("dataset", "source"))
    return [] if same else [f"other data: {run.get('dataset')}, {run.get('source')}"]


def _against_linear(compared: Mapping[str, Any], seeds: int) -> str:
    difference = f"model minus linear: {compared['weighted_f1']:+.2f} of weighted F1"
    if compared["p_value"] is None:
        why = "with one seed" if seeds < 2 else "with one conversation"
        return f"{difference}; how sure that is cannot be known {why}"
    low, high = compared["interval"]
    return f"{difference} (95 % {low:+.2f} to {high:+.2f}), p {compared['p_value']:.2g}, over seeds and conversations"


def _line(name: str, accuracy: float, weighted_f1: float, note: str = "") -> str:
    return f"  {name:<36}{accuracy:>8.2f}  {weighted_f1:>11.2f}{note}"


def _seeds_note(result: Mapping[str, Any]) -> str:
    seeds, collapsed = len(result["seeds"]), result["diagnostics"]["collapsed_seeds"]
    note = f" ± {result['test']['weighted_f1']['std']:.2f} over {seeds} seeds" if seeds > 1 else ""
    return note + (f", COLLAPSED: seed {', '.join(map(str, collapsed))}" if collapsed else "")
