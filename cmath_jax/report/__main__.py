"""The command line: `python -m cmath_jax.report DIR [DIR ...] [-o FILE]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cmath_jax.errors import InputError
from cmath_jax.report import write_report


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help says more")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    parser = _Parser(prog="python -m cmath_jax.report", description="One HTML page of runs and sweeps.")
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a run folder or a sweep folder")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="the page; default DIR/report.html for one folder, report.html here for several",
    )
    try:
        options = parser.parse_args(arguments)
        page = write_report(options.folders, options.output)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"report: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
