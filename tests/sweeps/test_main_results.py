"""The experiment of Tables 2 and 3: every model, by one recipe or by those of the authors."""

import re
from pathlib import Path

import pytest

from cmath_jax.errors import InputError
from cmath_jax.models.options import MODELS
from cmath_jax.sweeps.experiment import load

MAIN_RESULTS = Path(__file__).parents[2] / "experiments" / "main_results.py"


@pytest.mark.parametrize("dataset", ["meld", "iemocap"])
def test_the_main_table_can_be_trained_as_the_authors_did(dataset: str) -> None:
    """Where they gave no hyper-parameters for a data set, or no code, another recipe stands in, by its name."""
    runs = load(MAIN_RESULTS, {"dataset": dataset, "recipe": "released"}).runs
    recipes = {model: config.recipe for (_, model), (_, config) in runs.items()}
    style = dict.fromkeys(("ctnet", "scmm", "cmcf_srnet"), "style")
    without = dict.fromkeys(("dialogue_gcn", "multidag") if dataset == "meld" else (), "shared")
    assert recipes == {**dict.fromkeys(MODELS, "released"), **style, **without, "cmath": ""}
    shared = load(MAIN_RESULTS, {"dataset": dataset}).runs
    rates = {config.optim.learning_rate for _, config in shared.values()}
    assert len(rates) == 1 and len({config.train.epochs for _, config in shared.values()}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "released"}, "recipe=released is for dataset=meld and dataset=iemocap, not for dataset=simulated"),
        ({"recipe": "released", "dataset": "meld", "quick": "true"}, "choose one"),
        ({"models": "cmath,mmgnc"}, "did you mean mmgcn?"),
    ],
)
def test_main_tables_that_there_are_not(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load(MAIN_RESULTS, options)
