"""Checks settings of extractors: JSON objects, against a dataclass that holds their defaults."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from cmath_jax.data.corpus import MODALITIES
from cmath_jax.errors import InputError, suggestion

WEIGHTS = "CMATH_WEIGHTS"  # the folder in which files are looked for that are not at their path any more

Settings = TypeVar("Settings")


def read_settings(kind: type[Settings], given: Mapping[str, Any], modality: str) -> Settings:
    """Returns the settings as a dataclass. Raises InputError for an unknown setting or a value of another type."""
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    values = {}
    for name, value in given.items():
        if name not in names:
            raise InputError(f"{MODALITIES[modality]}: unknown setting {name!r}; {suggestion(str(name), names)}")
        value = float(value) if hints[name] is float and isinstance(value, int) else value
        if not isinstance(value, hints[name]) or isinstance(value, bool):
            wanted = getattr(hints[name], "__name__", str(hints[name]))
            raise InputError(f"{MODALITIES[modality]}: {name} is {value!r}, not {wanted}")
        values[name] = value
    return kind(**values)


def check(holds: bool, modality: str, message: str) -> None:
    """Raises InputError with the message, after the name of the modality, unless the condition holds."""
    if not holds:
        raise InputError(f"{MODALITIES[modality]}: {message}")


def check_hash(modality: str, name: str, what: str, expected: str | None, found: str) -> str:
    """Returns the hash that was found. Raises InputError where another one was expected."""
    if expected not in (None, found):
        raise InputError(
            f"{MODALITIES[modality]}: {what} {name} is another one than that of the settings: its hash is {found}, "
            f"theirs {expected}. Features of it mean something else"
        )
    return found


def stored_path(name: str) -> str:
    """Returns a path as settings keep it: absolute, so that it holds in every working directory."""
    return str(Path(name).expanduser().absolute())


def located(name: str) -> Path | None:
    """Returns the file or folder of a path in settings, or one of the same name in $CMATH_WEIGHTS, or None."""
    path = Path(name).expanduser()
    elsewhere = Path(os.environ[WEIGHTS]) / path.name if os.environ.get(WEIGHTS) else path
    return next((candidate for candidate in (path, elsewhere) if candidate.exists()), None)
