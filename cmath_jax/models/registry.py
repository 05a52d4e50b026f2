"""The table of models by name."""

from collections.abc import Callable

from flax import linen as nn

from cmath_jax.config import Config
from cmath_jax.data.corpus import Sizes
from cmath_jax.errors import InputError, not_one_of
from cmath_jax.models.baselines.sdt import SDT
from cmath_jax.models.cmath import CMATH

# A model is called with (batch, train=..., dropout=...) and returns `Outputs`.
MODELS: dict[str, Callable[[Config, Sizes], nn.Module]] = {
    "cmath": CMATH.of,
    "sdt": SDT.of,
}


def check_name(name: str) -> None:
    """Raises InputError for a name that is not in `MODELS`; says which one may be meant."""
    if name not in MODELS:
        raise InputError(not_one_of("model.name", name, MODELS))


def make_model(config: Config, sizes: Sizes) -> nn.Module:
    """Makes the model that the config names. Raises InputError for a name that is not in `MODELS`."""
    check_name(config.model.name)
    return MODELS[config.model.name](config, sizes)
