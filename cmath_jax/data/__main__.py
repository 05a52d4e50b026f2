"""The command line: `python -m cmath_jax.data check DIR` and `python -m cmath_jax.data convert SOURCE TARGET`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmath_jax.errors import doing
from cmath_jax.io.command import Parser, answer, tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    spellings = {"check_counts": "--check-counts", "text_layer": "--text-layer"}
    return answer(lambda: _command(arguments), spellings=spellings)


def _command(arguments: Sequence[str] | None) -> None:
    parser = Parser(prog="python -m cmath_jax.data", description="Conversations of one's own; see docs/data.md.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="is a folder or a file sound, and what is in it?")
    check.add_argument("source", metavar="DIR", type=Path, help="a folder of conversations, or a published .pkl file")
    convert = commands.add_parser("convert", help="from one form of a data set to another")
    convert.add_argument(
        "source",
        metavar="SOURCE",
        type=Path,
        help="a published .pkl file, a folder with MELD's train.csv, dev.csv, test.csv (or train_sent_emo.csv and so "
        "on), or a folder of conversations",
    )
    convert.add_argument(
        "target", metavar="TARGET", type=Path, help="a new folder of conversations, or a new file that ends in .pkl"
    )
    convert.add_argument("--clips", metavar="DIR", type=Path, help="for MELD's CSV files: where MELD.Raw is unpacked")
    for command in (check, convert):
        command.add_argument(
            "--text-layer",
            metavar="N",
            type=int,
            choices=range(5),
            default=1,
            help="which text of a published file with four; default 1, the last layer of its encoder; 0: all four",
        )
        command.add_argument(
            "--check-counts",
            choices=("error", "warn"),
            default="error",
            help="warn accepts what is called meld or iemocap and has not the counts of that data set",
        )
    options = vars(parser.parse_args(arguments))
    with doing("reading", options["source"]):
        told = _run(options.pop("command"), options)
    tell(told)


def _run(command: str, options: dict[str, Any]) -> str:
    # Imported here, so that --help and a wrong option answer at once.
    if command == "check":
        from cmath_jax.data.tools.check import check

        return check(options.pop("source"), **options)
    from cmath_jax.data.tools.convert import convert

    return "\n".join(convert(**options))


if __name__ == "__main__":
    sys.exit(main())
