"""`result.json` and `predictions.jsonl` from what the seeds of a run came to."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax import reference_points
from cmath_jax.config import Config
from cmath_jax.data.conversations import Corpus
from cmath_jax.metrics import Scores, over_seeds
from cmath_jax.prediction.calibration import Calibration
from cmath_jax.step import Evaluation

MAJORITY = "always the most frequent emotion"


@dataclass(frozen=True)
class SeedResult:
    """One seed: the epoch with the best validation weighted F1, and how it came to be.

    Attributes:
      history: the rows of `metrics.jsonl`.
      test, validation: scores of the best epoch.
      evaluation: of every test utterance; `probability` is float32 [N, C].
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
    """The number (from 1) of the first epoch with the highest validation weighted F1."""
    return 1 + int(np.argmax([row["validation"]["weighted_f1"] for row in history]))


def best_seed(seeds: Sequence[SeedResult]) -> SeedResult:
    """The first with the highest validation weighted F1."""
    return max(seeds, key=lambda seed: seed.validation.weighted_f1)


class References:
    """What any model has to beat on a corpus; computed once for all runs that ask."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._majority = reference_points.majority(corpus)
        self._linear: dict[str, dict[str, Any]] = {}

    def of(self, config: Config) -> dict[str, Any]:
        """`majority`, and `linear` if the config asks for it."""
        modalities = "".join(m for m in config.linear_reference if m in config.data.modalities)
        if modalities and modalities not in self._linear:
            self._linear[modalities] = {"modalities": modalities, **reference_points.linear(self._corpus, modalities)}
        return {"majority": self._majority} | ({"linear": self._linear[modalities]} if modalities else {})


def summarize(
    config: Config, corpus: Corpus, seeds: Sequence[SeedResult], references: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of `result.json`. Scores are in percent; confusion matrices are summed over seeds."""
    rows = [row for seed in seeds for row in seed.history]
    diagnostics = {
        "test_peak": {
            "weighted_f1": over_seeds([max(row["test"]["weighted_f1"] for row in seed.history) for seed in seeds]),
        },
        **references,
        "collapsed": any(seed.test.collapsed for seed in seeds),
        "collapsed_seeds": [seed.seed for seed in seeds if seed.test.collapsed],
    }
    return {
        "experiment": config.experiment,
        "dataset": corpus.name,
        "source": corpus.source,
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


def predictions(corpus: Corpus, seeds: Sequence[SeedResult]) -> Iterator[dict[str, Any]]:
    """A row per seed and test utterance; emotions by name. `text` is there where the corpus has sentences.

    Probabilities have six significant digits, and so the small ones have a logarithm.
    """
    for seed in seeds:
        n = 0
        for conversation in corpus.splits["test"]:
            for i, label in enumerate(conversation.labels):
                probability_c = seed.evaluation.probability[n]
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
                }


def readable_sweep(result: Mapping[str, Any], folder: Path) -> str:
    """The scores of a sweep in a line per point, for the terminal."""
    lines, majority = [f"{'test of ' + result['dataset']:<38}{'accuracy':>8}  weighted F1"], {}
    for section in result["sections"]:
        lines.append(section["kind"])
        for point, place in section["points"].items():
            path = folder / "runs" / place["run"] / "result.json"
            if not path.exists():
                lines.append(f"  {point:<36}  failed: {result['failed'].get(place['run'], 'not run yet')}")
                continue
            run = json.loads(path.read_text(encoding="utf-8"))
            lines.append(
                _line(point, run["test"]["accuracy"]["mean"], run["test"]["weighted_f1"]["mean"], _spread(run))
            )
            majority = run["diagnostics"]["majority"]
    if majority:
        lines.append(_line(MAJORITY, majority["accuracy"], majority["weighted_f1"]))
    return "\n".join(lines)


def readable(result: dict[str, Any]) -> str:
    """The result in a few lines, for the terminal."""
    test, diagnostics = result["test"], result["diagnostics"]
    lines = [
        f"{'test of ' + result['dataset']:<38}{'accuracy':>8}  weighted F1",
        _line(result["experiment"], test["accuracy"]["mean"], test["weighted_f1"]["mean"], _spread(result)),
    ]
    if "linear" in diagnostics:
        linear = diagnostics["linear"]
        letters = linear["modalities"]
        lines.append(_line(f"linear, one utterance ({letters})", linear["accuracy"], linear["weighted_f1"]))
    majority = diagnostics["majority"]
    lines.append(_line(MAJORITY, majority["accuracy"], majority["weighted_f1"]))
    lines += [
        f"chosen by validation F1 {result['validation']['weighted_f1']['mean']:.2f} "
        f"(epoch {', '.join(map(str, result['validation']['best_epoch']))}); "
        f"best test epoch {diagnostics['test_peak']['weighted_f1']['mean']:.2f}, a diagnostic",
    ]
    if diagnostics["collapsed"]:
        lines.append("WARNING: a seed has collapsed: it predicts one emotion for every utterance")
    return "\n".join(lines)


def _line(name: str, accuracy: float, weighted_f1: float, note: str = "") -> str:
    return f"  {name:<36}{accuracy:>8.2f}  {weighted_f1:>11.2f}{note}"


def _spread(result: Mapping[str, Any]) -> str:
    seeds, collapsed = len(result["seeds"]), result["diagnostics"]["collapsed_seeds"]
    spread = f" ± {result['test']['weighted_f1']['std']:.2f} over {seeds} seeds" if seeds > 1 else ""
    return spread + (f", COLLAPSED: seed {', '.join(map(str, collapsed))}" if collapsed else "")
