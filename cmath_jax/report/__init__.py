"""The report of runs and sweeps: one HTML page that opens offline, and its figures and tables as files.

    python -m cmath_jax.report DIR [DIR ...] [-o FILE]

It reads folders only. Neither a corpus nor JAX is needed.
"""

from collections.abc import Sequence
from pathlib import Path


def write_report(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Writes the page of the given run and sweep folders, and a folder `figures` beside it.

    Args:
      folders: run folders, sweep folders or both; they are merged.
      output: the page; by default `report.html` in the folder if there is one, in the current folder if there are more.

    Returns:
      The path of the page.

    Raises:
      InputError: for a folder that is not one of a finished run or sweep, and a page that cannot be written.
    """
    # Only now: drawing needs libraries that take a second to import.
    from cmath_jax.report.page import write

    return write(folders, output)
