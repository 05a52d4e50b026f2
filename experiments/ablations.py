"""Table 4: what each part of CMATH is worth; and five choices of this implementation.

    python launch.py --config experiments/ablations.py --config.dataset=meld --config.data.features_dir=DIR

`--config.quick=true` tries it out; see experiments/settings.py.
"""

from collections.abc import Sequence
from typing import Any

from cmath_jax.config import Config
from cmath_jax.sweeps.experiment import Section
from experiments import settings

PAPER: dict[str, dict[str, Any]] = {
    "cmath": {},
    "wo_mr": {"model.reconstruction": False},
    "wo_cma": {"model.cross_attention": False},
    "wo_lld": {"loss.gamma1": 0.0},
    "wo_hld": {"loss.gamma2": 0.0},
    "wo_hd": {"loss.gamma1": 0.0, "loss.gamma2": 0.0},
}
OWN: dict[str, dict[str, Any]] = {
    "inject_block": {"model.inject": "block"},  # eq. 11 adds finished blocks
    "symmetric": {"model.inject": "nothing"},  # the centre is treated as any auxiliary
    "deterministic": {"model.noise": False},  # the fusion has no deviation and no noise
    "moving_teacher": {"loss.stop_teacher": False},  # the distillation moves the teacher too
}


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "ablations")


def sweep(config: Config) -> Sequence[Section]:
    other = "post" if getattr(config.model, "norm", "post") == "pre" else "pre"  # where the block normalizes
    return [Section("ablations", {**PAPER, **OWN, f"{other}_norm": {"model.norm": other}})]
