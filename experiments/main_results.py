"""Tables 2 and 3: CMATH and every baseline, beside the paper's rows.

    python launch.py --config experiments/main_results.py --config.dataset=meld --config.data.features_dir=DIR

All models are trained alike, with the width, the optimizer and the epochs of the config, and each with the loss of its
paper. `--config.recipe=released` trains each baseline with the hyper-parameters of its authors instead, on meld and
iemocap (docs/baselines.md); the epoch is chosen on validation all the same. `--config.models=cmath,sdt` trains some
of them: with recipe=released on meld, all but dialogue_gcn and multidag, whose authors have no numbers for it.
The report has the majority and the linear model too. `--config.quick=true` tries it out; see experiments/settings.py.
"""

from collections.abc import Sequence
from typing import Any

from cmath_jax.config import Config
from cmath_jax.models.options import MODELS, model_named
from cmath_jax.sweeps.experiment import Section
from experiments import settings


def point(model: str, recipe: str = "shared") -> dict[str, Any]:
    """Returns the options of a model. One whose authors released nothing has the recipe `style` for `released`."""
    recipes = model_named(model).recipes
    chosen = [each for each in ([recipe, "style"] if recipe == "released" else [recipe]) if each in recipes]
    # CMATH's own recipe is the config.
    return {"model.name": model} if model == "cmath" else {"model.name": model, "recipe": (chosen or [recipe])[0]}


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "main_results")


def sweep(config: Config, recipe: str = "shared", models: str = ",".join(MODELS)) -> Sequence[Section]:
    return [Section("main_results", {model: point(model, recipe) for model in models.split(",")})]
