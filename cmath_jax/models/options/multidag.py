"""The options of MultiDAG, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, ModelOptions, Recipes


@dataclass(frozen=True)
class MultiDAGOptions(ModelOptions):
    """MultiDAG (Nguyen et al. 2024), a baseline; with train.curriculum it is MultiDAG+CL. Causal as it is."""

    title: ClassVar[str] = "MultiDAG"
    module: ClassVar[str] = "cmath_jax.models.baselines.multidag:MultiDAG"
    always_causal: ClassVar[bool] = True
    recipes: ClassVar[Recipes] = {
        "shared": {},
        "released": {
            "iemocap": {
                **RELEASED,
                "model.width": 300,
                "model.layers": 4,
                "model.window": 1,
                "model.dropout": 0.4,
                "optim.learning_rate": 5e-4,
                "optim.clip_norm": 5.0,
                "optim.decoupled": True,
                "train.batch_size": 16,
                "train.epochs": 30,
                "train.curriculum": 12,
            },
        },
    }

    name: str = field(default="multidag", init=False)
    layers: int = 4  # of the graph
    window: int = 1  # how many utterances of the same speaker an utterance hears, with all that were said since

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "window"):
            require(getattr(self, name) > 0, f"model.{name}={getattr(self, name)} must be positive")
