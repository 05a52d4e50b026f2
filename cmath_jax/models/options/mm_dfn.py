"""The options of MM-DFN, a baseline."""

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, Recipes
from cmath_jax.models.options.deep_graph import DeepGraphOptions
from cmath_jax.models.options.space import COMMON, FOCAL, Space


@dataclass(frozen=True)
class MMDFNOptions(DeepGraphOptions):
    """MM-DFN (Hu et al. 2022), a baseline."""

    title: ClassVar[str] = "MM-DFN"
    module: ClassVar[str] = "cmath_jax.models.baselines.mm_dfn:MMDFN"
    bidirectional: ClassVar[str] = "the GRU"
    recipes: ClassVar[Recipes] = {
        "shared": {},
        # The authors give grids, in which they searched by the test split; the first number of each is here.
        "released": {
            "": {
                **RELEASED,
                "model.width": 200,
                "model.graph_width": 100,
                "model.party_padding": True,
                "loss.focal": 0.5,
                "optim.weight_decay": 1e-4,
                "train.batch_size": 32,
                "train.epochs": 30,
                "train.patience": 5,
            },
            "meld": {
                "model.layers": 64,
                "model.dropout": 0.4,
                "model.party_text": 1.5,
                "model.party_audio": 0.5,
                "model.party_visual": 0.5,
                "optim.learning_rate": 5e-4,
            },
            "iemocap": {
                "model.layers": 16,
                "model.dropout": 0.2,
                "model.party_text": 1.0,
                "model.party_audio": 3.0,
                "model.party_visual": 0.0,
                "loss.class_weights": True,
                "optim.learning_rate": 1e-4,
            },
        },
    }

    space: ClassVar[Space] = (*COMMON, FOCAL)

    name: str = field(default="mm_dfn", init=False)
    layers: int = 16  # of the graph
    # How much the context of each speaker adds to a modality.
    party_text: float = 1.0
    party_audio: float = 1.0
    party_visual: float = 1.0
    party_padding: bool = False  # zeros behind the utterances of a speaker, which the released code has

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("party_text", "party_audio", "party_visual"):
            value = getattr(self, name)
            require(0 <= value < inf, f"model.{name}={value} must be a number of 0 or more")
