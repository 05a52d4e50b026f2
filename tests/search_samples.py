"""Tuning folders as a search for hyper-parameters writes them, drawn from a seed."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import report_samples as samples

from cmath_jax.config import Config, to_dict

SPACE: list[dict[str, Any]] = [
    {"name": "optim.learning_rate", "values": [1e-4, 3e-3], "scale": "log"},
    {"name": "model.dropout", "values": [0.1, 0.6], "scale": "linear"},
    {"name": "loss.class_weights", "values": [False, True], "scale": "choice"},
]
RUNGS = (4, 8, 16)
PAPER = "cmath_paper"


def model_search(name: str, trials: int = 16, failed: Sequence[int] = (), level: float = 60.0) -> dict[str, Any]:
    """A search in which the learning rate decides about the score."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    rate = 10 ** rng.uniform(-4, np.log10(3e-3), trials)
    dropout = rng.uniform(0.1, 0.6, trials)
    score = level - 12 * np.abs(np.log10(rate / 8e-4)) - 2 * np.abs(dropout - 0.3) + rng.normal(0, 0.3, trials)
    order = np.argsort(-np.where(np.isin(np.arange(trials), failed), -1, score), kind="stable")
    trained = {
        int(number): RUNGS[2 - min(2, int(np.log2(1 + 4 * place / trials)))] for place, number in enumerate(order)
    }
    made = []
    for number in range(trials):
        epochs = 2 if number in failed else trained[number]
        state = "failed" if number in failed else "complete" if epochs == RUNGS[-1] else "stopped"
        curve = score[number] * (1 - 0.3 * np.exp(-np.arange(1, epochs + 1) / 2)) + rng.normal(0, 0.2, epochs)
        options = {
            "optim.learning_rate": float(rate[number]),
            "model.dropout": float(dropout[number]),
            "loss.class_weights": bool(rng.random() < 0.5),
        }
        made.append(
            {
                "number": number,
                "options": options,
                "validation": [float(value) for value in np.clip(curve, 0, 100)],
                "state": state,
                "seconds": 1.5 * epochs,
                "compile_seconds": 4.0,
            }
        )
    complete = [trial for trial in made if trial["state"] == "complete"]
    best = max(complete, key=lambda trial: max(trial["validation"]))["number"] if complete else None
    return {"space": SPACE, "trials": made, "best": best}


def write_tuning(
    folder: Path,
    split: samples.Split,
    models: Mapping[str, float],
    *,
    trials: int = 16,
    failed: Sequence[int] = (),
    budget: Mapping[str, Any] | None = None,
    paper: bool = False,
    whole: Sequence[str] = (),
    missing: Sequence[str] = (),
    **options: Any,
) -> dict[str, Any]:
    """A tuning folder; returns the content of its result.json.

    Args:
      models: name -> the share of test predictions that know the label.
      paper: with the point of CMATH as the paper has it.
      whole: the points of the sweep that this is a part of.
      missing: models without a final training.
    """
    points = {name: {"run": name, "options": {"model.name": name}} for name in models} | (
        {PAPER: {"run": PAPER, "options": {}}} if paper else {}
    )
    for name in points:
        if name not in missing:
            seed = zlib.crc32(name.encode())
            chosen = {"representations": False, "epochs": 3, "seed": seed, "skill": models.get(name, 0.5)} | options
            samples.write_run(folder / "runs" / name, split, experiment=name, **chosen)
    source = "real transcripts and labels; audio and video features are simulated"
    searches = {name: model_search(name, trials, failed, 50 + 15 * models[name]) for name in models}
    result = {
        "experiment": "tuning",
        "dataset": split.dataset,
        "source": source,
        "classes": list(split.classes),
        "sections": [{"kind": "main_results", "points": points}],
        "failed": {},
        "seconds": 99.0,
        "tuning": {
            "trials": trials,
            "epochs": RUNGS[-1],
            "rungs": list(RUNGS),
            "sampler": "random",
            "models": searches,
            **(budget or {}),
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    samples.write_json(folder / "result.json", result)
    config: dict[str, Any] = {"config": to_dict(Config(dataset=split.dataset)), "sections": result["sections"]}
    if whole:
        config["whole"] = [{"kind": "main_results", "points": {name: {} for name in whole}}]
    samples.write_json(folder / "config.json", config)
    samples.write_json(folder / "environment.json", samples.environment(source, "0123456789abcdef"))
    return result
