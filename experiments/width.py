"""Figure 4: CMATH at widths from 100 to 600.

    python launch.py --config experiments/width.py --config.dataset=meld --config.data.features_dir=DIR

`--config.widths=100,200` takes other widths. `--config.quick=true` tries it out, at widths from 20 to 60; see
experiments/settings.py.
"""

from collections.abc import Sequence

from cmath_jax.config import Config
from cmath_jax.io.spelled import convert
from cmath_jax.sweeps.experiment import Section
from experiments import settings

WIDTHS = "100,200,300,400,500,600"
QUICK = "20,40,60"


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "width")


def sweep(config: Config, quick: bool = False, widths: str = WIDTHS) -> Sequence[Section]:
    chosen = [convert("widths", width, int) for width in (QUICK if quick else widths).split(",")]
    return [Section("width", {str(width): {"model.width": width} for width in chosen})]
