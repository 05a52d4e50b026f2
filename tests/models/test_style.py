"""What the models without released code have in common: their recipe is of our choice, and so are their sizes."""

import math

import jax
import jax.numpy as jnp
import pytest
from samples import conversations, pack

from cmath_jax.errors import InputError
from cmath_jax.models.options import MODELS, recipe_options
from cmath_jax.models.options.base import STYLE
from cmath_jax.models.registry import make_model

NAMES = ("ctnet", "scmm", "cmcf_srnet")
SIZES = {"iemocap": ((1024, 1582, 342), 2, 6), "meld": ((1024, 300, 342), 9, 7)}  # features, speakers, classes
LAYER = (4, 7)  # of a feed-forward layer with two norms: so many d^2 and so many d


def count_of(name: str, d: int, features: int, speakers: int, classes: int) -> int:
    """The parameters by the equations of docs/baselines.md."""
    layer = LAYER[0] * d**2 + LAYER[1] * d
    inputs, attention, norm = (features + 3) * d, 4 * d**2 + d, 2 * d
    if name == "ctnet":
        pairs, fusion = 9 * (attention + layer), 9 * d**2 + d
        gru = (d + 50) * 3 * d + 3 * d**2 // 2 + 6 * d
        return inputs + pairs + fusion + 50 * speakers + gru + attention + norm + (d + 1) * classes
    inputs += speakers * d
    if name == "scmm":
        context = 3 * (2 * attention + layer + norm + d**2 + d + norm + d)
        interaction = attention + 3 * norm + (3 * d**2 + d) + (6 * d**2 + d) + attention + d
        return inputs + context + interaction + (d + 1) * classes
    local = 3 * (9 * d**2 + 3 * d**2 + d + layer)
    graph = 2 * (3 * d**2 + 10 * d + layer)
    return inputs + local + (3 * d**2 + d) + graph + (2 * d + 1) * classes


@pytest.mark.parametrize("dataset", SIZES)
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("ctnet", {"iemocap": 4_217_906, "meld": 3_962_057}),
        ("scmm", {"iemocap": 4_441_862, "meld": 4_115_719}),
        ("cmcf_srnet", {"iemocap": 3_204_806, "meld": 2_950_207}),
    ],
)
def test_number_of_parameters(name: str, counts: dict[str, int], dataset: str) -> None:
    """At the sizes of the recipe, as docs/baselines.md says."""
    dims, speakers, classes = SIZES[dataset]
    options = recipe_options("style", name, dataset)
    kind = MODELS[name](**{key[6:]: value for key, value in options.items() if key.startswith("model.")})
    sizes = type("Sizes", (), {"classes": ("",) * classes, "speakers": speakers})()
    batch = pack(conversations((2,)), ((0,),), 2)
    batch = batch.replace(features={m: jnp.zeros((1, 2, d)) for m, d in zip("tav", dims, strict=True)})
    model = make_model(kind, sizes, "tav", "float32")
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))["params"]
    ours = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))
    assert ours == counts[dataset] == count_of(name, kind.width, sum(dims), speakers, classes)


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_is_for_all_data_sets_and_not_called_released(name: str) -> None:
    assert MODELS[name].title.endswith(STYLE)
    assert {*MODELS[name].recipes} == {"shared", "style"}
    assert recipe_options("style", name, "simulated")["train.epochs"] == 60
    assert recipe_options("shared", name, "simulated") == {}
    with pytest.raises(InputError, match="recipe='released' is not one of shared, style"):
        recipe_options("released", name, "meld")


def test_the_rate_of_dropout_of_ctnet_is_another_one_on_meld() -> None:
    rates = {each: recipe_options("style", "ctnet", each)["model.dropout"] for each in ("meld", "iemocap", "simulated")}
    assert rates == {"meld": 0.4, "iemocap": 0.3, "simulated": 0.3}
