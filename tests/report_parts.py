"""Parts of a run folder, drawn from a seed: calibration, learning curves, representations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.evaluation.calibration import Reliability, calibrated
from cmath_jax.evaluation.metrics import Scores, over_seeds


def calibration(rows: Sequence[Mapping[str, Any]], label_n: np.ndarray, seeds: int) -> dict[str, Any]:
    """As if validation had asked for these temperatures; the errors on test are those of the rows."""
    temperatures = [1.6 - 0.5 * seed / seeds for seed in range(seeds)]
    errors: dict[str, list[float]] = {"before": [], "after": []}
    for seed, temperature in enumerate(temperatures):
        probability_nc = np.array([row["probabilities"] for row in rows if row["seed"] == seed], dtype=np.float32)
        errors["before"].append(Reliability.of(probability_nc, label_n).error)
        errors["after"].append(Reliability.of(calibrated(probability_nc, temperature), label_n).error)
    return {
        "temperature": over_seeds(temperatures),
        "validation": {"before": over_seeds([9.0 + s for s in range(seeds)]), "after": over_seeds([3.25] * seeds)},
        "test": {when: over_seeds(values) for when, values in errors.items()},
    }


def history(rng: np.random.Generator, seed: int, chosen: Scores, epochs: int) -> list[dict[str, Any]]:
    """Curves that rise to the scores of the run, which are those of the last epoch but one."""
    best = max(epochs - 2, 0)
    rows = []
    for epoch in range(epochs):
        share = 1 - 0.5 * np.exp(-epoch / 2)
        test_f1 = chosen.weighted_f1 * share + rng.normal(0, 1.0)
        row = {
            "seed": seed,
            "epoch": epoch + 1,
            "step": 10 * (epoch + 1),
            "train": {"loss": float(10 * np.exp(-epoch / 4) + 2 + 0.1 * rng.random()), "ce": 3.0},
            "validation": {"loss": 1.0, "accuracy": 60.0 * share, "weighted_f1": 58.0 * share + rng.normal(0, 0.5)},
            "test": {"loss": 1.1, "accuracy": 60.0 * share, "weighted_f1": float(test_f1)},
            "seconds": 4.0,
            "compile_seconds": 0.0,
            "peak_memory_mb": 1000,
        }
        if epoch == best:
            row["validation"] |= {"weighted_f1": 64.0 + seed}
            row["test"] |= {"accuracy": chosen.accuracy, "weighted_f1": chosen.weighted_f1}
        rows.append(row)
    return rows


def write_representations(
    rng: np.random.Generator, path: Path, label_n: np.ndarray, classes: int, modalities: str
) -> None:
    prototype_cd = rng.normal(size=(classes, 16))
    noise_nd = rng.normal(size=(len(label_n), 16))
    arrays = {
        "fused_nd": 1.2 * prototype_cd[label_n] + noise_nd,
        "raw_np": 0.4 * prototype_cd[label_n, :10] + noise_nd[:, :10],
    }
    if len(modalities) > 1:
        for centre in (*modalities, "k"):
            weight_nm = rng.dirichlet([4.0 if m == "t" else 1.5 for m in modalities], len(label_n))
            arrays |= {f"gate_{centre}_{m}_n": weight_nm[:, i] for i, m in enumerate(modalities)}
    np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})
