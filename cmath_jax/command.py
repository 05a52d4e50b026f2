"""What the command lines `python -m cmath_jax.NAME` have in common: how they answer input that cannot be used."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from cmath_jax.errors import InputError


class Parser(argparse.ArgumentParser):
    """One that raises InputError for a wrong argument, so that all errors look alike."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help says more")


def answer(command: Callable[[], object]) -> int:
    """Runs a command and returns its exit code: 0 done, 2 bad input, with a line on standard error, 130 interrupted."""
    try:
        command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command starts again, or goes on with what is kept", file=sys.stderr)
        return 130
    return 0
