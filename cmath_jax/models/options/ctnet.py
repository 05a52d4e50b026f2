"""The options of CTNet-style, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, STYLE, Recipes, TransformerOptions


@dataclass(frozen=True)
class CTNetOptions(TransformerOptions):
    """CTNet-style (after Lian et al. 2021), a baseline; the recipe `style` is a choice of ours."""

    title: ClassVar[str] = f"CTNet{STYLE}"
    module: ClassVar[str] = "cmath_jax.models.baselines.ctnet:CTNet"
    bidirectional: ClassVar[str] = "the GRU"
    recipes: ClassVar[Recipes] = {
        "shared": {"": {}},
        "style": {
            "": {
                **RELEASED,
                "model.width": 200,
                "model.heads": 4,
                "model.speaker_width": 50,
                "model.dropout": 0.3,
                "optim.learning_rate": 1e-3,
                "optim.weight_decay": 1e-5,
                "train.batch_size": 16,
                "train.epochs": 60,
            },
            "meld": {"model.dropout": 0.4},
        },
    }

    name: str = field(default="ctnet", init=False)
    speaker_width: int = 50  # of the embedding of a speaker

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % 2 == 0, f"model.width={self.width} is not even: the GRU has half of it in each direction")
        require(self.speaker_width > 0, f"model.speaker_width={self.speaker_width} must be positive")
