"""Features in .npz and .npy files: what is read, every message about what is wrong; and nothing in a file is run."""

import io
import pickle
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from own_samples import LINES, NAN, assert_equal, matrices, put

from cmath_jax.data.load import load_corpus
from cmath_jax.data.sources.own import read_own
from cmath_jax.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put(tmp_path / "mine", LINES)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "u8", "?"])
def test_any_real_type_becomes_float32(folder: Path, dtype: str) -> None:
    x_nd = np.array([[1, 0]] * 6, dtype)
    (folder / "text.npz").unlink()
    np.save(folder / "text.npy", x_nd)
    found = read_own(folder).splits["train"][0].features["t"]
    assert found.dtype == np.float32 and found.dtype.isnative
    np.testing.assert_array_equal(found, np.float32([[1, 0]] * 3))


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_in_the_order_of_the_lines(folder: Path, order: Any) -> None:
    expected = read_own(folder)
    np.save(folder / "text.npy", np.asarray(np.concatenate([*matrices(LINES).values()]), order=order))
    (folder / "text.npz").unlink()
    assert_equal(read_own(folder), expected)


def test_an_archive_may_be_compressed(folder: Path) -> None:
    expected = read_own(folder)
    np.savez_compressed(folder / "text.npz", allow_pickle=False, **matrices(LINES))
    assert_equal(read_own(folder), expected)


def test_features_twice(folder: Path) -> None:
    np.save(folder / "text.npy", np.ones((6, 2)))
    with pytest.raises(InputError, match=r"mine holds both text\.npz and text\.npy: remove one"):
        read_own(folder)


def with_a(x: Any) -> dict[str, Any]:
    return matrices(LINES) | {"a": x}


PLACE = r"text\.npz: conversation 'a' \(.*mine/conversations\.jsonl, line 1\)"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            with_a(np.ones((2, 2))),
            PLACE + r": its shape is \(2, 2\), but the conversation has 3 utterances: .* \[3, feat",
        ),
        (with_a(np.ones(3)), PLACE + r": its shape is \(3,\)"),
        (with_a(np.ones((3, 2, 1))), PLACE + r": its shape is \(3, 2, 1\)"),
        (with_a(np.ones((3, 0))), PLACE + r": its shape is \(3, 0\)"),
        (with_a(np.array("x")), PLACE + ": its type is <U1, not real numbers"),
        (with_a(np.array([["x", "y"]] * 3)), PLACE + ": its type is <U1, not real numbers"),
        (with_a(np.ones((3, 2), complex)), PLACE + ": its type is complex128, not real numbers"),
        (with_a(np.ones((3, 2), "M8[s]")), PLACE + ": its type is datetime64"),
        (with_a(np.zeros((3, 2), [("x", "f4")])), PLACE + ": its type is .*x"),
        (with_a([[1, 2], [3, NAN], [5, 6]]), PLACE + ", utterance 1: feature 1 is nan; features are finite"),
        (with_a([[1, 2], [3, 4], [np.inf, 6]]), PLACE + ", utterance 2: feature 0 is inf"),
        (with_a([[1, 2], [3, 4], [5, 1e300]]), PLACE + r", utterance 2: feature 1 is 1e\+300"),
        (
            matrices(LINES) | {"c": np.ones((2, 3))},
            r"conversation 'c' \(.*line 3\): it has 3 features, .* before have 2",
        ),
        (matrices(LINES) | {"d": np.ones((2, 2))}, r"text\.npz: its key 'd' is no id of a conversation, such as 'a'"),
        ({}, r"text\.npz: it holds no arrays"),
    ],
)
def test_arrays_that_are_wrong(folder: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(folder / "text.npz", allow_pickle=False, **arrays)
    with pytest.raises(InputError, match=message):
        read_own(folder)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((5, 2)), r"text\.npy: its shape is \(5, 2\), but the lines of conversations\.jsonl have 6 utterances"),
        (np.ones((6, 0)), r"text\.npy: its shape is \(6, 0\)"),
        (np.array(["x"] * 6), r"text\.npy: its type is <U1"),
        (
            [[1]] * 3 + [[NAN]] + [[np.inf]] * 2,
            r"text\.npy: conversation 'c' \(.*line 3\), utterance 0: feature 0 is inf",
        ),
    ],
)
def test_one_array_that_is_wrong(folder: Path, x: Any, message: str) -> None:
    (folder / "text.npz").unlink()
    np.save(folder / "text.npy", x)
    with pytest.raises(InputError, match=message):
        read_own(folder)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("form", ["npz", "npy", "pickle"])
