"""Figure 6: the weights of the two distillation losses, on the paper's grid of 6 x 6.

    python launch.py --config experiments/gammas.py --config.dataset=meld --config.data.features_dir=DIR

`--config.gammas=0,0.3,1` takes other values than the paper's, from 1 to 2; validation likes smaller ones better.
All points share one compiled step. The whole grid is 180 runs, with five seeds: on 2 CPU cores 7 hours and 70 GB of
checkpoints for MELD, 2 hours for the built-in corpus. `--config.quick=true` tries out a quarter of it; see
experiments/settings.py.
"""

from collections.abc import Sequence

from cmath_jax.config import Config
from cmath_jax.io.spelled import convert
from cmath_jax.sweeps.experiment import Section
from experiments import settings

VALUES = "1.0,1.2,1.4,1.6,1.8,2.0"
QUICK = "1.0,1.4,1.8"


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "gammas")


def sweep(config: Config, quick: bool = False, gammas: str = VALUES) -> Sequence[Section]:
    values = [convert("gammas", value, float) for value in (QUICK if quick else gammas).split(",")]
    points = {f"{low},{high}": {"loss.gamma1": low, "loss.gamma2": high} for low in values for high in values}
    return [Section("gammas", points)]
