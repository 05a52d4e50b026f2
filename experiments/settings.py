"""The settings that every table and figure of the paper starts from: full CMATH on one of the data sets, five seeds.

    python launch.py --config experiments/settings.py --config.dataset=meld --config.data.features_dir=DIR

`--config.dataset` is meld, iemocap or simulated; `--config.quick=true` makes everything small, to try it out: a narrow
model, few epochs, few conversations. On 2 CPU cores: quick, half a minute; simulated, 4 minutes; MELD, 13 minutes.
"""

from cmath_jax.config import Config, override
from cmath_jax.errors import InputError, not_one_of
from experiments import demo, iemocap, meld

SETTINGS = {"simulated": demo.get_config, "meld": meld.get_config, "iemocap": iemocap.get_config}
QUICK = {
    "seeds": 2,
    "linear_reference": "t",
    "model.width": 20,
    "model.heads": 2,
    "model.dropout": 0.0,  # compiles in half the time
    "train.epochs": 3,
    "optim.warmup_epochs": 0.0,
    "data.simulation.train": 40,
    "data.simulation.validation": 20,
    "data.simulation.test": 30,
}


def get_config(dataset: str = "simulated", quick: bool = False, experiment: str = "settings") -> Config:
    if dataset not in SETTINGS:
        raise InputError(not_one_of("dataset", dataset, SETTINGS))
    config = override(SETTINGS[dataset](), {"experiment": experiment, "seeds": 5})
    return override(config, QUICK) if quick else config
