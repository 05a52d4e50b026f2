"""A small search, and the experiment file of the real one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samples import tiny

from cmath_jax.config import Config
from cmath_jax.models.options import model_named
from cmath_jax.sweeps.experiment import Experiment, Section, Tuning

TUNE = Path(__file__).parents[1] / "experiments" / "tune.py"
BASE = tiny(train__epochs=4, train__patience=0, parallel__devices=1, seeds=2)
SPACE = model_named("cmath").space


def tuned(points: Sequence[str] = ("cmath",), base: Config = BASE, **budget: Any) -> Experiment:
    options = {name: {"model.name": name, "recipe": "shared"} for name in points}
    return Experiment(base, (Section("main_results", options),), tuning=Tuning(tuple(points), **budget))
