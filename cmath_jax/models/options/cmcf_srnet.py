"""The options of CMCF-SRNet-style, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, STYLE, Recipes, TransformerOptions


@dataclass(frozen=True)
class CMCFSRNetOptions(TransformerOptions):
    """CMCF-SRNet-style (after Zhang and Li 2023), a baseline; the recipe `style` is a choice of ours."""

    title: ClassVar[str] = f"CMCF-SRNet{STYLE}"
    module: ClassVar[str] = "cmath_jax.models.baselines.cmcf_srnet:CMCFSRNet"
    recipes: ClassVar[Recipes] = {
        "shared": {"": {}},
        "style": {
            "": {
                **RELEASED,
                "model.width": 200,
                "model.heads": 4,
                "model.dropout": 0.4,
                "model.local_window": 5,
                "model.local_layers": 1,
                "model.graph_window": 10,
                "model.graph_layers": 2,
                "optim.learning_rate": 3e-4,
                "optim.weight_decay": 1e-5,
                "train.batch_size": 16,
                "train.epochs": 60,
            },
        },
    }

    name: str = field(default="cmcf_srnet", init=False)
    local_window: int = 5  # utterances before and after one that its modalities hear
    local_layers: int = 1  # of the cross-modal transformer
    graph_window: int = 10  # utterances before and after one that it has edges with
    graph_layers: int = 2  # of the graph transformer

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("local_window", "local_layers", "graph_window", "graph_layers"):
            require(getattr(self, name) > 0, f"model.{name}={getattr(self, name)} must be positive")
