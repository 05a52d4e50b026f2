"""The options of CMATH, the model of the paper."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require, require_one_of
from cmath_jax.models.options.base import Recipes, TransformerOptions
from cmath_jax.models.options.space import COMMON, Dimension, Space

INJECTIONS = ("attention", "block", "nothing")
NORMS = ("post", "pre")
TUNED = {"loss.class_weights": False, "optim.schedule": "cosine", "optim.clip_norm": 1.0, "train.patience": 0}


@dataclass(frozen=True)
class CMATHOptions(TransformerOptions):
    """CMATH, the model of the paper."""

    title: ClassVar[str] = "CMATH"
    module: ClassVar[str] = "cmath_jax.models.cmath:CMATH"
    recipes: ClassVar[Recipes] = {
        "shared": {},
        # What is published, and no more: schedule, dropout and the rest stay as they are.
        "paper": {
            "meld": {
                "model.width": 400,
                "model.heads": 10,
                "loss.gamma1": 1.0,
                "loss.gamma2": 1.2,
                "optim.learning_rate": 2e-4,
                "train.batch_size": 4,
            },
            "iemocap": {
                "model.width": 500,
                "model.heads": 10,
                "loss.gamma1": 1.0,
                "loss.gamma2": 1.8,
                "optim.learning_rate": 3e-3,
                "train.batch_size": 16,
            },
        },
        # What a search chose on validation, around the options that all its trials had in common (docs/results.md).
        "tuned": {
            "": {"model.width": 100, "model.heads": 10, "model.norm": "pre", **TUNED},
            "meld": {
                "model.dropout": 0.19,
                "loss.gamma1": 0.0,
                "loss.gamma2": 1.0,
                "optim.learning_rate": 2e-3,
                "optim.warmup_epochs": 1.0,
                "optim.average": 0.98,
                "train.batch_size": 16,
                "train.epochs": 8,
            },
            "iemocap": {
                "model.dropout": 0.11,
                "loss.gamma1": 0.3,
                "loss.gamma2": 0.0,
                "optim.learning_rate": 2.5e-3,
                "optim.warmup_epochs": 2.0,
                "optim.average": 0.9,
                "train.batch_size": 8,
                "train.epochs": 16,
            },
        },
    }
    # Of the gammas of the paper, about 1, validation wants little or nothing (docs/model.md).
    space: ClassVar[Space] = (
        *COMMON,
        Dimension("loss.gamma1", (0.0, 0.1, 0.3, 1.0), "choice"),
        Dimension("loss.gamma2", (0.0, 0.1, 0.3, 1.0), "choice"),
        Dimension("model.norm", NORMS, "choice"),
    )

    name: str = field(default="cmath", init=False)
    kernel: int = 1  # of the convolutions, odd
    reconstruction: bool = True  # False: w/o MR
    cross_attention: bool = True  # False: w/o CMA-T
    inject: str = "attention"  # what eq. 11 adds: attention, block or nothing
    norm: str = "post"  # where the block normalizes: post, as in the paper, or pre
    noise: bool = True  # False: the fusion is deterministic

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.kernel > 0 and self.kernel % 2 == 1, f"model.kernel={self.kernel} is not an odd positive number")
        require_one_of("model.inject", self.inject, INJECTIONS)
        require_one_of("model.norm", self.norm, NORMS)
