"""Tables 2 and 3: CMATH and every baseline, beside the paper's rows.

    python launch.py --config experiments/main_results.py --config.dataset=meld --config.data.features_dir=DIR

All models are trained alike, with the width, the optimizer and the epochs of the config, and each with the loss of its
paper. `--config.recipe=released` trains each baseline with the hyper-parameters of its authors instead, on meld and
iemocap (docs/baselines.md); the epoch is chosen on validation all the same. Where authors give none for the data set,
the recipe is `shared`, which the row says. `--config.models=cmath,sdt` trains some of them. The report has the majority
and the linear model too. `--config.quick=true` tries it out; see experiments/settings.py.
"""

from collections.abc import Sequence
from typing import Any

from cmath_jax.config import Config
from cmath_jax.errors import require
from cmath_jax.models.options import MODELS, model_named
from cmath_jax.sweeps.experiment import Section
from experiments import settings


def point(model: str, recipe: str = "shared", dataset: str = "") -> dict[str, Any]:
    """Returns the options of a model. Without released hyper-parameters for the data set they are `style` or shared."""
    if model == "cmath":
        return {"model.name": model}  # its own recipe is the config
    recipes = model_named(model).recipes
    if recipe == "released" and dataset not in recipes.get(recipe, {}):
        recipe = "style" if "style" in recipes else "shared"
    return {"model.name": model, "recipe": recipe}


def get_config(dataset: str = "simulated", quick: bool = False) -> Config:
    return settings.get_config(dataset, quick, "main_results")


def sweep(
    config: Config, quick: bool = False, recipe: str = "shared", models: str = ",".join(MODELS)
) -> Sequence[Section]:
    sized = recipe == "released"
    require(
        not (quick and sized), "quick=true makes models small, and recipe=released has sizes of its own: choose one"
    )
    require(
        not sized or config.dataset in ("meld", "iemocap"),
        f"recipe=released is for dataset=meld and dataset=iemocap, not for dataset={config.dataset}",
    )
    return [Section("main_results", {model: point(model, recipe, config.dataset) for model in models.split(",")})]
