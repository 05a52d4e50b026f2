"""Files and folders that are whole or not there, however the writing ends."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmath_jax.errors import InputError, readable
from cmath_jax.io import whole
from cmath_jax.io.whole import is_partial, new_folder, remove_partials, whole_file, whole_folder, write_whole

# Kills a process before each call into the system by which it writes, one after the other, and looks what is there.
KILLER = """
import os, shutil, signal, sys
from pathlib import Path
from cmath_jax.io import whole

root, kind = Path(sys.argv[1]), sys.argv[2]
path = root / "folder" / "it"
old = {"file": "old text", "folder": {"a": "old", "c": "old"}, "new": None}[kind]
new = "new text" if kind == "file" else {"a": "new", "b": "new"}

def prepare():
    shutil.rmtree(path.parent, ignore_errors=True)
    if kind == "file":
        path.parent.mkdir()
        path.write_text(old)
    elif kind == "folder":
        path.mkdir(parents=True)
        for name, text in old.items():
            (path / name).write_text(text)

def write():
    if kind == "file":
        with whole.whole_file(path, parents=True) as file:
            file.write("new ")
            file.flush()
            file.write("text")
    else:
        with (whole.whole_folder if kind == "folder" else whole.new_folder)(path) as partial:
            for name in "ab":
                (partial / name).write_text("new")

def content():
    if path.is_dir():
        return {p.name: p.read_text() for p in path.iterdir()}
    return path.read_text() if path.exists() else None

def killed_at(moment):
    process = os.fork()
    if process:
        return os.WIFSIGNALED(os.waitpid(process, 0)[1])
    left = moment
    def watch(frame, event, function):
        nonlocal left
        its = getattr(function, "__module__", None) or type(getattr(function, "__self__", None)).__module__
        left -= event == "c_call" and its in ("posix", "_io", "_ctypes", "ctypes")
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(watch)
    write()
    sys.setprofile(None)
    os._exit(0)

seen, killed = [], True
while killed:
    prepare()
    killed = killed_at(len(seen) + 1)
    seen.append(content())
    whole.remove_partials(path)
    assert not path.parent.exists() or {*path.parent.iterdir()} <= {path}
assert len(seen) > 10 and all(found in (old, new) for found in seen), seen
first = seen.index(new)
assert seen == [old] * first + [new] * (len(seen) - first) and 5 < first < len(seen) - 1, seen
"""


@pytest.mark.parametrize("kind", ["file", "folder", "new"])
def test_whoever_is_killed_leaves_the_old_or_the_new(kind: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLER, tmp_path, kind], check=True, timeout=300)


def tree(folder: Path) -> dict[str, str | None]:
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else None for p in folder.rglob("*")}


def write_half(path: Path, text: str, fails: BaseException) -> None:
    with whole_file(path, parents=True) as file:
        file.write(text)
        file.flush()
        raise fails


def fill_half(folder: Callable[[Path], AbstractContextManager[Path]]) -> Callable[[Path, str, BaseException], None]:
    def write(path: Path, text: str, fails: BaseException) -> None:
        with folder(path) as partial:
            (partial / "a").mkdir()
            (partial / "a" / "b").write_text(text)
            raise fails

    return write


FAILURES = [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(), ValueError("a bug")]
WAYS: list[tuple[str, Any]] = [
    ("file", write_half),
    ("folder", fill_half(whole_folder)),
    ("absent", write_half),
    ("absent", fill_half(whole_folder)),
    ("absent", fill_half(new_folder)),
]


@settings(deadline=None)
@given(st.sampled_from(WAYS), st.text(st.characters(codec="utf-8")), st.sampled_from(FAILURES), st.booleans())
def test_what_fails_leaves_everything_as_it_was(
    way: tuple[str, Any], text: str, fails: BaseException, deep: bool
) -> None:
    there, write = way
    with TemporaryDirectory() as folder:
        path = Path(folder, *(("x", "y", "it") if deep else ("it",)))
        if there != "absent":
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, "old") if there == "file" else (path / "c").mkdir(parents=True)
        before = tree(Path(folder))
        with pytest.raises((type(fails), InputError)):
            write(path, text, fails)
        assert tree(Path(folder)) == before


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r")), min_size=1, max_size=3))
def test_the_last_text_is_there_and_nothing_else(texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "it"
        for text in texts:
            write_whole(path, text)
            assert tree(Path(folder)) == {"it": text}


def test_what_a_link_leads_to_is_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "f", "one")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    write_whole(tmp_path / "link", "three")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "f").read_text() == "three"


def test_two_that_write_at_once_do_not_meet(tmp_path: Path) -> None:
    with whole_file(tmp_path / "f") as one, whole_file(tmp_path / "f") as other:
        one.write("one")
        other.write("other")
    assert tree(tmp_path) == {"f": "one"}


@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_takes_the_place_of_another(swaps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not swaps:  # as on a file system that cannot
        monkeypatch.setattr(whole.ctypes, "CDLL", lambda _: None)
    for text in ("one", "two", "three"):
        with whole_folder(tmp_path / "it") as partial:
            (partial / text).write_text(text)
        assert tree(tmp_path) == {"it": None, f"it/{text}": text}


def test_what_was_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".it.0123abcd.partial" / "x").mkdir(parents=True)
    (tmp_path / ".it.4567.partial").touch()
    others = {".other.4567.partial", "it", "it.partial"}
    for name in others:
        (tmp_path / name).touch()
    remove_partials(tmp_path / "it")
    assert set(os.listdir(tmp_path)) == others
    assert [name for name in others if is_partial(Path(name))] == [".other.4567.partial"]


def test_a_message_names_what_was_given(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as refused:
        write_whole(tmp_path / "none" / "f", "x")
    assert readable(refused.value) == f"writing {tmp_path}/none/f: No such file or directory"
    with pytest.raises(OSError, match="No such file") as refused, whole_folder(tmp_path / "d") as partial:
        (partial / "none" / "f").write_text("x")
    assert readable(refused.value) == f"writing {tmp_path}/d: No such file or directory"


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_whole(Path("/dev/null"), "x")
    assert not Path("/dev/null").is_file()
    with pytest.raises(OSError, match="No space left") as full:
        write_whole(Path("/dev/full"), "x")
    assert full.value.__notes__ == ["writing /dev/full"]


def test_a_new_folder_leaves_nothing_above_it_either(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_folder(tmp_path / "a" / "b" / "c"):
        raise KeyError
    assert not [*tmp_path.iterdir()]


def test_a_new_folder_takes_no_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: Directory not empty"), new_folder(tmp_path / "a"):
        (tmp_path / "a" / "of another").mkdir(parents=True)
    with pytest.raises(InputError, match="is there already, and is not empty"), new_folder(tmp_path / "a"):
        pass
    assert tree(tmp_path) == {"a": None, "a/of another": None}


def test_a_new_folder_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with new_folder(tmp_path / "link") as partial:
        (partial / "x").touch()
    assert (tmp_path / "link").is_symlink() and os.listdir(tmp_path / "empty") == ["x"]
