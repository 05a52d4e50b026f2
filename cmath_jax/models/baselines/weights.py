"""Parameters by the names that released code has for them, in the form of PyTorch, and how ours are made of them.

Every method rearranges numbers and does nothing else, so that it turns gradients into gradients too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cmath_jax.errors import InputError

Tree = dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """The parameters of released code, or their gradients, and which of them have been asked for.

    Attributes:
      arrays: by their names in the state dict.
      classes, speakers: of the data that they belong to.
      extra: what else a file of test vectors holds, by its name there; empty for a state dict.
      asked: the names that were asked for.
    """

    arrays: Mapping[str, np.ndarray]
    classes: int
    speakers: int
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns an array. Raises InputError where there is none of this name."""
        if name not in self.arrays:
            raise InputError(f"there is no parameter {name}; is this another model?")
        self.asked.add(name)
        return self.arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self.arrays

    def count(self, pattern: str) -> int:
        """Counts the parameters whose whole name the pattern matches."""
        return sum(re.fullmatch(pattern, name) is not None for name in self.arrays)

    def dense(self, name: str, bias: bool = True) -> Tree:
        """Returns a `Dense` of a torch.nn.Linear; also of a Conv1d with a kernel of 1."""
        weight = self[f"{name}.weight"]
        kernel = weight.reshape(weight.shape[:2]).T
        return {"kernel": kernel, "bias": self[f"{name}.bias"]} if bias else {"kernel": kernel}

    def norm(self, name: str) -> Tree:
        """Returns scale and bias of a torch.nn.LayerNorm or BatchNorm1d."""
        return {"scale": self[f"{name}.weight"], "bias": self[f"{name}.bias"]}

    def cell(self, name: str, ending: str = "") -> Tree:
        """Returns kernels and biases of one direction of a cell: [d, x], [w, x], [x], [x]."""
        return {
            "kernel_input": self[f"{name}.weight_ih{ending}"].T,
            "kernel_state": self[f"{name}.weight_hh{ending}"].T,
            "bias_input": self[f"{name}.bias_ih{ending}"],
            "bias_state": self[f"{name}.bias_hh{ending}"],
        }

    def recurrent(self, name: str, directions: int = 2) -> Tree:
        """Returns a `Recurrent` of a torch.nn.GRU or LSTM with all its layers."""
        tree = {}
        for layer in range(self.count(re.escape(name) + r"\.weight_ih_l\d+")):
            cells = [self.cell(name, f"_l{layer}{reverse}") for reverse in ("", "_reverse")[:directions]]
            tree[f"layer_{layer}"] = {
                "kernel_input": np.concatenate([cell["kernel_input"] for cell in cells], axis=1),
                **{
                    key: np.stack([cell[key] for cell in cells]) for key in ("kernel_state", "bias_input", "bias_state")
                },
            }
        return tree


def stacked(trees: Sequence[Tree]) -> Tree:
    """Returns one tree whose arrays have one more axis in front."""
    return {
        key: stacked([tree[key] for tree in trees])
        if isinstance(value, Mapping)
        else np.stack([tree[key] for tree in trees])
        for key, value in trees[0].items()
    }


def nothing(weights: Weights) -> dict[str, Any]:
    """Returns nothing, of any weights."""
    del weights
    return {}


@dataclass(frozen=True)
class Released:
    """The way from released parameters to a model of ours; a constant of the model's file.

    Attributes:
      options: weights -> the options of our model that they fit, by names without `model.`. What neither the shapes nor
        `Weights.extra` say is what conformance vectors were made with, by the number of classes.
      params: weights, options -> our parameters.
      dead: a pattern of the names of parameters that the released code has and does not use.
      standardization: weights -> modality -> mean and deviation [d_m] by which features are standardized before: the
        running statistics of a BatchNorm of the input.
      constants: weights -> attributes of our module that are neither options nor parameters.
      variants: weights -> other log-probabilities that vectors have, by the beginning of their names, and with which
        attributes in place of `constants` the module computes them.
    """

    options: Callable[[Weights], dict[str, Any]]
    params: Callable[[Weights, Mapping[str, Any]], Tree]
    dead: str = ""
    standardization: Callable[[Weights], dict[str, tuple[np.ndarray, np.ndarray]]] = nothing
    constants: Callable[[Weights], dict[str, Any]] = nothing
    variants: Callable[[Weights], dict[str, dict[str, Any]]] = nothing
