"""The options of GraphSmile, a baseline, and the sentiments of emotions that it is trained with too."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

from cmath_jax.data.corpus import Sizes
from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, ModelOptions, Recipes

NEGATIVE, NEUTRAL, POSITIVE, UNKNOWN = 0, 1, 2, -1
# Names as data sets have them. A surprise may be either.
SENTIMENTS = {
    "neutral": NEUTRAL,
    **dict.fromkeys(("positive", "happy", "happiness", "joy", "excited", "excitement"), POSITIVE),
    **dict.fromkeys(("negative", "sad", "sadness", "anger", "angry", "frustrated", "frustration"), NEGATIVE),
    **dict.fromkeys(("fear", "fearful", "disgust", "disgusted"), NEGATIVE),
}


def sentiments_of(classes: Sequence[str]) -> tuple[int, ...]:
    """Returns the sentiment of each class of emotion: negative 0, neutral 1, positive 2, not known -1."""
    return tuple(SENTIMENTS.get(name.strip().lower(), UNKNOWN) for name in classes)


@dataclass(frozen=True)
class GraphSmileOptions(ModelOptions):
    """GraphSmile (Li et al. 2025), a baseline."""

    title: ClassVar[str] = "GraphSmile"
    module: ClassVar[str] = "cmath_jax.models.baselines.graphsmile:GraphSmile"
    recipes: ClassVar[Recipes] = {
        "shared": {
            "meld": {
                "model.past": 3,
                "model.future": 3,
                "model.shift_window": 3,
                "model.sentiment_weight": 0.5,
                "model.shift_weight": 0.2,
            },
            "iemocap": {
                "model.past": 17,
                "model.future": 17,
                "model.shift_window": 19,
                "model.sentiment_weight": 1.0,
                "model.shift_weight": 0.7,
            },
        },
        "released": {
            "": {
                **RELEASED,
                "data.standardize": True,
                "model.dropout": 0.2,
                "optim.weight_decay": 1e-4,
                "optim.decoupled": True,
                "optim.amsgrad": True,
                "train.batch_size": 16,
            },
            "meld": {
                "model.width": 384,
                "model.layers_tv": 5,
                "model.layers_ta": 5,
                "model.layers_va": 5,
                "model.past": 3,
                "model.future": 3,
                "model.shift_window": 3,
                "model.sentiment_weight": 0.5,
                "model.shift_weight": 0.2,
                "optim.learning_rate": 7e-5,
                "train.epochs": 50,
            },
            "iemocap": {
                "model.width": 512,
                "model.layers_tv": 7,
                "model.layers_ta": 7,
                "model.layers_va": 7,
                "model.past": 17,
                "model.future": 17,
                "model.shift_window": 19,
                "model.sentiment_weight": 1.0,
                "model.shift_weight": 0.7,
                "optim.learning_rate": 1e-4,
                "train.epochs": 120,
            },
        },
    }

    name: str = field(default="graphsmile", init=False)
    layers_tv: int = 5  # of the graph of text and video
    layers_ta: int = 5  # of text and audio
    layers_va: int = 5  # of video and audio
    past: int = 3  # how many utterances before it an utterance hears; -1: all
    future: int = 3  # and after it; -1: all; a causal model hears none
    shift_window: int = 3  # utterances of a block within which shifts of sentiment are told; -1: the conversation
    sentiment_weight: float = 0.5  # in the loss, of the sentiment; 0: it is not told
    shift_weight: float = 0.2  # in the loss, of shifts of sentiment; 0: they are not told
    weighted_edges: int = 0  # of each graph of a conversation, the first that have learned weights; 0: all are 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers_tv", "layers_ta", "layers_va"):
            require(getattr(self, name) > 0, f"model.{name}={getattr(self, name)} must be positive")
        for name in ("past", "future"):
            value = getattr(self, name)
            require(value >= -1, f"model.{name}={value} must be 0 or more, or -1 for all")
        window = self.shift_window
        require(window > 0 or window == -1, f"model.shift_window={window} must be positive, or -1 for all")
        for name in ("sentiment_weight", "shift_weight"):
            value = getattr(self, name)
            require(0 <= value < inf, f"model.{name}={value} must be a number of 0 or more")
        require(self.weighted_edges >= 0, f"model.weighted_edges={self.weighted_edges} must be 0 or more")

    def facts(self, sizes: Sizes) -> dict[str, Any]:
        """Returns the sentiments of the classes."""
        return {"sentiments": sentiments_of(sizes.classes)}
