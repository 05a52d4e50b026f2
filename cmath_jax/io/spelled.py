"""The values of options as a command line spells them."""

import types
import typing
from typing import Any

from cmath_jax.errors import InputError, require


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


def check_address(name: str, address: str) -> None:
    """Raises InputError for anything but HOST:PORT; a host of IPv6 stands in brackets."""
    host, _, port = address.rpartition(":")
    named = bool(host) and not (":" in host and not (host[0] == "[" and host[-1] == "]"))
    require(
        named and port.isascii() and port.isdigit() and 0 < int(port) < 2**16,
        f"{name}={address!r} is not HOST:PORT, as in 10.0.0.1:1234",
    )
