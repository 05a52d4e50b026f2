"""The options of MMGCN, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.models.options.base import RELEASED, Recipes
from cmath_jax.models.options.deep_graph import DeepGraphOptions
from cmath_jax.models.options.space import COMMON, FOCAL, Space


@dataclass(frozen=True)
class MMGCNOptions(DeepGraphOptions):
    """MMGCN (Hu et al. 2021), a baseline."""

    title: ClassVar[str] = "MMGCN"
    module: ClassVar[str] = "cmath_jax.models.baselines.mmgcn:MMGCN"
    bidirectional: ClassVar[str] = "the LSTM"
    recipes: ClassVar[Recipes] = {
        "shared": {},
        "released": {
            "": {
                **RELEASED,
                "model.width": 200,
                "model.graph_width": 100,
                "model.layers": 64,
                "model.dropout": 0.4,
                "train.batch_size": 16,
            },
            "meld": {"loss.focal": 2.5, "optim.learning_rate": 1e-3, "train.epochs": 60},
            "iemocap": {
                "loss.class_weights": True,
                "optim.learning_rate": 3e-4,
                "optim.weight_decay": 3e-5,
                "train.epochs": 20,
            },
        },
    }

    space: ClassVar[Space] = (*COMMON, FOCAL)

    name: str = field(default="mmgcn", init=False)
