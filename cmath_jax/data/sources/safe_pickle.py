"""A reader for pickles from the internet: numpy arrays and plain containers come out, and nothing in the file is run.

A pickle is a program for a small stack machine. Here that machine knows only the instructions which build data, and
every name that a file may ask for stands for a function of this module, never for the numpy or Python object itself:
numpy's own `dtype.__setstate__` and `ndarray.__setstate__` trust their input far enough to corrupt memory.
"""

import io
import pickle
import pickletools
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sized
from math import prod
from os import PathLike
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np

from cmath_jax.data.sources.near_misses import likeness, no_data_file, text_likeness
from cmath_jax.data.sources.plain_text import text_of
from cmath_jax.errors import InputError, reason

_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5})")  # no objects, no structures
_DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)


def load(path: str | PathLike[str]) -> Any:
    """Reads the object in a pickle file of any protocol, written by Python 2 or 3.

    Raises:
      InputError: the file cannot be read, is not a whole pickle, or asks for anything but numpy arrays of numbers or
        text and plain containers; the message names the file and what it asked for.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}{likeness(path)}") from error
    if not data:
        raise InputError(f"{path}: the file is empty")
    other = no_data_file(path, data)
    if other:
        raise InputError(f"{path}: not a pickle{other}")
    try:
        return _Unpickler(data).load()
    except _NotAdmittedError as error:
        raise InputError(
            f"{path}: refused, because it asks for {error}; a feature file needs only numpy arrays of numbers or text "
            "and plain containers; nothing in the file was run"
        ) from error
    except _DAMAGED as error:
        text = text_likeness(path, data)
        if text:
            raise InputError(f"{path}: not a pickle{text}") from error
        raise InputError(
            f"{path}: not a pickle, or a damaged one, so fetch it again: {type(error).__name__}: {error!s:.200}"
        ) from error


class _NotAdmittedError(Exception):
    """The file asks for what is not admitted; the text says for what."""


class _ByteString(str):
    """A string of Python 2 as text, with the bytes that it was; its arrays keep their numbers in such strings."""

    __slots__ = ("data",)
    data: bytes

    @classmethod
    def of(cls, data: bytes) -> "_ByteString":
        text = cls(text_of(data))
        text.data = data
        return text


class _Dtype:
    """Stands for a numpy dtype while its byte order is still to come; `numpy` is the real one."""

    def __init__(self, name: object, *_flags: object) -> None:
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise _NotAdmittedError(f"numpy.dtype({brief(name)})")
        self.numpy = np.dtype(name)

    def set_state(self, state: Any) -> None:
        _version, order, *structure = state[:5]
        if structure != [None, None, None] or order not in tuple("<>=|"):
            raise _NotAdmittedError("a numpy.dtype with fields or of unknown byte order")
        self.numpy = self.numpy.newbyteorder(order)


_NDARRAY = object()  # stands for `numpy.ndarray` itself, which a pickle only names and never calls


def _reconstruct(subtype: object, _shape: object, _typecode: object) -> np.ndarray:
    """Returns an empty array, which the BUILD that follows fills."""
    if subtype is not _NDARRAY:
        raise _NotAdmittedError("numpy.core.multiarray._reconstruct of something other than numpy.ndarray")
    return np.zeros(0)


def _content(shape: Any, dtype: Any, data: Any) -> bytes:
    """Returns the bytes of an array after the check that there are just as many as its shape and its dtype need."""
    data = data.data if isinstance(data, _ByteString) else data
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _NotAdmittedError(f"an array from a {type(data).__name__} with a {type(dtype).__name__}")
    if type(shape) is not tuple or not all(type(size) is int and size >= 0 for size in shape):
        raise _NotAdmittedError(f"an array of shape {brief(shape)}")
    if prod(shape) * dtype.numpy.itemsize != len(data):
        raise _NotAdmittedError(f"an array of shape {brief(shape)} and type {dtype.numpy} from {len(data)} bytes")
    if dtype.numpy.kind == "U":  # numpy takes what is no text, and raises a SystemError where it is read
        try:
            data.decode("utf-32-be" if dtype.numpy.byteorder == ">" else "utf-32-le")
        except UnicodeDecodeError as error:
            raise _NotAdmittedError("an array of text from bytes that are no text") from error
    return bytes(data)


def _frombuffer(data: object, dtype: Any, shape: Any, order: Any, axis_order: Any = None) -> np.ndarray:
    content = _content(shape, dtype, data)
    flat = np.frombuffer(content, dtype.numpy)
    if axis_order is not None:
        return flat.reshape(shape).transpose(axis_order).copy(order="K")
    return flat.reshape(shape, order=order).copy(order="K")


def _scalar(dtype: Any, data: object) -> Any:
    return np.frombuffer(_content((), dtype, data), dtype.numpy)[0]


def _encode(text: str, encoding: object) -> bytes:
    """Encodes text as bytes: pickle protocols 0 to 2 write bytes so."""
    if encoding not in ("latin1", "latin-1"):
        raise _NotAdmittedError(f"_codecs.encode to {brief(encoding)}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Returns no bytes: pickle protocols 0 to 2 write bytes of length 0 so."""
    return b""


