"""The ways in which a command can fail, so that a command line can answer with the right line and exit code."""

import contextlib
import difflib
import errno
from collections.abc import Collection, Iterator
from pathlib import Path

# System errors that no other input would have avoided.
OF_MACHINE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE))


class InputError(ValueError):
    """An input that cannot be used: a file, an option, a value. One readable line; exit code 2.

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


class InputWarning(UserWarning):
    """A warning that an input is used, but is not what it seems to be. One readable line."""


class FailedError(RuntimeError):
    """A failure to end what was begun, though nothing that was given is wrong. One readable line; exit code 1."""


class TrainingDivergedError(FailedError):
    """A loss or a gradient that is no longer finite. The last good checkpoint stays; exit code 1."""


class Terminated(Exception):  # noqa: N818 - it is no error
    """A run that was asked to stop, has saved, and goes on when it is started again; exit code 0."""


@contextlib.contextmanager
def doing(what: str, path: str | Path) -> Iterator[None]:
    """Notes on a system error inside what was being done, and to which file: `with doing("writing", path):`.

    A full disk, for one, is reported without the name of the file. The innermost note counts.
    """
    try:
        yield
    except OSError as error:
        if not hasattr(error, "__notes__"):
            error.add_note(f"{what} {path}")
        raise


def reason(error: OSError) -> str:
    """Returns why the system refused, in its own words."""
    return error.strerror or str(error) or type(error).__name__


def readable(error: OSError) -> str:
    """Describes an error in a line: what was being done, with which file, and why it failed."""
    parts = list(getattr(error, "__notes__", ()))[:1]
    name = error.filename if error.filename is not None else error.filename2
    if name is not None and not (parts and str(name) in parts[0]):
        parts.append(str(name))
    return " ".join(": ".join([*parts, reason(error)]).split())


def is_of_machine(error: BaseException | None) -> bool:
    """Whether an error comes from one of the machine, such as a full disk."""
    causes: list[BaseException] = []
    while error is not None and error not in causes:  # an error can be its own cause
        causes.append(error)
        error = error.__cause__
    return any(isinstance(cause, OSError) and cause.errno in OF_MACHINE for cause in causes)


def last_line(said: str) -> str:
    """Returns the last line that a process has said, which is where its error stands."""
    return (said.strip().splitlines() or ["it said nothing"])[-1]


def installs(extra: str) -> str:
    """Returns the command that installs the packages of an extra, to end a message.

    It comes first without any file of the project: who has installed a wheel has none.
    """
    listed = f"pip install -r requirements-{extra}.txt -c constraints.txt"
    return f'pip install "cmath_jax[{extra}]" (or, in the folder of the project, {listed})'


def suggestion(name: str, known: Collection[str], prefix: str = "", otherwise: str = "there are") -> str:
    """Returns what may have been meant by an unknown name, or else all names that there are; to end a message.

    Args:
      prefix: stands before every name.
      otherwise: stands before the list.
    """
    near = nearest(name, known)
    return f"did you mean {prefix}{near}?" if near else f"{otherwise} {', '.join(prefix + each for each in known)}"


def nearest(name: str, known: Collection[str]) -> str | None:
    """Returns the name that is spelled most like an unknown one; of dotted names the last part may be enough.

    `epochs` and `trian.epochs` are near `train.epochs`. None where nothing is near.
    """
    last = name.rpartition(".")[2]
    same = [each for each in known if each.rpartition(".")[2] == last]
    if same:
        return (difflib.get_close_matches(name, same, n=1) or same)[0]
    # Names of one group are alike by that alone.
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.8 if "." in name else 0.6):
        return near[0]
    ends = {each.rpartition(".")[2]: each for each in reversed(list(known))}
    near = difflib.get_close_matches(last, ends, n=1, cutoff=0.75)
    return ends[near[0]] if near else None


def not_one_of(name: str, value: object, allowed: Collection[str]) -> str:
    """Returns the line for a choice that does not exist; with what was meant, if that can be guessed."""
    return f"{name}={value!r} is not one of {', '.join(allowed)}{meant(value, allowed)}"


def meant(value: object, allowed: Collection[str]) -> str:
    """Returns `; did you mean meld?`, to end a message about a choice that does not exist; "" where nothing is near."""
    near = nearest(str(value), allowed)
    return f"; did you mean {near}?" if near else ""


def require(condition: bool, message: str) -> None:
    """Raises InputError with the message unless the condition holds."""
    if not condition:
        raise InputError(message)


def require_one_of(name: str, value: str, allowed: Collection[str]) -> None:
    """Raises InputError for a choice that there is not."""
    require(value in allowed, not_one_of(name, value, allowed))
