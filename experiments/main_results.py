"""Tables 2 and 3: CMATH and every implemented baseline, beside the paper's rows.

    python launch.py --config experiments/main_results.py --config.dataset=meld --config.data.features_dir=DIR

The report has the majority and the linear model too. `--config.quick=true` tries it out; see experiments/settings.py.
"""

from collections.abc import Sequence
from typing import Any

from cmath_jax.config import Config
from cmath_jax.sweeps.experiment import Section
from experiments import settings


def sdt(config: Config) -> dict[str, Any]:
    """SDT under the protocol of the config, with the losses of its paper: docs/baselines.md."""
    return {
        "model.name": "sdt",
        **({"model.heads": 8} if config.model.width % 8 == 0 else {}),
        "loss.gamma1": 0.0,
        "loss.gamma2": 1.0,
        "loss.stop_teacher": False,
        "loss.temperature": 8.0 if config.dataset == "meld" else 1.0,
        "loss.class_weights": config.dataset == "iemocap",
    }


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "main_results")


def sweep(config: Config) -> Sequence[Section]:
    return [Section("main_results", {"cmath": {"model.name": "cmath"}, "sdt": sdt(config)})]
