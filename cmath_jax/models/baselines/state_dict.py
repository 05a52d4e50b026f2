"""Reads the state dict of a model that torch.save wrote, without PyTorch and without running anything of the file.

Such a file is a zip archive: `data.pkl` says which arrays there are, and `data/KEY` holds the numbers of each storage.
The pickle may name nothing but a dictionary, the storages, and what makes a tensor of a part of one.
"""

import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.errors import InputError, require

STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
# What a reader of archives and pickles may raise for a file that is damaged, encrypted, or made to do harm.
DAMAGED = (
    pickle.UnpicklingError, zlib.error, EOFError, LookupError, ValueError, TypeError, AttributeError, OverflowError,
    MemoryError, RuntimeError,
)  # fmt: skip
WRAPPERS = ("state_dict", "model_state_dict", "model")  # what people save a state dict under


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict by their names; a prefix `module.` of parallel training is taken off.

    Raises:
      InputError: for a file that is none, that is not whole, or that names anything else than arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
            require(len(roots) == 1, f"{path}: has no data.pkl: it is not a file of torch.save")
            arrays = _unwrapped(_Reader(archive, roots[0]).load())
    except InputError:
        raise
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{path}: is not a zip archive, as torch.save writes since version 1.6; load an older one with "
            "PyTorch, and save its state_dict() again"
        ) from error
    except DAMAGED as error:
        raise InputError(f"{path}: is damaged, or holds more than arrays ({error}); save model.state_dict()") from error
    found = {str(name): x for name, x in arrays.items() if isinstance(x, np.ndarray)}
    require(bool(found) and len(found) == len(arrays), f"{path}: is no state dict: save model.state_dict()")
    parallel = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if parallel else name: x for name, x in found.items()}


def _unwrapped(content: Any) -> dict[Any, Any]:
    """Returns the state dict itself; nothing where the content is no dictionary."""
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    return dict(content.items()) if isinstance(content, Mapping) else {}


class _Reader(pickle.Unpickler):
    """An unpickler that knows nothing but arrays: what a pickle can call is in `find_class`."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(archive.open(f"{root}data.pkl"))
        self._archive, self._root = archive, root
        order = archive.read(f"{root}byteorder").decode() if f"{root}byteorder" in archive.namelist() else "little"
        self._order = {"little": "<", "big": ">"}[order]

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            # A pickle may set attributes of what it names: it gets a function of its own.
            ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: _tensor(*parts),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            **{("torch", storage): kind for storage, kind in STORAGES.items()},
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Returns the numbers of a storage."""
        _, kind, key, _, count = pid
        data = self._archive.read(f"{self._root}data/{key}")
        if kind == "bfloat16":  # the upper half of a float32
            upper = np.frombuffer(data, f"{self._order}u2", count).astype(np.uint32) << 16
            return upper.view(np.float32)
        return np.frombuffer(data, np.dtype(kind).newbyteorder(self._order), count)


def _tensor(storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """Returns the array of a part of a storage. Raises ValueError where the storage is too short for it.

    An array that repeats numbers of its storage is none of a model, and may be larger than any memory.
    """
    if math.prod(size) > len(storage):
        raise ValueError("an array is larger than its storage")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else offset
    if offset < 0 or any(step < 0 for step in stride) or last >= len(storage) + (not all(size)):
        raise ValueError("an array reaches beyond its storage")
    strides = [step * storage.itemsize for step in stride]
    return np.array(np.lib.stride_tricks.as_strided(storage[offset:], size, strides))
