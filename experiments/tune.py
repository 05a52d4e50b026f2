"""The honest table: every model tuned under one budget, and then trained anew with seeds that the search never used.

    python launch.py --config experiments/tune.py --config.dataset=meld --config.data.features_dir=DIR

Each model gets `--config.trials` random draws (32) from its search space (the `space` of its options), of the same
number of epochs. Trials are judged by the weighted F1 of their best epoch on validation; after a quarter and after half
of the epochs the worse half is stopped (`--config.halvings=2`). `--config.sampler=tpe` learns from earlier trials,
where budgets compare less well. Then the best trial of each model is trained with `--config.seeds=5` other seeds, and
only those are tested. An option that is given is not drawn. `--config.model.name=cmath,sdt` tunes some of the models;
`--config.paper=false` leaves CMATH with the paper's settings out. `--shard I/N` gives a machine its share of the
models. Needs requirements-tune.txt.

`--config.quick=true` tries it out: on 2 CPU cores 1 minute for two models. docs/results.md has the times of whole runs.
"""

from collections.abc import Sequence

from cmath_jax.config import Config, override
from cmath_jax.models.options import MODELS, model_named
from cmath_jax.sweeps.experiment import Section, Tuning
from experiments import settings

# What all trials have in common. Width and epochs are small enough for 13 models on a processor; the schedule is what
# CMATH needs at the rates that the search draws (docs/model.md).
COMMON = {
    "model.width": 100,
    "model.heads": 10,
    "optim.schedule": "cosine",
    "optim.clip_norm": 1.0,
    "train.patience": 0,
}
BY_DATASET = {
    "simulated": {"train.epochs": 8, "optim.warmup_epochs": 1.0, "optim.average": 0.9},
    "meld": {"train.epochs": 8, "train.batch_size": 16, "optim.warmup_epochs": 1.0, "optim.average": 0.98},
    "iemocap": {"train.epochs": 16, "train.batch_size": 8, "optim.warmup_epochs": 2.0, "optim.average": 0.9},
}


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    config = override(settings.get_config(dataset, False, "tune"), {**COMMON, **BY_DATASET[dataset]})
    return override(config, {**settings.QUICK, "train.epochs": 4, "model.dropout": 0.5}) if quick else config


def tune(
    config: Config,
    quick: bool = False,
    models: str = ",".join(MODELS),
    trials: int = 0,
    halvings: int = 2,
    sampler: str = "random",
    search_seed: int = 0,
    paper: bool = True,
) -> tuple[Sequence[Section], Tuning]:
    names = tuple(name.strip() for name in models.split(","))
    points = {name: {"model.name": model_named(name).name, "recipe": "shared"} for name in names}
    tuning = Tuning(names, trials or (4 if quick else 32), halvings, sampler, search_seed)
    if paper and not quick and "cmath" in names and config.dataset in model_named("cmath").recipes["paper"]:
        points["cmath_paper"] = {"model.name": "cmath", "recipe": "paper"}
    return [Section("main_results", points)], tuning