def test_nothing_in_a_file_is_run(folder: Path, tmp_path: Path, form: str) -> None:
    bomb = np.array([[Bomb(tmp_path / "ran")] * 2] * 6, object)
    if form == "npz":
        np.savez(folder / "text.npz", **with_a(bomb[:3]))
    else:
        (folder / "text.npz").unlink()
        with open(folder / "text.npy", "wb") as file:
            np.save(file, bomb) if form == "npy" else pickle.dump(bomb, file)
    objects = "it holds Python objects, not numbers; they are never read"
    with pytest.raises(InputError, match="it cannot be read" if form == "pickle" else objects):
        read_own(folder)
    assert not (tmp_path / "ran").exists()


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"not an array",
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, 2)}", bytes(10)),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, 1000000000000000)}"),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, -2)}"),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, 2)"),
        npy(b"{'descr': 'nonsense', 'fortran_order': False, 'shape': (6, 2)}"),
        npy(b"__import__('os').abort()"),
        npy(b"(" * 5000),
    ],
)
@pytest.mark.parametrize("form", ["npz", "npy"])
def test_damaged_arrays(folder: Path, content: bytes, form: str) -> None:
    (folder / "text.npz").unlink()
    if form == "npz":
        with ZipFile(folder / "text.npz", "w") as archive:
            archive.writestr("a.npy", content)
    else:
        (folder / "text.npy").write_bytes(content)
    with pytest.raises(InputError, match=rf"text\.{form}.*: it cannot be read, write it anew: "):
        read_own(folder)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_archives_that_are_cut_off(folder: Path, share: float) -> None:
    content = (folder / "text.npz").read_bytes()
    (folder / "text.npz").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"text\.npz: it cannot be read, write it anew: BadZipFile"):
        read_own(folder)


def test_archives_with_changed_bytes(folder: Path) -> None:
    content = bytearray((folder / "text.npz").read_bytes())
    content[content.index(b"\x93NUMPY") + 130] ^= 1  # among the numbers
    (folder / "text.npz").write_bytes(content)
    with pytest.raises(InputError, match=PLACE + ": it cannot be read, write it anew: BadZipFile: Bad CRC"):
        read_own(folder)


def test_archives_that_hold_something_else(folder: Path) -> None:
    with ZipFile(folder / "text.npz", "a") as archive:
        archive.writestr("c", "not an array")
    with pytest.raises(InputError, match=r"text\.npz: its key 'c' is no id"):
        read_own(folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_with_two_arrays_of_a_conversation(folder: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((2, 2)))
    with ZipFile(folder / "text.npz", "a") as archive:
        archive.writestr("c.npy", buffer.getvalue())
    with pytest.raises(InputError, match=r"text\.npz: it holds two arrays of conversation 'c'"):
        read_own(folder)


def test_the_builder_refuses_what_reading_refuses(folder: Path, tmp_path: Path) -> None:
    np.savez(folder / "text.npz", allow_pickle=False, **with_a([[1, 2], [3, NAN], [5, 6]]))
    with pytest.raises(InputError, match=PLACE + ", utterance 1: feature 1 is nan"):
        load_corpus(str(folder), prepared_dir=tmp_path / "prepared", stream=True)
    assert not [*(tmp_path / "prepared").rglob("*.array_record*")]
