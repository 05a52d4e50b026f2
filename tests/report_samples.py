"""Run and sweep folders as a training writes them, drawn from a seed: predictions first, scores computed from them."""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report_parts

from cmath_jax.config import Config, override, to_dict
from cmath_jax.evaluation.metrics import Scores, over_seeds

MELD = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
IEMOCAP = ("happy", "sad", "neutral", "angry", "excited", "frustrated")
HOSTILE = '<script>alert("x")</script> & $\\frac{$ \x07 "quoted"'
WORDS = (
    "well",
    "I",
    "never",
    "said",
    "that",
    "you",
    "could",
    "take",
    "my",
    "sandwich",
    "what",
    "were",
    "oh",
    "no",
    "please",
)
ABLATIONS = {
    "wo_mr": {"model.reconstruction": False},
    "wo_cma": {"model.cross_attention": False},
    "wo_lld": {"loss.gamma1": 0.0},
    "wo_hld": {"loss.gamma2": 0.0},
    "wo_hd": {"loss.gamma1": 0.0, "loss.gamma2": 0.0},
    "inject_block": {"model.inject": "block"},
    "moving_teacher": {"loss.stop_teacher": False},
    "deterministic": {"model.noise": False},
    "symmetric": {"model.inject": "nothing"},
}
PUBLISHED: dict[str, dict[str, Any]] = {  # as the paper's, of MELD
    "t": {"size": 1024, "origin": "published", "layout": "F", "vectors": 1},
    "a": {"size": 300, "origin": "published", "layout": "F"},
    "v": {"size": 342, "origin": "published", "layout": "F"},
}
MODALITIES = ("t", "a", "v", "ta", "tv", "av")


@dataclass(frozen=True)
class Split:
    """The test split that all runs of a data set share; `labels` -1 where there is none."""

    dataset: str
    classes: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    speakers: tuple[tuple[int, ...], ...]

    @property
    def label_n(self) -> np.ndarray:
        return np.concatenate(self.labels)

    @property
    def conversation_n(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.labels)), [len(labels) for labels in self.labels])


def make_split(
    conversations: int = 12,
    classes: Sequence[str] = MELD,
    dataset: str = "meld",
    mean_length: float = 9.0,
    seed: int = 0,
    hostile: bool = False,
    texts: bool = True,
) -> Split:
    rng = np.random.default_rng(seed)
    share_c = 1 / np.arange(1, len(classes) + 1) ** 1.2
    lengths = np.clip(rng.gamma(2.0, mean_length / 2, conversations).astype(int), 1, 110)
    labels = [tuple(int(c) for c in rng.choice(len(classes), n, p=share_c / share_c.sum())) for n in lengths]
    labels[0] = (-1, *labels[0][1:])
    sentences = [tuple(" ".join(rng.choice(WORDS, rng.integers(2, 14))) for _ in range(n)) for n in lengths]
    if hostile:
        # The longest conversation has the most errors, so it is on the page.
        longest = int(np.argmax(lengths))
        sentences[longest] = (HOSTILE, *sentences[longest][1:])
    return Split(
        dataset,
        tuple(classes),
        tuple(labels),
        tuple(sentences) if texts else (),
        tuple(tuple(int(s) for s in rng.integers(3, size=n)) for n in lengths),
    )


