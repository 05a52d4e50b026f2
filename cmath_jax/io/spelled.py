"""The values of options as a command line spells them."""

import types
import typing
from typing import Any

from cmath_jax.errors import InputError


def convert(name: str, value: Any, wanted: Any) -> Any:
    """Returns the value of an option in its type; a string stands for the value that it spells. Raises InputError."""
    if typing.get_origin(wanted) is types.UnionType:  # of a type and None
        (wanted,) = (each for each in typing.get_args(wanted) if each is not types.NoneType)
        if value in (None, "None"):
            return None
    if wanted is bool and value in ("true", "True", "false", "False"):
        return value in ("true", "True")
    # A bool is an int to Python, but not to a reader of the config.
    if isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool):
        return value
    try:
        if wanted is float and not isinstance(value, bool):
            return float(value)
        if wanted is int and isinstance(value, str):
            return int(value)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{name}={value!r} is not of type {wanted.__name__}")
