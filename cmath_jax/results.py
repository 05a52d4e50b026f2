"""`result.json` and `predictions.jsonl` from what the seeds of a run came to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmath_jax import reference_points
from cmath_jax.config import Config
from cmath_jax.data.conversations import Corpus
from cmath_jax.metrics import Scores, over_seeds


@dataclass(frozen=True)
class SeedResult:
    """One seed: the epoch with the best validation weighted F1, and how it came to be.

    Attributes:
      history: the rows of `metrics.jsonl`.
      test, validation: scores of the best epoch.
      probability_nc: float32 [N, C], of every test utterance.
      parameters: how many numbers the model learns.
    """

    seed: int
    history: list[dict[str, Any]]
    test: Scores
    validation: Scores
    probability_nc: np.ndarray
    parameters: int


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int:
    """The number (from 1) of the first epoch with the highest validation weighted F1."""
    return 1 + int(np.argmax([row["validation"]["weighted_f1"] for row in history]))


def references(config: Config, corpus: Corpus) -> dict[str, Any]:
    """What the model has to beat on this corpus: `majority`, and `linear` if the config asks for it."""
    points: dict[str, Any] = {"majority": reference_points.majority(corpus)}
    modalities = "".join(m for m in config.linear_reference if m in config.data.modalities)
    if modalities:
        points["linear"] = {"modalities": modalities, **reference_points.linear(corpus, modalities)}
    return points


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
        "diagnostics": diagnostics,
        "seconds": {
            "compile": sum(row["compile_seconds"] for row in rows),
            "train": sum(row["seconds"] for row in rows),
            "per_epoch": float(np.median([row["seconds"] for row in rows])),
        },
        "peak_memory_mb": max(row["peak_memory_mb"] for row in rows),
    }


def predictions(corpus: Corpus, seeds: Sequence[SeedResult]) -> Iterator[dict[str, Any]]:
    """A row per seed and test utterance; emotions by name."""
    for seed in seeds:
        n = 0
        for conversation in corpus.splits["test"]:
            for i, label in enumerate(conversation.labels):
                probability_c = seed.probability_nc[n]
                n += 1
                yield {
                    "seed": seed.seed,
                    "conversation": conversation.id,
                    "utterance": i,
                    "label": corpus.classes[label] if label >= 0 else None,
                    "prediction": corpus.classes[int(probability_c.argmax())],
                    "probabilities": [round(float(p), 6) for p in probability_c],
                }


def readable(result: dict[str, Any]) -> str:
    """The result in a few lines, for the terminal."""
    test, diagnostics = result["test"], result["diagnostics"]

    def line(name: str, accuracy: float, weighted_f1: float, note: str = "") -> str:
        return f"  {name:<36}{accuracy:>8.2f}  {weighted_f1:>11.2f}{note}"

    spread = (
        f" ± {test['weighted_f1']['std']:.2f} over {len(result['seeds'])} seeds" if len(result["seeds"]) > 1 else ""
    )
    lines = [
        f"{'test of ' + result['dataset']:<38}{'accuracy':>8}  weighted F1",
        line(result["experiment"], test["accuracy"]["mean"], test["weighted_f1"]["mean"], spread),
    ]
    if "linear" in diagnostics:
        linear = diagnostics["linear"]
        letters = linear["modalities"]
        lines.append(line(f"linear, one utterance ({letters})", linear["accuracy"], linear["weighted_f1"]))
    majority = diagnostics["majority"]
    lines.append(line("always the most frequent emotion", majority["accuracy"], majority["weighted_f1"]))
    lines += [
        f"chosen by validation F1 {result['validation']['weighted_f1']['mean']:.2f} "
        f"(epoch {', '.join(map(str, result['validation']['best_epoch']))}); "
        f"best test epoch {diagnostics['test_peak']['weighted_f1']['mean']:.2f}, a diagnostic",
    ]
    if diagnostics["collapsed"]:
        lines.append("WARNING: a seed has collapsed: it predicts one emotion for every utterance")
    return "\n".join(lines)
