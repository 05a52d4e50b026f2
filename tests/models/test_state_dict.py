"""State dicts of PyTorch are read without it, and nothing of a file is run."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmath_jax.errors import InputError
from cmath_jax.models.baselines import state_dict
from cmath_jax.models.baselines.state_dict import read_state_dict


def test_arrays_are_those_of_pytorch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.GRU(3, 4, bidirectional=True)
    state = {f"gru.{name}": x for name, x in model.state_dict().items()}
    base = torch.arange(24.0)
    # Views of one storage, transposed, empty, a single number; other types.
    state |= {"view": base[4:12].reshape(2, 4).T, "empty": torch.zeros(0, 3), "one": torch.tensor(3.5)}
    state |= {"half": base.half(), "brain": base.bfloat16(), "double": base.double(), "count": torch.tensor([7])}
    state["parameter"] = torch.nn.Parameter(base)
    for name, saved in {
        "plain": state,
        "wrapped": {"state_dict": state, "epoch": 3},
        "parallel": {f"module.{each}": x for each, x in state.items()},
    }.items():
        path = tmp_path / f"{name}.pt"
        torch.save(saved, path)
        found = read_state_dict(path)
        assert found.keys() == state.keys()
        for each, x in state.items():
            np.testing.assert_array_equal(found[each], x.detach().to(torch.float64).numpy())


def archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
    return path


class Harmful:
    def __reduce__(self) -> Any:
        return (open, ("harm.txt", "w"))


def test_nothing_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "bad.pt", pickle.dumps({"x": Harmful()}))
    with pytest.raises(InputError, match=r"names \w+\.open, which is no array"):
        read_state_dict(path)
    assert not (tmp_path / "harm.txt").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (pickle.dumps([1, 2]), "is no state dict"),
        (pickle.dumps({"x": 1}), "is no state dict"),
        (pickle.dumps({}), "is no state dict"),
        (pickle.dumps({"x": 1})[:-3], "damaged"),
    ],
)
def test_what_is_no_state_dict(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_state_dict(archive(tmp_path / "bad.pt", content))


def a_tensor(size: object, stride: object, count: object) -> bytes:
    """Returns the pickle of a state dict whose one array is a part of a storage of eight numbers."""

    def part(x: object) -> bytes:
        return pickle.dumps(x, 2)[2:-1]

    storage = b"(" + part("storage") + b"ctorch\nDoubleStorage\n" + part("0") + part("cpu") + part(count) + b"tQ"
    arguments = b"(" + storage + part(0) + part(size) + part(stride) + b"\x89Nt"
    return b"\x80\x02}" + part("x") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


HARMFUL = {
    "larger than any memory": a_tensor((10**6, 10**7), (0, 0), 8),
    "longer than the file": a_tensor((2,), (1,), 10**12),
    "a size that is none": a_tensor(("a",), (1,), 8),
    "a memory of 2 GiB": b"\x80\x02}r\xff\xff\xff\x7f.",
    "bytes without end": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a dictionary without items": b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x05sb.",
}


@pytest.mark.parametrize("content", HARMFUL.values(), ids=HARMFUL)
def test_what_is_made_to_do_harm(content: bytes, tmp_path: Path) -> None:
    path = archive(tmp_path / "bad.pt", content)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/data/0", bytes(64))
    with pytest.raises(InputError, match=r"bad\.pt: is damaged, or holds more than arrays"):
        read_state_dict(path)


def test_what_is_damaged_or_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({"x": 1}))
    whole, header, entry = path.read_bytes(), b"PK\x03\x04", b"PK\x01\x02"
    for place in ((header, 6, 1), (header, 8, 99), (header, 30 + len("archive/data.pkl"), 255)):
        changed = bytearray(whole)
        for mark, offset, value in (place, (entry, place[1] + 2, place[2]))[: 2 if place[1] < 30 else 1]:
            changed[whole.index(mark) + offset] = value
        path.write_bytes(changed)
        with pytest.raises(InputError, match="is damaged, or holds more than arrays"):
            read_state_dict(path)


def test_a_file_does_not_change_what_reads_the_next_one(tmp_path: Path) -> None:
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    content = b"\x80\x02" + function + b"(N}X\x0c\x00\x00\x00__defaults__(K\x05tstb."
    with pytest.raises(InputError):
        read_state_dict(archive(tmp_path / "bad.pt", content))
    assert state_dict._tensor.__defaults__ is None


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(InputError, match="since version"):
        read_state_dict(path)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"has no data\.pkl"):
        read_state_dict(tmp_path / "other.zip")
