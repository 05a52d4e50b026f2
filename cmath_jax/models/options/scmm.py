"""The options of SCMM-style, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, STYLE, Recipes, TransformerOptions


@dataclass(frozen=True)
class SCMMOptions(TransformerOptions):
    """SCMM-style (after Yang et al. 2023), a baseline; the recipe `style` is a choice of ours."""

    title: ClassVar[str] = f"SCMM{STYLE}"
    module: ClassVar[str] = "cmath_jax.models.baselines.scmm:SCMM"
    recipes: ClassVar[Recipes] = {
        "shared": {"": {}},
        "style": {
            "": {
                **RELEASED,
                "model.width": 256,
                "model.heads": 8,
                "model.dropout": 0.1,
                "model.window": 2,
                "optim.learning_rate": 1e-4,
                "optim.weight_decay": 1e-5,
                "train.batch_size": 16,
                "train.epochs": 60,
            },
        },
    }

    name: str = field(default="scmm", init=False)
    window: int = 2  # utterances before and after one that its short path hears

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.window > 0, f"model.window={self.window} must be positive")
