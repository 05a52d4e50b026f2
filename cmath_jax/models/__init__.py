"""The model of the paper, its parts, and the registry of models by name."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.config import Config
from cmath_jax.data.conversations import Corpus
from cmath_jax.errors import InputError
from cmath_jax.models.cmath import CMATH


def _cmath(config: Config, corpus: Corpus) -> nn.Module:
    return CMATH(
        classes=len(corpus.classes),
        speakers=corpus.speakers,
        width=config.model.width,
        heads=config.model.heads,
        dropout=config.model.dropout,
        modalities=config.data.modalities,
        kernel=config.model.kernel,
        reconstruction=config.model.reconstruction,
        cross_attention=config.model.cross_attention,
        inject=config.model.inject,
        dtype=jnp.dtype(config.precision),
    )


# A model is called with (batch, train=...) and returns `Outputs`.
MODELS: dict[str, Callable[[Config, Corpus], nn.Module]] = {"cmath": _cmath}


def make_model(config: Config, corpus: Corpus) -> nn.Module:
    """The model that the config names. Raises InputError for a name that is not in `MODELS`."""
    if config.model.name not in MODELS:
        raise InputError(f"model.name={config.model.name!r} is not one of {', '.join(MODELS)}")
    return MODELS[config.model.name](config, corpus)
