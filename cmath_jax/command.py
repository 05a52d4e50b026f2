"""What the command lines `python -m cmath_jax.NAME` have in common: how they answer input that cannot be used."""

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from cmath_jax.errors import InputError, InputWarning

_standard_lines = warnings.formatwarning


class Parser(argparse.ArgumentParser):
    """One that raises InputError for a wrong argument, so that all errors look alike."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help says more")


def shorten_warnings() -> None:
    """Lets an InputWarning be printed as a line, without its place in the program."""
    warnings.formatwarning = _line


def _line(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    short = issubclass(category, InputWarning)
    return f"warning: {message}\n" if short else _standard_lines(message, category, filename, lineno, line)


def answer(command: Callable[[], object]) -> int:
    """Runs a command and returns its exit code: 0 done, 2 bad input, with a line on standard error, 130 interrupted."""
    shorten_warnings()
    try:
        command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command starts again, or goes on with what is kept", file=sys.stderr)
        return 130
    return 0
