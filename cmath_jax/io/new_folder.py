"""A folder of results that is whole or not there."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cmath_jax.errors import InputError, reason
from cmath_jax.io.files import made_folders, remove_empty


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder beside it to write into, which gets its name once all is written, and goes where something fails.

    Raises:
      InputError: the folder is there and not empty, or cannot be written.
    """
    try:
        folder = Path(os.path.realpath(folder))  # what a link leads to is made, not the link
        # Both cannot be made anew: the one has no name, and whoever is in the other would lose the ground.
        if not folder.name or folder == Path.cwd():
            raise InputError(f"{folder} is there already: name a new folder")
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} is there already, and is not empty: name a new folder")
        made = made_folders(partial)
        try:
            yield partial
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            remove_empty([above for above in made if above != partial])
            raise
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {reason(error)}") from error
