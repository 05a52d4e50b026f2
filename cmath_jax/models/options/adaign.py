"""The options of AdaIGN, a baseline."""

from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, Recipes
from cmath_jax.models.options.deep_graph import DeepGraphOptions
from cmath_jax.models.options.space import COMMON, FOCAL, Space

SIZES = ("text_width", "text_layers", "policy_rows")
WEIGHTS = ("party_text", "party_audio", "party_visual", "importance", "not_importance", "hamming", "sparsity")


@dataclass(frozen=True)
class AdaIGNOptions(DeepGraphOptions):
    """AdaIGN (Tu et al. 2024), a baseline."""

    title: ClassVar[str] = "AdaIGN"
    module: ClassVar[str] = "cmath_jax.models.baselines.adaign:AdaIGN"
    bidirectional: ClassVar[str] = "the GRU"
    policies: ClassVar[bool] = True
    recipes: ClassVar[Recipes] = {
        "shared": {"": {}},
        "released": {
            "": {
                **RELEASED,
                "data.text_layer": 0,
                "model.text_layers": 4,
                "model.width": 200,
                "model.graph_width": 100,
                "model.dropout": 0.4,
                "model.temperature_decay": 0.965,
                "optim.policy_decay": 5e-4,
                "train.batch_size": 32,
                "train.epochs": 60,
            },
            "meld": {
                "model.layers": 32,
                "model.text_width": 600,
                "model.party_padding": True,
                "model.absolute_logits": True,
                "optim.learning_rate": 1e-3,
                "optim.weight_decay": 5e-4,
                "optim.policy_rate": 20.0,  # 2e-2
                "loss.focal": 1.0,
            },
            "iemocap": {
                "model.layers": 16,
                "model.text_width": 100,
                "model.party_text": 0.0,
                "model.party_audio": 0.0,
                "model.party_visual": 0.0,
                "model.absolute_logits": False,
                "optim.learning_rate": 3e-4,
                "optim.weight_decay": 1e-4,
                "optim.policy_rate": 200.0 / 3,  # 2e-2
                "loss.focal": 0.5,
                "loss.class_weights": True,
            },
        },
    }

    space: ClassVar[Space] = (*COMMON, FOCAL)

    name: str = field(default="adaign", init=False)
    layers: int = 16  # of the graph
    text_width: int = 100  # of the layer that reads the text features
    audio_width: int = 0  # of the layer that reads the audio features; 0: as wide as they are
    visual_width: int = 0  # of the layer that reads the visual features; 0: as wide as they are
    text_layers: int = 1  # the text features are so many equal parts; 4 with data.text_layer=0
    # How much the context of each speaker adds to a modality.
    party_text: float = 1.5
    party_audio: float = 0.5
    party_visual: float = 0.5
    party_padding: bool = False  # zeros behind the utterances of a speaker, which the released code has
    policy_rows: int = 200  # utterances, from the last one back, that have a policy of their own
    temperature: float = 5.0  # of policies
    temperature_decay: float = 1.0  # what is left of it after each epoch that trains policies alone (optim.policy_rate)
    absolute_logits: bool = False  # of policies, at first
    importance: float = 0.9  # weight in the loss: text and all contexts are to be used, and alike
    not_importance: float = 0.2  # weight in the loss: they are not to be used
    hamming: float = 0.6  # weight in the loss: audio and visual are to be used, and alike
    sparsity: float = 0.1  # weight in the loss: they are not to be used

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in SIZES:
            require(getattr(self, name) > 0, f"model.{name}={getattr(self, name)} must be positive")
        for name in ("audio_width", "visual_width"):
            require(getattr(self, name) >= 0, f"model.{name}={getattr(self, name)} must not be negative")
        for name in WEIGHTS:
            require(0 <= getattr(self, name) < inf, f"model.{name}={getattr(self, name)} must be a number of 0 or more")
        decay = self.temperature_decay
        require(0 < decay <= 1, f"model.temperature_decay={decay} is not in (0, 1]")
        require(0 < self.temperature < inf, f"model.temperature={self.temperature} must be positive and finite")
