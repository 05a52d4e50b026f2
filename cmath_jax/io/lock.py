"""The lock of a folder: one process at a time is at work in it."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from cmath_jax.io.files import made_folders, remove_empty
from cmath_jax.io.waiting import announced, duration

LOCK = ".lock"


class FolderLock:
    """A lock of a folder, which is made where it is not there. The lock goes with the process, however that ends.

    Raises:
      BlockingIOError: on `acquire` without waiting, if another process holds it.
      OSError: the folder cannot be made, or its file system has no locks.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Path] = []
        self._found: frozenset[str] = frozenset()  # names that were in the folder before
        self._file: IO[str] | None = None

    def acquire(self, wait: bool) -> None:
        """Takes the lock; says after a while that it waits for it."""
        while self._file is None:
            self._made += [folder for folder in made_folders(self._folder) if folder not in self._made]
            try:
                self._found = frozenset(os.listdir(self._folder))
                file = open(self._folder / LOCK, "a")  # noqa: SIM115 - the lock is held for longer than a block
            except FileNotFoundError:
                continue  # the folder went with a process that had failed
            try:
                self._lock(file, wait)
                if _is_named(file, self._folder / LOCK):
                    self._file = file
            finally:
                if self._file is None:
                    file.close()

    def _lock(self, file: IO[str], wait: bool) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            with announced(
                lambda seconds: f"waiting for another process that is at work in {self._folder} ({duration(seconds)})"
            ):
                fcntl.flock(file, fcntl.LOCK_EX)

    def release(self) -> None:
        """Releases the lock, and leaves the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def release_without_trace(self, is_trace: Callable[[Path], bool]) -> None:
        """Releases the lock, and removes the folder if it was made here and holds nothing but traces.

        In a folder that was there before only the lock goes, where nothing else has come into it.

        Args:
          is_trace: of something in the folder, other than the lock: whether nobody will miss it.
        """
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            left = [path for path in self._folder.iterdir() if path.name != LOCK]
            ours = Path(os.path.realpath(self._folder)) in self._made
            if not ours and LOCK not in self._found and {path.name for path in left} <= self._found:
                (self._folder / LOCK).unlink()
            if ours and all(map(is_trace, left)):
                for path in left:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                (self._folder / LOCK).unlink()
                remove_empty(self._made)
        self.release()


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder for the block, after whoever holds it; of the lock nothing is left. Raises as `FolderLock`."""
    lock = FolderLock(folder)
    lock.acquire(wait=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()  # before it is let go: whoever waits for it sees that it is not there any more
        lock.release()


def _is_named(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one that has the name now: its holder may have removed it, and another made one."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
