"""Sets what `precision` means for matrix products: the same on every device."""

from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def product_precision(dtype: Any) -> str | None:
    """Returns the precision of products in this type: of bfloat16, what the device does fastest; else all of float32.

    A device that is not told so rounds factors of float32 first: a TPU to bfloat16, a GPU to TensorFloat-32.
    """
    return None if dtype == jnp.bfloat16 else "highest"


def products_of(model: nn.Module) -> AbstractContextManager[Any]:
    """Returns the context in which a model is traced, and its gradients with it."""
    context: AbstractContextManager[Any] = jax.default_matmul_precision(product_precision(model.dtype))
    return context
