"""Every model in small, for the tests that hold for all of them."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from samples import CLASSES, init

from cmath_jax.data.batches import Batch
from cmath_jax.models.options import MODELS
from cmath_jax.models.registry import make_model

# Small options of each model; a new model needs a line here.
SMALL: dict[str, dict[str, Any]] = {
    "cmath": {"width": 8, "heads": 2},
    "sdt": {"width": 8, "heads": 2},
    "ctnet": {"width": 8, "heads": 2, "speaker_width": 3},
    "scmm": {"width": 8, "heads": 2},
    "cmcf_srnet": {"width": 8, "heads": 2, "local_window": 2, "local_layers": 2, "graph_window": 3},
    "mmgcn": {"width": 8, "graph_width": 6, "layers": 3},
    "mm_dfn": {"width": 8, "graph_width": 6, "layers": 3},
    "dialogue_rnn": {"width": 8, "party_width": 6, "emotion_width": 5, "hidden_width": 7},
    "dialogue_gcn": {"width": 8, "relation_width": 6, "graph_width": 5, "hidden_width": 7, "past": 2, "future": 1},
    "multidag": {"width": 8, "layers": 2},
    "m3net": {"width": 8, "graph_width": 8, "layers": 2, "frequency_layers": 2},
    "graphsmile": {"width": 8, "layers_tv": 2, "layers_ta": 1, "layers_va": 3, "past": 3, "future": 2},
    "adaign": {"width": 8, "graph_width": 6, "layers": 3, "text_width": 5, "policy_rows": 6},
}
QUICK = ("cmath", "sdt", "dialogue_gcn")  # transformers, and a graph over a recurrence
each_model = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS]
)


class Sizes:
    """The sizes of a corpus with so many speakers."""

    def __init__(self, speakers: int) -> None:
        self.classes, self.speakers = tuple(f"class {c}" for c in range(CLASSES)), speakers


def small_model(
    name: str, modalities: str = "tav", speakers: int = 9, precision: str = "float32", **options: Any
) -> Any:
    """Returns the module of a model in small, without dropout unless the options have it."""
    settings = {"dropout": 0.0, **SMALL[name], **options}
    return make_model(MODELS[name](**settings), Sizes(speakers), modalities, precision)


def random_params(model: nn.Module, batch: Batch) -> Any:
    """Returns parameters of which no bias is 0 and no scale is 1, so that each one matters."""
    shapes = init.eval_shape(model, batch)
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) / math.sqrt(x.shape[-1]), jnp.float32), shapes)
