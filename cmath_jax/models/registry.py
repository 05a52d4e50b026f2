"""Makes the Flax module of a model from its options."""

import importlib
from dataclasses import fields

import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.corpus import Sizes
from cmath_jax.models.options.base import ModelOptions


def make_model(options: ModelOptions, sizes: Sizes, modalities: str, precision: str) -> nn.Module:
    """Makes the model that the options name, sized by the data."""
    file, _, name = options.module.partition(":")
    module: type[nn.Module] = getattr(importlib.import_module(file), name)
    return module(
        classes=len(sizes.classes),
        speakers=sizes.speakers,
        modalities=modalities,
        dtype=jnp.dtype(precision),
        **{each.name: getattr(options, each.name) for each in fields(options) if each.init},
        **options.facts(sizes),
    )
