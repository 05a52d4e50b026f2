"""Figure 4: CMATH at widths from 100 to 600.

    python launch.py --config experiments/width.py --config.dataset=meld --config.data.features_dir=DIR

`--config.quick=true` tries it out, at widths from 20 to 60; see experiments/settings.py.
"""

from collections.abc import Sequence

from cmath_jax.config import Config
from cmath_jax.sweeps.experiment import Section
from experiments import settings


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "width")


def sweep(config: Config, quick: bool = False) -> Sequence[Section]:
    widths = range(20, 61, 20) if quick else range(100, 601, 100)
    return [Section("width", {str(width): {"model.width": width} for width in widths})]
