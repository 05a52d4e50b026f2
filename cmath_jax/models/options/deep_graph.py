"""The options of every model with deep graph convolution."""

from dataclasses import dataclass

from cmath_jax.errors import require
from cmath_jax.models.options.base import ModelOptions


@dataclass(frozen=True)
class DeepGraphOptions(ModelOptions):
    """Options of MMGCN, MM-DFN and AdaIGN. Half of the width is that of each direction of the recurrent layers."""

    graph_width: int = 100  # of the graph's layers
    layers: int = 64  # of the graph

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % 2 == 0, f"model.width={self.width} is odd; each direction has half of it")
        require(self.graph_width > 0, f"model.graph_width={self.graph_width} must be positive")
        require(self.layers > 0, f"model.layers={self.layers} must be positive")