def write_run(
    folder: Path,
    split: Split,
    *,
    experiment: str = "cmath",
    skill: float = 0.6,
    seeds: int = 3,
    epochs: int = 8,
    collapsed: Sequence[int] = (),
    representations: bool = True,
    calibration: bool = True,
    linear: bool = True,
    features: Mapping[str, Mapping[str, Any]] | None = PUBLISHED,
    modalities: str = "tav",
    seed: int = 0,
    fingerprint: str = "0123456789abcdef",
    source: str = "real transcripts and labels; audio and video features are simulated",
) -> dict[str, Any]:
    """A run folder; returns the content of its result.json. `skill` is the share of predictions that know the label.

    `features` are those of its record; None for a run of before there was one.
    """
    rng = np.random.default_rng([seed, 7])
    label_n, classes = split.label_n, len(split.classes)
    scores, rows, histories = [], [], []
    for s in range(seeds):
        guess_n = np.minimum(rng.geometric(0.5, len(label_n)) - 1, classes - 1)
        known_n = (rng.random(len(label_n)) < skill) & (label_n >= 0)
        prediction_n = np.zeros_like(label_n) if s in collapsed else np.where(known_n, label_n, guess_n)
        scores.append(Scores.of(label_n, prediction_n, classes))
        rows += _predictions(rng, split, s, prediction_n)
        histories.append(report_parts.history(rng, s, scores[-1], epochs - int(rng.integers(3))))
    peaks = [max(row["test"]["weighted_f1"] for row in history) for history in histories]
    best = [int(np.argmax([row["validation"]["weighted_f1"] for row in history])) for history in histories]
    validation = [history[b]["validation"] for history, b in zip(histories, best, strict=True)]
    majority = Scores.of(label_n, np.zeros_like(label_n), classes)
    linear_n = np.where(np.random.default_rng(5).random(len(label_n)) < 0.5, label_n, 0)
    by_linear = Scores.of(label_n, linear_n, classes)
    if linear:
        rows = [
            row | ({} if row["label"] is None else {"linear": split.classes[linear_n[i % len(label_n)]]})
            for i, row in enumerate(rows)
        ]
    result = {
        "experiment": experiment,
        "dataset": split.dataset,
        "source": source,
        "classes": list(split.classes),
        "parameters": 1_234_567,
        "seeds": list(range(seeds)),
        "test": {
            "accuracy": over_seeds([s.accuracy for s in scores]),
            "weighted_f1": over_seeds([s.weighted_f1 for s in scores]),
            "f1": {name: over_seeds([s.f1_c[c] for s in scores]) for c, name in enumerate(split.classes)},
            "confusion_matrix": np.sum([s.confusion_cc for s in scores], axis=0).tolist(),
        },
        "validation": {
            "accuracy": over_seeds([v["accuracy"] for v in validation]),
            "weighted_f1": over_seeds([v["weighted_f1"] for v in validation]),
            "best_epoch": [b + 1 for b in best],
        },
        "diagnostics": {
            "test_peak": {"weighted_f1": over_seeds(peaks)},
            "majority": {"accuracy": majority.accuracy, "weighted_f1": majority.weighted_f1},
            "linear": {
                "modalities": "tav",
                "accuracy": by_linear.accuracy,
                "weighted_f1": by_linear.weighted_f1,
                "C": 0.01,
            },
            "collapsed": bool(collapsed),
            "collapsed_seeds": list(collapsed),
        },
        "seconds": {"compile": 10.0, "train": 100.0, "per_epoch": 4.0},
        "peak_memory_mb": 1000,
    }
    if features is not None:
        result |= {"model": "cmath", "modalities": modalities, "features": {m: features[m] for m in modalities}}
    if calibration:
        result["calibration"] = report_parts.calibration(rows, label_n, seeds)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)
    write_json(
        folder / "config.json", {"experiment": experiment, "dataset": split.dataset, "data": {"modalities": modalities}}
    )
    write_json(folder / "environment.json", environment(source, fingerprint))
    write_lines(folder / "metrics.jsonl", [row for history in histories for row in history])
    write_lines(folder / "predictions.jsonl", rows)
    if representations:
        report_parts.write_representations(rng, folder / "representations.npz", label_n, classes, modalities)
    return result


