"""The names of MELD's three CSV files."""

import re
from collections.abc import Iterable

from cmath_jax.errors import InputError

PARTS = ("train", "dev", "test")
# MELD's own repository has the second form, copies of it elsewhere the first.
_NAME = re.compile(r"(train|dev|test)(?:_sent_emo)?\.csv", re.IGNORECASE)
NAMES = "train.csv, dev.csv and test.csv, or train_sent_emo.csv and so on"


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """Returns which of `train`, `dev` and `test` are among the names of files, in this order, each with its name.

    Raises:
      InputError: two files are one of them.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        if match := _NAME.fullmatch(name):
            part = match[1].lower()
            if part in found:
                raise InputError(f"both {found[part]} and {name} are there: move one of them away")
            found[part] = name
    return {part: found[part] for part in PARTS if part in found}


def lacking(parts: Iterable[str]) -> list[str]:
    """Returns the names of the files that are not among the parts."""
    present = set(parts)
    return [f"{part}.csv" for part in PARTS if part not in present]
