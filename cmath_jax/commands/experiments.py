"""The experiments that come with the project, by name: `--config meld` is the file experiments/meld.py."""

import ast
from pathlib import Path

from cmath_jax.errors import InputError, meant

_PACKAGE = Path(__file__).resolve().parents[1]
# In the package where it is installed (setup.py puts it there), and beside it in the project's folder.
_FOLDERS = (_PACKAGE / "installed" / "experiments", _PACKAGE.parent / "experiments")


def experiments() -> dict[str, Path]:
    """Returns the files of the experiments by their names; none where only the package was copied."""
    folder = next((folder for folder in _FOLDERS if (folder / "meld.py").is_file()), None)
    return {path.stem: path for path in sorted(folder.glob("*.py"))} if folder else {}


def listed() -> list[str]:
    """Returns a line for each experiment: its name, and the first line of its docstring."""
    found = experiments()
    width = max(map(len, found), default=0) + 2
    return [f"  {name:<{width}}{_first_line(path)}" for name, path in found.items()]


def path_of(given: str) -> str:
    """Returns the path of the experiment that a name stands for; a path of anything that exists stays.

    Raises InputError where there is neither.
    """
    found = experiments()
    if given in found and not Path(given).is_file():
        return str(found[given])
    if not Path(given).exists():
        near, others = meant(Path(given).stem, found), f"; there are {', '.join(found)}" if found else ""
        raise InputError(f"--config {given}: there is no such file{near or others}")
    return given


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
