"""The console command: `cmath-jax COMMAND ...`, also `python -m cmath_jax COMMAND ...`.

A command is imported only when it is called, so that a slip of the pen is answered at once.
"""

import importlib
import sys
from collections.abc import Sequence

from cmath_jax import __version__
from cmath_jax.errors import InputError, meant
from cmath_jax.io.command import answer, tell

# The name of a command -> the module of its `main`, and what it does.
COMMANDS = {
    "train": ("cmath_jax.commands.train", "trains what an experiment file describes, as python launch.py does"),
    "predict": ("cmath_jax.predict", "labels the utterances of conversations with a trained model"),
    "export": ("cmath_jax.export", "writes a trained model as one program that runs with JAX alone"),
    "data": ("cmath_jax.data.__main__", "checks conversations of one's own, and converts data sets"),
    "extract": ("cmath_jax.extract.__main__", "computes features from text, sound and video"),
    "serve": ("cmath_jax.serve.__main__", "serves a trained model: a page to try it, and a JSON API"),
    "report": ("cmath_jax.report.__main__", "writes one HTML page of runs and sweeps"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names. Returns its exit code, or 2 if there is no such command."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in COMMANDS:
        return importlib.import_module(COMMANDS[name][0]).main(rest)
    return answer(lambda: _without_command(name))


def _without_command(name: str) -> None:
    if name == "--version":
        tell(f"cmath_jax {__version__}")
        return
    if name not in ("--help", "-h"):
        raise InputError(f"there is no command {name!r}{meant(name, COMMANDS)}; cmath-jax --help lists them")
    lines = [f"  {command:<9}{what}" for command, (_, what) in COMMANDS.items()]
    tell("\n".join(["usage: cmath-jax COMMAND ...", "", *lines, "", "cmath-jax COMMAND --help says more of each"]))


if __name__ == "__main__":
    sys.exit(main())
