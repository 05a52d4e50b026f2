"""The options of M3NET, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, ModelOptions, Recipes
from cmath_jax.models.options.space import COMMON, FOCAL, Space


@dataclass(frozen=True)
class M3NETOptions(ModelOptions):
    """M3NET (Chen et al. 2023), a baseline."""

    title: ClassVar[str] = "M3NET"
    module: ClassVar[str] = "cmath_jax.models.baselines.m3net:M3NET"
    bidirectional: ClassVar[str] = "the GRU"
    recipes: ClassVar[Recipes] = {
        "shared": {},
        "released": {
            "": {
                **RELEASED,
                "data.standardize": True,
                "data.text_layer": 0,
                "model.text_layers": 4,
                "model.graph_width": 512,
                "model.layers": 3,
                "optim.learning_rate": 1e-4,
                "optim.weight_decay": 3e-5,
                "train.batch_size": 16,
            },
            "meld": {
                "model.width": 1024,
                "model.frequency_layers": 3,
                "model.project_text": False,
                "model.dropout": 0.4,
                "loss.focal": 2.5,
                "train.epochs": 15,
            },
            "iemocap": {
                "model.width": 512,
                "model.frequency_layers": 4,
                "model.dropout": 0.5,
                "loss.class_weights": True,
                "train.epochs": 80,
            },
        },
    }

    space: ClassVar[Space] = (*COMMON, FOCAL)

    name: str = field(default="m3net", init=False)
    graph_width: int = 400  # of the nodes of both graphs
    layers: int = 3  # of the hypergraph
    frequency_layers: int = 4  # of the graph of high frequencies
    text_layers: int = 1  # the text features are so many equal parts; 4 with data.text_layer=0
    project_text: bool = True  # False: the GRU reads the text as it is, as the released code has it for MELD
    weighted_utterances: int = 0  # of a conversation, the first that have learned weights in the hypergraph; 0: all 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % 2 == 0, f"model.width={self.width} must be even: each direction of the GRU has half of it")
        for name in ("graph_width", "layers", "frequency_layers", "text_layers"):
            value = getattr(self, name)
            require(value > 0, f"model.{name}={value} must be positive")
        weighted = self.weighted_utterances
        require(weighted >= 0, f"model.weighted_utterances={weighted} must be 0 or more")
