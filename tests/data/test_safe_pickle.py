"""Pickles that hold data are read as they are, and files that are no pickles are errors that say what they are."""

import contextlib
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import dump, dump_python2, python2

from cmath_jax.data.sources import safe_pickle
from cmath_jax.errors import InputError

ARRAYS = [
    np.arange(3.0),
    np.arange(6, dtype=np.float16).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    np.arange(24, dtype=np.int64).reshape(2, 3, 4).transpose(1, 2, 0),
    np.arange(16, dtype=np.uint8).reshape(4, 4)[::2],
    np.array([True, False]),
    np.array(["Ses01", "\u00e9"]),
    np.array([b"ab", b"c"]),
    np.zeros((0, 5), np.float32),
    np.arange(3, dtype=">i2"),
]
OTHERS = [
    {"a": [1, 2.5, None, True], 3: ("x", b"\xff\x00", b"")},
    {1, 2},
    frozenset("ab"),
    OrderedDict([("b", 1), ("a", 2)]),
    bytearray(b"ab"),
    np.float32(1.5),
    np.int64(-3),
    10**30,
    "caf\u00e9 \u2603",
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_data_is_read_as_it_was_written(tmp_path: Path, protocol: int) -> None:
    for array in ARRAYS:
        read = safe_pickle.load(dump(tmp_path / "x.pkl", array, protocol))
        assert type(read) is np.ndarray and read.dtype.kind == array.dtype.kind
        np.testing.assert_array_equal(read, array)
    for item in OTHERS:
        if isinstance(item, bytearray) and protocol < 5:
            continue  # asks for `builtins.bytearray`
        read = safe_pickle.load(dump(tmp_path / "x.pkl", item, protocol))
        assert type(read) is type(item) and read == item


def test_an_array_that_occurs_twice_is_one_array(tmp_path: Path) -> None:
    array = np.arange(4.0)
    one, two = safe_pickle.load(dump(tmp_path / "x.pkl", [array, array]))
    assert one is two and one.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_both_spellings_of_numpy_core(tmp_path: Path, core: bytes) -> None:
    path = tmp_path / "x.pkl"
    for item in (np.arange(300.0), np.float64(44850)):
        data = re.sub(rb"numpy\._?core", core, pickle.dumps(item, 2))
        path.write_bytes(data)
        assert safe_pickle.load(path).sum() == 44850
    assert safe_pickle._ADMITTED["numpy.core.numeric"] == safe_pickle._ADMITTED["numpy._core.numeric"]  # protocol 5


def python2_array(values: np.ndarray) -> bytes:
    """A one-dimensional float32 array as Python 2.7 writes it with protocol 2."""
    data = values.astype("<f4").tobytes()
    return b"".join(
        [
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03",
            b"(K\x01K" + bytes([len(values)]) + b"\x85cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05",
            b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(data)]) + data + b"tb.",
        ]
    )


def test_python_2(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    for values in (np.array([1.5, -2.25, 0]), np.frombuffer(b"abcdABCD", "<f4")):  # the second is ASCII throughout
        path.write_bytes(python2_array(values))
        np.testing.assert_array_equal(safe_pickle.load(path), values.astype(np.float32))
    path.write_bytes(b"(dp0\nS'caf\\xe9'\np1\nc__builtin__\nset\np2\n((lp3\nI1\naI2\natRp4\ns.")  # protocol 0
    assert safe_pickle.load(path) == {"caf\u00e9": {1, 2}}
    item = {"caf\u00e9": [np.arange(200, dtype=np.uint8), np.float32(1.5)]}
    read = safe_pickle.load(dump_python2(path, item))
    np.testing.assert_array_equal(read["caf\u00e9"][0], item["caf\u00e9"][0])
    assert read["caf\u00e9"][1] == 1.5


CP1252 = [bytes([b]).decode("cp1252") for b in range(256) if b not in b"\x81\x8d\x8f\x90\x9d"]


def protocol_0(data: bytes) -> bytes:
    """A string as Python 2 writes it by default."""
    return b"S" + repr(data).removeprefix("b").encode() + b"\np0\n."


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.sampled_from(CP1252)))
def test_strings_of_python_2_are_utf_8_or_else_cp1252(tmp_path: Path, text: str, old: str) -> None:
    data = old.encode("cp1252")
    with contextlib.suppress(UnicodeDecodeError):  # some texts in cp1252 are UTF-8 as well, and taken for it
        old = data.decode()
    item = {"k" + text: [text, data, {text}, (data,)]}  # the pickler of Python 2 has no other strings than of bytes
    for name, pickled in (("dict", python2(item)), ("0", protocol_0(text.encode())), ("old", protocol_0(data))):
        (tmp_path / name).write_bytes(pickled)
    read = safe_pickle.load(tmp_path / "dict")
    assert read == {"k" + text: [text, old, {text}, (old,)]}
    assert (safe_pickle.load(tmp_path / "0"), safe_pickle.load(tmp_path / "old")) == (text, old)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60).map(lambda data: data[: len(data) // 4 * 4]))
def test_arrays_of_python_2_keep_every_byte(tmp_path: Path, data: bytes) -> None:
    """Also those of which the bytes are UTF-8, such as those of text."""
    (tmp_path / "x.pkl").write_bytes(python2_array(np.frombuffer(data, "<f4")))
    assert safe_pickle.load(tmp_path / "x.pkl").tobytes() == data


WRONG_FILES = {
    "empty": (b"", "empty"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "HTML"),
    "zip": (b"PK\x03\x04rest", "zip"),
    "gzip": (b"\x1f\x8b\x08rest", "gzip"),
    "npy": (b"\x93NUMPY\x01\x00", ".npy"),
    "json": (b'{"a": 1}', "JSON"),
    "json list": (b'[[{"text": "hi"}]]', "JSON"),
    "text": (b"hello world", "not a pickle"),
    "unknown opcode": (b"\x80\x04\xff.", "0xff"),
    "no end": (pickle.dumps([1, 2])[:-1], "not a pickle"),
    "missing memo": (b"\x80\x02h\x07.", "not a pickle"),
    "empty stack": (b".", "not a pickle"),
    "later protocol": (b"\x80\x63N.", "not a pickle"),
    "bad text": (b"\x80\x04\x8c\x01\xff.", "not a pickle"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_what_is_not_a_pickle(tmp_path: Path, name: str) -> None:
    data, named = WRONG_FILES[name]
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        safe_pickle.load(path)
    assert named in str(error.value) and str(path) in str(error.value)


def test_a_file_truncated_anywhere_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    for protocol in (0, 5):
        data = pickle.dumps(({"a": [np.arange(3.0)]}, {1, 2}, "text", 300, 1.5), protocol)
        for size in range(0, len(data), 3):
            path.write_bytes(data[:size])
            with pytest.raises(InputError):
                safe_pickle.load(path)


def test_damaged_anywhere_never_escapes_as_another_error(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    rng = np.random.default_rng(0)
    for protocol in (0, 2, 4, 5):
        data = pickle.dumps(({"a": [np.arange(3.0), np.float32(2)]}, {1, 2}, OrderedDict(a=1), "text"), protocol)
        for _ in range(100):
            damaged = bytearray(data)
            damaged[rng.integers(len(data))] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                safe_pickle.load(path)
            except InputError as error:
                assert str(path) in str(error)


def test_paths_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file"):
        safe_pickle.load(tmp_path / "absent.pkl")
    with pytest.raises(InputError, match="directory"):
        safe_pickle.load(tmp_path)

    def denied(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(InputError, match="Permission denied"):
        safe_pickle.load(str(tmp_path / "x.pkl"))
