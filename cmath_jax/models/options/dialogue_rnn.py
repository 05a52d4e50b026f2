"""The options of DialogueRNN, a baseline."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require
from cmath_jax.models.options.base import RELEASED, ModelOptions, Recipes
from cmath_jax.models.options.space import CLASS_WEIGHTS, RATE, Space, dropout


@dataclass(frozen=True)
class DialogueRNNOptions(ModelOptions):
    """DialogueRNN (Majumder et al. 2019), a baseline. Its `width` is that of the states of conversations."""

    title: ClassVar[str] = "DialogueRNN"
    module: ClassVar[str] = "cmath_jax.models.baselines.dialogue_rnn:DialogueRNN"
    recipes: ClassVar[Recipes] = {
        # Its dropout acts inside the recurrence: at 0.5 it learns nothing.
        "shared": {"": {"model.dropout": 0.1}},
        "released": {
            "": {**RELEASED, "model.dropout": 0.1, "optim.weight_decay": 1e-5, "train.batch_size": 30},
            "meld": {
                "model.width": 150,
                "model.party_width": 150,
                "model.emotion_width": 100,
                "model.hidden_width": 200,
                "optim.learning_rate": 5e-4,
                "train.epochs": 100,
            },
            "iemocap": {
                "model.width": 500,
                "model.party_width": 500,
                "model.emotion_width": 300,
                "model.hidden_width": 600,
                "loss.class_weights": True,
                "optim.learning_rate": 1e-4,
                "train.epochs": 60,
            },
        },
    }

    # Dropout in the range where it learns at all.
    space: ClassVar[Space] = (RATE, dropout(0.02, 0.3), CLASS_WEIGHTS)

    name: str = field(default="dialogue_rnn", init=False)
    party_width: int = 0  # of the states of speakers; 0: model.width
    emotion_width: int = 0  # of the states of emotions; 0: model.width
    hidden_width: int = 0  # of the layer before the classifier; 0: model.width
    attention: bool = True  # whether an utterance attends to the emotion states of the others

    def __post_init__(self) -> None:
        super().__post_init__()
        for each in ("party_width", "emotion_width", "hidden_width"):
            require(getattr(self, each) >= 0, f"model.{each}={getattr(self, each)} must be positive, or 0")
