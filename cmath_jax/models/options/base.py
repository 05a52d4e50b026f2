"""The options that every model has, and the form of a recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cmath_jax.data.corpus import Sizes
from cmath_jax.errors import require
from cmath_jax.io.roles import HYPER, Role, option
from cmath_jax.models.options.space import COMMON, Space

Recipes = Mapping[str, Mapping[str, Mapping[str, Any]]]  # recipe -> data set, or "" for all -> options, by dotted names
STYLE = "-style"
# What the released recipes have in common: nothing of ours around the optimizer, and the features as they are.
RELEASED = {
    "data.standardize": False,
    "optim.schedule": "constant",
    "optim.warmup_epochs": 0.0,
    "optim.clip_norm": 0.0,
    "optim.average": 0.0,
    "optim.weight_decay": 0.0,
    "train.patience": 0,
    "loss.class_weights": False,
}


@dataclass(frozen=True)
class ModelOptions:
    """Options of every model. The options of a model, but for its name, are the attributes of its module.

    Attributes:
      title: what people call it; of a model that follows a paper without public code it ends in `STYLE`.
      module: of the Flax module, `package.file:Class`. Its other attributes are `classes`, `speakers`, `modalities`,
        `dtype`, and those of `facts`; it is called with (batch, train=..., dropout=...) and returns `Outputs`.
      recipes: what `--config.recipe` sets, by data set: `released` has the numbers of the model's authors, `shared`
        what the model needs where all models are trained alike, such as the weights of its loss; `style`, in place of
        `released`, numbers that we chose where the authors' are not known. `released` is for the data sets that it
        names, the others are for all.
      bidirectional: what of the model hears the future, so that it cannot be causal; "" for a model that can.
      always_causal: whether it is causal even where `causal` is False.
      space: what a search draws for it, around the recipe `shared`.
      policies: whether it has policies, parameters whose names end in `_policy`, for `optim.policy_rate`.
    """

    title: ClassVar[str]
    module: ClassVar[str]
    recipes: ClassVar[Recipes] = {}
    space: ClassVar[Space] = COMMON
    bidirectional: ClassVar[str] = ""
    always_causal: ClassVar[bool] = False
    policies: ClassVar[bool] = False

    name: str = field(default="", init=False)
    width: int = 400  # d of the paper
    dropout: float = option(0.5, HYPER | Role.SWITCH)  # without it nothing is drawn
    causal: bool = False  # True: an utterance sees only itself and what was said before it

    def __post_init__(self) -> None:
        require(self.width > 0, f"model.width={self.width} must be positive")
        require(0 <= self.dropout <= 0.99, f"model.dropout={self.dropout} is not between 0 and 0.99")
        require(
            not (self.causal and self.bidirectional),
            f"model.causal=true is not for {self.name}: {self.bidirectional} of it hears what comes after an utterance",
        )

    @property
    def hears_future(self) -> bool:
        """Returns whether an utterance is told from what comes after it too."""
        return not (self.causal or self.always_causal)

    def facts(self, sizes: Sizes) -> dict[str, Any]:
        """Returns the attributes of the module that are neither options nor sizes, such as what the classes mean."""
        del sizes
        return {}


@dataclass(frozen=True)
class TransformerOptions(ModelOptions):
    """Options of every model with attention."""

    heads: int = 10  # of attention; they divide the width

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.heads > 0, f"model.heads={self.heads} must be positive")
        require(self.width % self.heads == 0, f"model.width={self.width} is not a multiple of model.heads={self.heads}")
