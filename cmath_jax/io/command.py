"""The parts that all command lines have in common: how they read options, and how they end.

`answer` runs a command and turns whatever ends it into a readable line and an exit code. What is neither the user's
fault nor the system's is ours: it keeps its traceback.
"""

import argparse
import contextlib
import errno
import io
import os
import re
import select
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TextIO

from cmath_jax.errors import (
    FailedError,
    InputError,
    InputWarning,
    Terminated,
    doing,
    is_of_machine,
    meant,
    nearest,
    readable,
)

_standard_lines = warnings.formatwarning

DONE, FAILED, BAD_INPUT, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141  # the last two: 128 + SIGINT, 128 + SIGPIPE
INTERRUPTION = "interrupted; the same command starts again, or goes on with what is kept"
# What another name, or another right, would have avoided; anything else is a failure of the machine.
OF_NAMES = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS),
}


def answer(
    command: Callable[[], int | None], interruption: str = INTERRUPTION, spellings: Mapping[str, str] | None = None
) -> int:
    """Runs a command and returns its exit code; what went wrong is one line on standard error.

    0 is done, or stopped with everything saved; 1 is a failure, of the machine or of training; 2 is input that cannot
    be used; 130 is interrupted. 141 says that nobody reads the output any more, as after `| head -1`, without a line.

    Args:
      interruption: the line for Ctrl-C.
      spellings: the name of an option in messages -> as this command line spells it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no ü is no reason to fail
    told, warnings.formatwarning = warnings.formatwarning, _short_line
    try:
        return _ended(command, interruption, spellings or {})
    finally:
        warnings.formatwarning = told
        for stream in (sys.stdout, sys.stderr):
            _let_go(stream)


def _ended(command: Callable[[], int | None], interruption: str, spellings: Mapping[str, str]) -> int:
    try:
        try:
            code = command() or DONE
        except SystemExit:  # the end of --help
            tell()
            raise
        tell()  # what is left in the buffer, or a full disk would show when nobody looks any more
        return code
    except InputError as error:
        return _say(f"error: {respelled(str(error), spellings)}", FAILED if is_of_machine(error) else BAD_INPUT)
    except FailedError as error:
        return _say(f"error: {respelled(str(error), spellings)}", FAILED)
    except Terminated as stopped:
        return _say(f"{stopped}. The same command goes on from there", DONE)
    except KeyboardInterrupt:
        return _say(interruption, INTERRUPTED)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and (_unread(sys.stdout) or _unread(sys.stderr)):
            return UNREAD
        return _say(f"error: {_place(error)}", BAD_INPUT if error.errno in OF_NAMES else FAILED)
    except MemoryError as error:
        told = f" ({error})" if str(error) else ""
        return _say(f"error: the memory of this machine is not enough{told}", FAILED)
    except RuntimeError as error:
        # JAX's own class is not named here: to import it would take seconds, of commands that do without.
        if type(error).__name__ not in ("JaxRuntimeError", "XlaRuntimeError") or "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _say(f"error: the memory of a device is not enough ({str(error).splitlines()[0]})", FAILED)


def _short_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Returns what is printed of a warning: of an `InputWarning` one line, without its place in the program."""
    if issubclass(category, InputWarning):
        return f"warning: {' '.join(str(message).split())}\n"
    return _standard_lines(message, category, filename, lineno, line)


def tell(text: str | None = None) -> None:
    """Writes a text and a line feed to standard output, at once. Raises OSError, with that name."""
    with doing("writing to", "standard output"):
        if text is not None:
            print(text)
        if sys.stdout is not None:
            sys.stdout.flush()


def _say(line: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
    return code


def _place(error: OSError) -> str:
    """Returns the line of a system error; where nothing names a file, the place in our code is better than none."""
    told = readable(error)
    if error.filename is not None or hasattr(error, "__notes__"):
        return told
    ours, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        if name.startswith("cmath_jax.") and name != __name__:
            ours = f" (in {name}.{trace.tb_frame.f_code.co_name})"
        trace = trace.tb_next
    return told + ours


def _unread(stream: TextIO | None) -> bool:
    """Whether the other end of a pipe is closed. The system knows; a write that failed leaves no mark in Python."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no stream, or one of a test
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)  # type: ignore[union-attr]
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return False


def _fails(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False


def _let_go(stream: TextIO | None) -> None:
    """Drops what a stream cannot write, or the end of the process would complain of it once more."""
    if not isinstance(stream, io.TextIOWrapper) or not _fails(stream):
        return
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def respelled(message: str, spellings: Mapping[str, str]) -> str:
    """Replaces the names of options in a message by those of a command line.

    Names inside of paths and words stay, and those in double quotes, which are fields of JSON.
    """
    names = sorted(spellings, key=len, reverse=True)
    if not names:
        return message
    # A name with a dot or an underscore is an option wherever it stands, a plain word only before a value or a question
    # mark.
    told = "|".join(re.escape(name) if re.search(r"[._]", name) else re.escape(name) + r"(?=[=?])" for name in names)
    return re.sub(rf'(?<![\w./"-])(?:{told})(?![\w/]|\.\w)', lambda found: spellings[found[0]], message)


class Parser(argparse.ArgumentParser):
    """A parser that raises InputError for a wrong argument, so that all errors look alike, and says what was meant."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses arguments as `argparse` does, but refuses any that are left over."""
        self._given = sys.argv[1:] if args is None else list(args)
        options, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return options, left

    def error(self, message: str) -> NoReturn:
        # An option that is misspelled comes first: that another one is missing may follow from it.
        for unknown in self._unknown():
            near = nearest(unknown.lstrip("-"), [option.lstrip("-") for option in self._option_string_actions])
            hint = f"did you mean --{near}?" if near else "--help says more"
            raise InputError(f"unrecognized arguments: {unknown}; {hint}")
        raise InputError(f"{message}; --help says more")

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:  # argparse does not mind if nobody gets it
            tell(message.rstrip("\n"))

    def _unknown(self) -> list[str]:
        """Returns the given options that this parser does not know; those of a command are its own affair."""
        if self._subparsers is not None:
            return []
        given = self._given[: self._given.index("--")] if "--" in self._given else self._given
        names = [argument.partition("=")[0] for argument in given if argument.startswith("--")]
        known = self._option_string_actions
        return [name for name in names if not any(option.startswith(name) for option in known)]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            told = f"invalid choice: {str(value)!r} (choose from {', '.join(choices)}){meant(value, choices)}"
            raise argparse.ArgumentError(action, told)
