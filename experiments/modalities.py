"""Table 5: CMATH on every subset of text, audio and video.

    python launch.py --config experiments/modalities.py --config.dataset=meld --config.data.features_dir=DIR

`--config.quick=true` tries it out; see experiments/settings.py.
"""

from collections.abc import Sequence

from cmath_jax.config import Config
from cmath_jax.sweeps.experiment import Section
from experiments import settings

SUBSETS = ("t", "a", "v", "ta", "tv", "av", "tav")


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "modalities")


def sweep(config: Config) -> Sequence[Section]:
    return [Section("modalities", {subset: {"data.modalities": subset} for subset in SUBSETS})]
