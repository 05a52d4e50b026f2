"""Pickles that ask for anything but data are refused by the name of what they ask for, and nothing of them runs."""

import copyreg
import os
import pickle
import struct
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmath_jax.data.sources import safe_pickle
from cmath_jax.errors import InputError


class Call:
    """Pickled, it becomes a call."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value.encode())]) + value.encode()


def stack_global(module: str, name: str, *args: str) -> bytes:
    """Protocol 4: a global by STACK_GLOBAL, called on strings."""
    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + b"".join(map(text, args)) + b"tR."


def hostile(sentinel: str) -> dict[str, tuple[bytes, str]]:
    """Name -> (a pickle that would make the folder `sentinel`, or prepares for it; what the refusal must name)."""
    mkdir = f"mkdir {sentinel}"
    system = f"{os.system.__module__}.system"
    code = f"__import__('os').mkdir({sentinel!r})"
    gadget = Call(os.system, mkdir)
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00V8\x89\x88\x87R"
    object_array = np.empty(1, dtype=object)
    object_array[0] = gadget
    return {
        "reduce": (pickle.dumps(gadget), system),
        "protocol 0": (b"cos\nsystem\n(S'" + mkdir.encode() + b"'\ntR.", "os.system"),
        "inst": (b"(S'" + mkdir.encode() + b"'\nios\nsystem\n.", "os.system"),
        "obj": (b"(cos\nsystem\nS'" + mkdir.encode() + b"'\no.", "os.system"),
        "stack_global": (stack_global("os", "system", mkdir), "os.system"),
        "eval": (pickle.dumps(Call(eval, code)), "builtins.eval"),
        "exec": (stack_global("builtins", "exec", code), "builtins.exec"),
        "python 2 eval": (b'c__builtin__\neval\n(S"' + code.encode() + b'"\ntR.', "__builtin__.eval"),
        "import": (stack_global("builtins", "__import__", "os"), "builtins.__import__"),
        "getattr": (stack_global("builtins", "getattr", "a", "b"), "builtins.getattr"),
        "dotted function": (stack_global("numpy", "f2py.os.system", mkdir), "numpy.f2py.os.system"),
        "dotted class": (stack_global("builtins", "set.__class__.mro", "a"), "builtins.set.__class__.mro"),
        "dotted module": (stack_global("numpy.core.multiarray", "scalar.__globals__"), "scalar.__globals__"),
        "own module": (
            stack_global("cmath_jax.data.sources.safe_pickle", "load", "x"),
            "cmath_jax.data.sources.safe_pickle.load",
        ),
        "numpy.load": (stack_global("numpy", "load", "x"), "numpy.load"),
        "numpy.testing": (stack_global("numpy.testing._private.utils", "runstring", code), "numpy.testing._private"),
        "numpy.f2py": (stack_global("numpy.f2py.crackfortran", "myeval", code), "numpy.f2py.crackfortran.myeval"),
        "multiarray": (stack_global("numpy.core.multiarray", "fromfile", "x"), "numpy.core.multiarray.fromfile"),
        "codec": (stack_global("_codecs", "encode", "x", "rot13"), "_codecs.encode to 'rot13'"),
        "codec lookup": (stack_global("_codecs", "lookup", "x"), "_codecs.lookup"),
        "defaultdict": (pickle.dumps(defaultdict(list)), "collections.defaultdict"),
        "pathlib": (pickle.dumps(Path("x"), 4), "pathlib"),
        "object array": (pickle.dumps(object_array, 4), "numpy.dtype('O8')"),
        "object dtype": (pickle.dumps(np.array([None, 1]), 4), "numpy.dtype('O8')"),
        "structured dtype": (pickle.dumps(np.zeros(2, "f4,i2"), 4), "numpy.dtype('V6')"),
        "void dtype": (b"\x80\x02" + dtype + b".", "numpy.dtype('V8')"),
        "datetime": (pickle.dumps(np.zeros(2, "M8[s]"), 4), "numpy.dtype('M8')"),
        "dtype of text": (stack_global("numpy", "dtype", "f4,O"), "numpy.dtype('f4,O')"),
        "in a legitimate tuple": (pickle.dumps(({0: ["a"]}, {0: [np.zeros(3)]}, gadget)), system),
        "as a key": (pickle.dumps({0: [1], gadget: 2}), system),
        "persistent id": (b"Px\n.", "PERSID"),
        "binary persistent id": (b"\x80\x02K\x01Q.", "BINPERSID"),
        "buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
        "new object": (b"\x80\x02c__builtin__\nset\n)\x81.", "NEWOBJ"),
        "number of 300 bytes": (pickle.dumps(1 << 2400), "LONG4"),
        "state of a set": (b"\x80\x02c__builtin__\nset\n)R}U\x01aK\x01sb.", "state of a set"),
        "state of a function": (b"\x80\x02c__builtin__\nset\n}U\x01aK\x01sb.", "state of a function"),
    }


@pytest.mark.parametrize("name", hostile("x"))
def test_hostile_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    sentinel = tmp_path / "sentinel"
    data, named = hostile(str(sentinel))[name]
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        safe_pickle.load(path)
    assert str(path) in str(error.value) and named in str(error.value) and "refused" in str(error.value)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "name", ["reduce", "protocol 0", "inst", "obj", "stack_global", "eval", "object array", "as a key"]
)
def test_the_gadgets_do_work_on_an_ordinary_unpickler(tmp_path: Path, name: str) -> None:
    sentinel = tmp_path / "sentinel"
    pickle.loads(hostile(str(sentinel))[name][0])
    assert sentinel.exists()


def test_extensions_are_refused_even_when_registered_and_cached(tmp_path: Path) -> None:
    copyreg.add_extension("os", "getcwd", 240)
    try:
        data = b"\x80\x02\x82\xf0)R."
        assert pickle.loads(data) == os.getcwd()  # from here on it is in the cache, past every `find_class`
        path = tmp_path / "x.pkl"
        path.write_bytes(data)
        with pytest.raises(InputError, match="EXT1"):
            safe_pickle.load(path)
    finally:
        copyreg.remove_extension("os", "getcwd", 240)


def array(shape: bytes, data: bytes, dtype: bytes = b"f8", subtype: bytes = b"cnumpy\nndarray\n") -> bytes:
    """An array whose shape, dtype, content and subtype are free, in protocol 2."""
    size = struct.pack("<i", len(data))
    return b"".join(
        [
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n" + subtype + b"K\x00\x85U\x01b\x87R",
            b"(K\x01" + shape + b"cnumpy\ndtype\nU\x02" + dtype + b"K\x00K\x01\x87R",
            b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + size + data + b"tb.",
        ]
    )


BAD_ARRAYS = {
    "more than its bytes": (array(b"K\x02\x85", b"a" * 8), "shape (2,) and type float64 from 8 bytes"),
    "fewer than its bytes": (array(b"K\x01\x85", b"a" * 16), "shape (1,)"),
    "giant": (array(b"\x8a\x06\xff\xff\xff\xff\xff\x7f\x85", b"a" * 8), "140737488355327"),
    "product overflows": (array(b"\x8a\x05\x00\x00\x00\x00\x01\x8a\x05\x00\x00\x00\x00\x01\x86", b""), "4294967296"),
    "negative": (array(b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", b"a" * 8), "shape (-1, -1)"),
    "shape of text": (array(b"U\x01a\x85", b"a" * 8), "shape ('a',)"),
    "shape of a list": (array(b"]", b"a" * 8), "shape []"),
    "object": (array(b"K\x01\x85", b"a" * 8, dtype=b"O8"), "numpy.dtype('O8')"),
    "text that is none": (array(b"K\x01\x85", b"\xff" * 4, dtype=b"U1"), "bytes that are no text"),
    "subtype set": (array(b"K\x01\x85", b"a" * 8, subtype=b"c__builtin__\nset\n"), "_reconstruct"),
    "subtype memmap": (array(b"K\x01\x85", b"a" * 8, subtype=b"cnumpy\nmemmap\n"), "numpy.memmap"),
    "fields": (b"\x80\x02cnumpy\ndtype\nU\x02f8\x85R(K\x03U\x01<N(U\x01at}K\x08K\x01K\x00tb.", "dtype"),
    "no dtype": (b"\x80\x02cnumpy.core.multiarray\nscalar\nNU\x01a\x86R.", "NoneType"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_lie_are_refused(tmp_path: Path, name: str) -> None:
    data, named = BAD_ARRAYS[name]
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        safe_pickle.load(path)
    assert named in str(error.value)


def test_the_array_writer_of_these_tests_writes_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(array(b"K\x02\x85", np.array([1.0, 2.0]).tobytes()))
    assert safe_pickle.load(path).tolist() == [1, 2]


CLAIMS = {  # of sizes that the file does not have
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**31) + b"N.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**31) + b"a.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 2**31) + b"a.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**31) + b"a.",
    "call of ndarray": b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R.",
}


@pytest.mark.parametrize("name", CLAIMS)
def test_no_memory_is_reserved_for_a_mere_claim(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(CLAIMS[name])
    tracemalloc.start()
    try:
        if name in ("memo", "frame"):  # which are well-formed
            assert safe_pickle.load(path) is None
        else:
            with pytest.raises(InputError, match="not a pickle"):
                safe_pickle.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


BOMBS = {
    "copies of copies": (
        b"\x80\x02](" + b"N" * 10_000 + b"eq\x00](" + b"c__builtin__\nlist\nh\x00\x85R" * 10_000 + b"e.",
        "far more data than it holds",
    ),
    "deep keys": (b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s.", "a tuple as the key"),
    "deep members": (b"\x80\x02c__builtin__\nset\n])" + b"\x85" * 300_000 + b"a\x85R.", "a tuple as the key"),
    "deep pairs": (b"\x80\x02c__builtin__\ndict\n])" + b"\x85" * 300_000 + b"N\x86a\x85R.", "a tuple as the key"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(tmp_path: Path, name: str) -> None:
    data, named = BOMBS[name]
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(InputError, match=named):
        safe_pickle.load(path)
