"""The two ways in which a run can fail, so that a command line can answer with the right exit code."""

import difflib
from collections.abc import Collection


class InputError(ValueError):
    """What the user gave cannot be used: a file, an option, a value. One readable line; exit code 2.

    Who shows an error beside what it is about asks for its place, which `places.placed` tells.

    Attributes:
      conversation, utterance: the numbers, from 0, of what is to blame; None where it is not known to be a single one.
      recording: its name, as the user knows it; None where it is not about one.
      reason: the message without the words that name the place; None where it names none.
    """

    conversation: int | None = None
    utterance: int | None = None
    recording: str | None = None
    reason: str | None = None


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
