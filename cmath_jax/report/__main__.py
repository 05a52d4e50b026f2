"""The command line: `python -m cmath_jax.report DIR [DIR ...] [-o FILE]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cmath_jax.io.command import Parser, answer, tell
from cmath_jax.report import write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    return answer(lambda: _report(arguments))


def _report(arguments: Sequence[str] | None) -> None:
    parser = Parser(prog="python -m cmath_jax.report", description="One HTML page of runs and sweeps.")
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a run folder or a sweep folder")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="the page; default DIR/report.html for one folder, report.html here for several",
    )
    options = parser.parse_args(arguments)
    tell(f"report: {write_report(options.folders, options.output)}")


if __name__ == "__main__":
    sys.exit(main())
