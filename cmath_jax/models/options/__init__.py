"""The models by name: the options of each, with their checks and recipes, and where its Flax module is.

A new model is a file here with its dataclass, a line in `MODELS`, and a file with its module. Nothing here imports JAX:
a command line that names a wrong option is answered at once.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from cmath_jax.errors import InputError, not_one_of, require
from cmath_jax.models.options.adaign import AdaIGNOptions
from cmath_jax.models.options.base import ModelOptions
from cmath_jax.models.options.cmath import CMATHOptions
from cmath_jax.models.options.cmcf_srnet import CMCFSRNetOptions
from cmath_jax.models.options.ctnet import CTNetOptions
from cmath_jax.models.options.dialogue_gcn import DialogueGCNOptions
from cmath_jax.models.options.dialogue_rnn import DialogueRNNOptions
from cmath_jax.models.options.graphsmile import GraphSmileOptions
from cmath_jax.models.options.m3net import M3NETOptions
from cmath_jax.models.options.mm_dfn import MMDFNOptions
from cmath_jax.models.options.mmgcn import MMGCNOptions
from cmath_jax.models.options.multidag import MultiDAGOptions
from cmath_jax.models.options.scmm import SCMMOptions
from cmath_jax.models.options.sdt import SDTOptions

MODELS: dict[str, type[ModelOptions]] = {
    kind.name: kind
    for kind in (
        CMATHOptions,
        DialogueRNNOptions,
        DialogueGCNOptions,
        MMGCNOptions,
        CTNetOptions,
        MMDFNOptions,
        SCMMOptions,
        CMCFSRNetOptions,
        MultiDAGOptions,
        SDTOptions,
        M3NETOptions,
        GraphSmileOptions,
        AdaIGNOptions,
    )
}


def model_named(name: object) -> type[ModelOptions]:
    """Returns the options of the model of this name. Raises InputError where there is none."""
    if not isinstance(name, str) or name not in MODELS:
        raise InputError(not_one_of("model.name", name, MODELS))
    return MODELS[name]


def recipe_options(recipe: str, model: object, dataset: str) -> dict[str, Any]:
    """Returns the options that a recipe sets for a model on a data set, by their dotted names.

    Raises:
      InputError: if the model has no such recipe, or it has none for the data set.
    """
    recipes = model_named(model).recipes
    if recipe not in recipes:
        raise InputError(not_one_of("recipe", recipe, recipes))
    by_dataset = recipes[recipe]
    known = [name for name in by_dataset if name]
    require(
        recipe in ("shared", "style") or dataset in known,
        f"recipe={recipe}: {model} has one for dataset={' and dataset='.join(known)}, not for dataset={dataset}; leave "
        "the recipe out, and set options by yourself",
    )
    return {**by_dataset.get("", {}), **by_dataset.get(dataset, {})}


def options_of(kind: type[ModelOptions]) -> list[str]:
    """Returns the names of the options of a model."""
    return [each.name for each in fields(kind)]


def foreign_options(name: object) -> dict[str, list[str]]:
    """Returns the options that the model of this name lacks, and for each the models that have it."""
    if name not in list(MODELS):
        return {}
    own = options_of(model_named(name))
    foreign: dict[str, list[str]] = {}
    for other, kind in MODELS.items():
        for each in options_of(kind):
            if each not in own:
                foreign.setdefault(each, []).append(other)
    return foreign


def refuse_foreign(kind: type[ModelOptions], name: str) -> None:
    """Raises InputError for an option that only other models have."""
    foreign = foreign_options(kind.name)
    if name in foreign:
        own = ", ".join(f"model.{each}" for each in options_of(kind))
        raise InputError(
            f"model.{name} is an option of {', '.join(foreign[name])}, not of {kind.name}, which has {own}"
        )


def without_foreign(values: Mapping[str, Any], trained: bool = False) -> dict[str, Any]:
    """Returns the options of a model as they were stored, without those of other models, which once were stored too.

    Raises:
      InputError: if one of them is not at its default, though it never had an effect, unless the model is `trained`.
    """
    kind = model_named(values["name"])
    foreign = foreign_options(kind.name)
    for name in [each for each in values if each in foreign]:
        owner = foreign[name][0]
        default = getattr(MODELS[owner](), name)
        require(
            trained or values[name] == default,
            f"model.{name}={values[name]!r} has no effect: it is an option of {owner}, not of {kind.name}; delete it, "
            f"or set it to {default!r}",
        )
    return {name: value for name, value in values.items() if name not in foreign}
