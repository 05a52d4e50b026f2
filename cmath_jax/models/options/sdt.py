"""The options of SDT, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require_one_of
from cmath_jax.models.options.base import RELEASED, Recipes, TransformerOptions
from cmath_jax.models.options.space import COMMON, DISTILLATION, Space

GATES = ("learned", "identity")


@dataclass(frozen=True)
class SDTOptions(TransformerOptions):
    """SDT (Ma et al. 2024), a baseline."""

    title: ClassVar[str] = "SDT"
    module: ClassVar[str] = "cmath_jax.models.baselines.sdt:SDT"
    recipes: ClassVar[Recipes] = {
        "shared": {
            "": {"loss.gamma1": 0.0, "loss.gamma2": 1.0, "loss.stop_teacher": False, "loss.temperature": 1.0},
            "meld": {"loss.temperature": 8.0},
            "iemocap": {"loss.class_weights": True},
        },
        "released": {
            "": {
                **RELEASED,
                "model.width": 1024,
                "model.heads": 8,
                "model.dropout": 0.5,
                "model.biases": True,
                "loss.gamma1": 0.0,
                "loss.gamma2": 1.0,
                "loss.stop_teacher": False,
                "optim.weight_decay": 1e-5,
            },
            "meld": {
                "model.gates": "identity",
                "loss.temperature": 8.0,
                "optim.learning_rate": 5e-6,
                "train.batch_size": 8,
                "train.epochs": 50,
            },
            "iemocap": {
                "loss.temperature": 1.0,
                "loss.class_weights": True,
                "optim.learning_rate": 1e-4,
                "train.batch_size": 16,
                "train.epochs": 150,
            },
        },
    }

    space: ClassVar[Space] = (*COMMON, *DISTILLATION)

    name: str = field(default="sdt", init=False)
    biases: bool = False  # of queries, keys and values, which the released code has and its model does not need
    gates: str = "learned"  # the unimodal ones; identity: z sigmoid(z), as the released code has them for MELD

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("model.gates", self.gates, GATES)
