"""The options of DialogueGCN, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require, require_one_of
from cmath_jax.models.options.base import RELEASED, ModelOptions, Recipes

EDGE_ATTENTIONS = ("bilinear", "position")


@dataclass(frozen=True)
class DialogueGCNOptions(ModelOptions):
    """DialogueGCN (Ghosal et al. 2019), a baseline. Its `width` is that of what its LSTM returns."""

    title: ClassVar[str] = "DialogueGCN"
    module: ClassVar[str] = "cmath_jax.models.baselines.dialogue_gcn:DialogueGCN"
    bidirectional: ClassVar[str] = "the LSTM"
    recipes: ClassVar[Recipes] = {
        "shared": {"": {}},
        "released": {
            "": RELEASED,
            "iemocap": {
                "model.width": 200,
                "model.dropout": 0.4,
                "optim.learning_rate": 3e-4,
                "train.batch_size": 32,
                "train.epochs": 50,
            },
        },
    }

    name: str = field(default="dialogue_gcn", init=False)
    relation_width: int = 0  # after the convolution by relations; 0: half of model.width
    graph_width: int = 0  # after the second convolution; 0: half of model.width
    hidden_width: int = 0  # of the layer before the classifier; 0: half of model.width
    past: int = 10  # utterances before one that hear it
    future: int = 10  # utterances after one that hear it
    bases: int = 30  # which the kernels of relations are put together of
    edge_attention: str = "bilinear"  # or position: by the place in the conversation, as in the original code
    longest: int = 110  # positions that edge_attention=position tells apart
    nodal_attention: bool = False  # whether an utterance attends to all others before it is classified

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % 2 == 0, f"model.width={self.width} must be even: half of it is for each direction")
        require_one_of("model.edge_attention", self.edge_attention, EDGE_ATTENTIONS)
        for each in ("relation_width", "graph_width", "hidden_width", "past", "future"):
            require(getattr(self, each) >= 0, f"model.{each}={getattr(self, each)} must be positive, or 0")
        for each in ("bases", "longest"):
            require(getattr(self, each) > 0, f"model.{each}={getattr(self, each)} must be positive")