def write_sweep(
    folder: Path,
    split: Split,
    *,
    kinds: Sequence[str] = ("main_results", "ablations", "modalities", "width", "lengths", "gammas"),
    widths: Sequence[int] = (100, 400),
    gammas: Sequence[float] = (1.0, 1.2),
    failed: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
    collapsed: Sequence[str] = (),
    only: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """A sweep folder; returns the content of its result.json. `only` keeps some points (of a sweep that was split).

    `base` has options of the base config, by dotted names.
    """
    failed = failed or {}
    grid = {f"{a},{b}": {"loss.gamma1": a, "loss.gamma2": b} for a in gammas for b in gammas}
    every = {
        "main_results": {"cmath": {}, "sdt": {"model.name": "sdt"}},
        "ablations": {"cmath": {}, **ABLATIONS},
        "modalities": {**{m: {"data.modalities": m} for m in MODALITIES}, "tav": {}},
        "width": {str(width): {"model.width": width} for width in widths},
        "lengths": {"cmath": {}, "multidag": {"model.name": "multidag"}, "sdt": {"model.name": "sdt"}},
        "gammas": grid,
    }
    shared = {"tav": "cmath", "400": "cmath", "1.0,1.2": "cmath"}
    sections = [
        {
            "kind": kind,
            "points": {
                name: {"run": shared.get(name, name), "options": values}
                for name, values in every[kind].items()
                if not only or name in only
            },
        }
        for kind in kinds
    ]
    names = dict.fromkeys(p["run"] for section in sections for p in section["points"].values())
    for name in names:
        if name in failed or name in missing:
            continue
        modalities = name if name in MODALITIES else "tav"
        skill = 0.6 - 0.1 * (3 - len(modalities)) - (0.02 if name in ABLATIONS else 0)
        seeds = options.get("seeds", 3)
        collapse = range(seeds) if name in collapsed else ()
        chosen = {
            "skill": skill,
            "modalities": modalities,
            "collapsed": collapse,
            "seed": zlib.crc32(name.encode()),
            "experiment": name,
        }
        write_run(folder / "runs" / name, split, **(chosen | options))
    result = {
        "experiment": "sweep",
        "dataset": split.dataset,
        "source": "real transcripts and labels; audio and video features are simulated",
        "classes": list(split.classes),
        "sections": sections,
        "failed": dict(failed),
        "seconds": 123.4,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)
    config = override(Config(dataset=split.dataset, seeds=options.get("seeds", 3)), base or {})
    write_json(folder / "config.json", {"config": to_dict(config), "sections": sections})
    fingerprint = options.get("fingerprint", "0123456789abcdef")
    write_json(folder / "environment.json", environment(result["source"], fingerprint))
    return result


def environment(source: str, fingerprint: str) -> dict[str, Any]:
    return {
        "python": "3.11.7",
        "platform": "Linux",
        "processors": 2,
        "devices": ["cpu: cpu"],
        "versions": {"jax": "0.10.2", "flax": "0.12.8"},
        "data": {"source": source, "fingerprint": fingerprint},
    }


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    with open(folder / "predictions.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _predictions(rng: np.random.Generator, split: Split, seed: int, prediction_n: np.ndarray) -> list[dict[str, Any]]:
    classes = len(split.classes)
    logit_nc = rng.normal(size=(len(prediction_n), classes))
    logit_nc[np.arange(len(prediction_n)), prediction_n] = logit_nc.max(1) + rng.gamma(1.0, 1.5, len(prediction_n))
    probability_nc = np.exp(logit_nc) / np.exp(logit_nc).sum(1, keepdims=True)
    rows, n = [], 0
    for k, labels in enumerate(split.labels):
        for i, label in enumerate(labels):
            row: dict[str, Any] = {
                "seed": seed,
                "conversation": f"test-{k}",
                "utterance": i,
                "label": split.classes[label] if label >= 0 else None,
                "prediction": split.classes[prediction_n[n]],
                "probabilities": [round(float(p), 6) for p in probability_nc[n]],
                "speaker": split.speakers[k][i],
            }
            rows.append({**row, "text": split.texts[k][i]} if split.texts else row)
            n += 1
    return rows
