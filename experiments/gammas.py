"""Figure 6: the weights of the two distillation losses, on the paper's grid of 6 x 6.

    python launch.py --config experiments/gammas.py --config.dataset=meld --config.data.features_dir=DIR

All points share one compiled step. `--config.quick=true` tries it out; see
experiments/settings.py.
"""

from collections.abc import Sequence

from cmath_jax.config import Config
from cmath_jax.experiment import Section
from experiments import settings

VALUES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "gammas")


def sweep(config: Config) -> Sequence[Section]:
    points = {f"{low},{high}": {"loss.gamma1": low, "loss.gamma2": high} for low in VALUES for high in VALUES}
    return [Section("gammas", points)]
