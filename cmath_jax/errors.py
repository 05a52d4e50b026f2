"""The two ways in which a run can fail, so that a command line can answer with the right exit code."""

import difflib
from collections.abc import Collection


class InputError(ValueError):
    """What the user gave cannot be used: a file, an option, a value. One readable line; exit code 2."""


class InputWarning(UserWarning):
    """What the user gave is used, but is not what it seems to be. One readable line."""


class TrainingDivergedError(RuntimeError):
    """A loss or a gradient is no longer finite. The last good checkpoint stays; exit code 1."""


class Terminated(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop, has saved, and goes on when it is started again; exit code 0."""


def suggestion(name: str, known: Collection[str], prefix: str = "", otherwise: str = "there are") -> str:
    """What may have been meant by a name that is unknown, or else all that there are; to end a message.

    Args:
      prefix: stands before every name.
      otherwise: stands before the list.
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {prefix}{near[0]}?" if near else f"{otherwise} {', '.join(prefix + each for each in known)}"
