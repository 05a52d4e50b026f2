"""The command line: `python -m cmath_jax.export --checkpoint DIR -o FOLDER`."""

import sys
from collections.abc import Sequence

from cmath_jax.io.command import Parser, answer, tell


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    return answer(lambda: _export(arguments))


def _export(arguments: Sequence[str] | None) -> None:
    parser = Parser(
        prog="python -m cmath_jax.export",
        description="A trained model as one program (StableHLO), which runs with JAX alone, on CPU, GPU and TPU.",
    )
    parser.add_argument(
        *("--checkpoint", "--model"),
        metavar="DIR",
        required=True,
        help="the folder of a finished run, or USER/NAME of a model on the Hugging Face hub",
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="a new folder")
    options = parser.parse_args(arguments)
    from cmath_jax.prediction.export import export  # only now, so that a slip of the pen is answered at once
    from cmath_jax.training.compiler import check_platform

    check_platform()
    folder = export(options.checkpoint, options.output)
    tell(f"exported: {folder} (python {folder / 'example.py'} FEATURES.npz runs it)")


if __name__ == "__main__":
    sys.exit(main())
