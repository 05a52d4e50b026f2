"""The models by name: the options of each, with their checks, and where its Flax module is.

A new model is a dataclass here, in `MODELS`, and a file with its module. Nothing here imports JAX: a command line that
names a wrong option is answered at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from cmath_jax.errors import InputError, not_one_of, require, require_one_of
from cmath_jax.io.roles import HYPER, Role, option

INJECTIONS = ("attention", "block", "nothing")


@dataclass(frozen=True)
class ModelOptions:
    """Options of every model. The options of a model, but for its name, are the attributes of its module.

    Attributes:
      module: of the Flax module, `package.file:Class`. Its other attributes are `classes`, `speakers`, `modalities` and
        `dtype`; it is called with (batch, train=..., dropout=...) and returns `Outputs`.
    """

    module: ClassVar[str]

    name: str = field(default="", init=False)
    width: int = 400  # d of the paper
    dropout: float = option(0.5, HYPER | Role.SWITCH)  # without it nothing is drawn
    causal: bool = False  # True: an utterance sees only itself and what was said before it

    def __post_init__(self) -> None:
        require(self.width > 0, f"model.width={self.width} must be positive")
        require(0 <= self.dropout <= 0.99, f"model.dropout={self.dropout} is not between 0 and 0.99")


@dataclass(frozen=True)
class TransformerOptions(ModelOptions):
    """Options of every model with attention."""

    heads: int = 10  # of attention; they divide the width

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.heads > 0, f"model.heads={self.heads} must be positive")
        require(self.width % self.heads == 0, f"model.width={self.width} is not a multiple of model.heads={self.heads}")


@dataclass(frozen=True)
class CMATHOptions(TransformerOptions):
    """CMATH, the model of the paper."""

    module: ClassVar[str] = "cmath_jax.models.cmath:CMATH"

    name: str = field(default="cmath", init=False)
    kernel: int = 1  # of the convolutions, odd
    reconstruction: bool = True  # False: w/o MR
    cross_attention: bool = True  # False: w/o CMA-T
    inject: str = "attention"  # what eq. 11 adds: attention, block or nothing
    noise: bool = True  # False: the fusion is deterministic

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.kernel > 0 and self.kernel % 2 == 1, f"model.kernel={self.kernel} is not an odd positive number")
        require_one_of("model.inject", self.inject, INJECTIONS)


@dataclass(frozen=True)
class SDTOptions(TransformerOptions):
    """SDT, a baseline."""

    module: ClassVar[str] = "cmath_jax.models.baselines.sdt:SDT"

    name: str = field(default="sdt", init=False)


MODELS: dict[str, type[ModelOptions]] = {kind.name: kind for kind in (CMATHOptions, SDTOptions)}


def model_named(name: object) -> type[ModelOptions]:
    """Returns the options of the model of this name. Raises InputError where there is none."""
    if not isinstance(name, str) or name not in MODELS:
        raise InputError(not_one_of("model.name", name, MODELS))
    return MODELS[name]


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