def _check_keys(keys: Iterable[object]) -> None:
    """Refuses keys that nest: to hash a tuple of a tuple of a ... overflows the C stack and kills the process."""
    for key in keys:
        if isinstance(key, tuple | frozenset):
            raise _NotAdmittedError(f"a {type(key).__name__} as the key of a container")


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Iterable[Any] = ()) -> Any:
        if kind in (dict, OrderedDict) and not isinstance(items, dict):
            _check_keys(key for key, _ in items)
        elif kind in (set, frozenset):
            _check_keys(items)
        return kind(items)

    return make


_CONTAINERS = {kind.__name__: _container(kind) for kind in (set, frozenset, list, dict, tuple)}
_ADMITTED: dict[str, dict[str, object]] = {
    "numpy": {"ndarray": _NDARRAY, "dtype": _Dtype},
    "numpy.core.multiarray": {"_reconstruct": _reconstruct, "scalar": _scalar},
    "numpy._core.multiarray": {"_reconstruct": _reconstruct, "scalar": _scalar},
    "numpy.core.numeric": {"_frombuffer": _frombuffer},
    "numpy._core.numeric": {"_frombuffer": _frombuffer},
    "_codecs": {"encode": _encode},
    "builtins": {**_CONTAINERS, "bytes": _no_bytes},
    "__builtin__": {**_CONTAINERS, "bytes": _no_bytes},
    "collections": {"OrderedDict": _container(OrderedDict)},
}
# Without LONG4: only integers of more than 255 bytes need it, and Python refuses to print the larger of those.
_DATA_OPCODES = """
    PROTO FRAME MARK STOP POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT EMPTY_SET GET
    BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL
"""
_KEYED_OPCODES = {  # opcode -> where its keys lie on the stack
    pickle.SETITEM: slice(-2, -1),
    pickle.SETITEMS: slice(None, None, 2),
    pickle.DICT: slice(None, None, 2),
    pickle.ADDITEMS: slice(None),
    pickle.FROZENSET: slice(None),
}
_OPCODE_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


def _reduce(machine: Any) -> None:
    """Calls a function on a tuple (REDUCE). The only callables that can be on the stack are those of `_ADMITTED`."""
    args = machine.stack.pop()
    machine.spend(sum(len(arg) for arg in args if isinstance(arg, Sized)))
    machine.stack[-1] = machine.stack[-1](*args)


def _build(machine: Any) -> None:
    """Gives an object its state (BUILD); only arrays and dtypes have one here."""
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(target, _Dtype):
        target.set_state(state)
    elif type(target) is np.ndarray:
        _version, shape, dtype, fortran, data = state
        content = _content(shape, dtype, data)
        machine.spend(len(content))
        checked: Any = (1, shape, dtype.numpy, bool(fortran), content)
        target.__setstate__(checked)
    else:
        raise _NotAdmittedError(f"setting the state of a {type(target).__name__} (opcode BUILD)")


def _bytearray8(machine: Any) -> None:
    """Reads BYTEARRAY8 without allocating a length that the file merely claims."""
    (size,) = struct.unpack("<Q", machine.read(8))
    machine.append(bytearray(machine.read(size)))


def _inst(machine: Any) -> None:
    """Refuses to make an instance of a named class (INST); only the name is of interest, for the message."""
    module, name = (machine.readline()[:-1].decode("latin1") for _ in range(2))
    raise _NotAdmittedError(f"{module}.{name}")


def _refuse(code: int) -> Callable[[Any], None]:
    """Returns the handler of an opcode that is not admitted."""

    def handler(_machine: Any) -> None:
        if code not in _OPCODE_NAMES:
            raise pickle.UnpicklingError(f"unknown opcode 0x{code:02x}")
        raise _NotAdmittedError(f"the opcode {_OPCODE_NAMES[code]}")

    return handler


def _handlers(names: str) -> dict[int, Callable[[Any], None]]:
    """Returns the standard library's handlers of the named opcodes."""
    return {code: pickle._Unpickler.dispatch[code] for name in names.split() for code in getattr(pickle, name)}


def _keyed(code: int, keys: slice) -> Callable[[Any], None]:
    """Returns the standard library's handler of an opcode that puts keys into a container, after a check of them."""
    standard = pickle._Unpickler.dispatch[code]

    def handler(machine: Any) -> None:
        _check_keys(machine.stack[keys])
        standard(machine)

    return handler


# The subclass is of Python's own, slower implementation: the one in C lets nobody restrict the instructions, and
# reserves whatever memory a memo index asks for.
class _Unpickler(pickle._Unpickler):
    dispatch = {  # noqa: RUF012 (the name and the type are those of the base class)
        **{code: _refuse(code) for code in range(256)},
        **_handlers(_DATA_OPCODES),
        **{name[0]: _keyed(name[0], keys) for name, keys in _KEYED_OPCODES.items()},
        pickle.REDUCE[0]: _reduce,
        pickle.BUILD[0]: _build,
        pickle.BYTEARRAY8[0]: _bytearray8,
        pickle.INST[0]: _inst,
    }

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._allowance = 4 * len(data)  # an honest array passes through here twice, as text and as its content

    def spend(self, size: int) -> None:
        """Counts what is copied, so that a small file which copies one object again and again stays small."""
        self._allowance -= size
        if self._allowance < 0:
            raise _NotAdmittedError("far more data than it holds")

    def _decode_string(self, value: bytes) -> str:
        return _ByteString.of(value)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module][name]  # by exact match: a dotted name leads nowhere
        except KeyError:
            raise _NotAdmittedError(f"{module}.{name}") from None
