"""The options of CMATH, the model of the paper."""

from dataclasses import dataclass, field
from typing import ClassVar

from cmath_jax.errors import require, require_one_of
from cmath_jax.models.options.base import Recipes, TransformerOptions

INJECTIONS = ("attention", "block", "nothing")


@dataclass(frozen=True)
class CMATHOptions(TransformerOptions):
    """CMATH, the model of the paper."""

    title: ClassVar[str] = "CMATH"
    module: ClassVar[str] = "cmath_jax.models.cmath:CMATH"
    recipes: ClassVar[Recipes] = {"shared": {}}

    name: str = field(default="cmath", init=False)
    kernel: int = 1  # of the convolutions, odd
    reconstruction: bool = True  # False: w/o MR
    cross_attention: bool = True  # False: w/o CMA-T
    inject: str = "attention"  # what eq. 11 adds: attention, block or nothing
    noise: bool = True  # False: the fusion is deterministic

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.kernel > 0 and self.kernel % 2 == 1, f"model.kernel={self.kernel} is not an odd positive number")
        require_one_of("model.inject", self.inject, INJECTIONS)
