"""State dicts of PyTorch are read without it, and nothing of a file is run."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmath_jax.errors import InputError
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


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(InputError, match="since version"):
        read_state_dict(path)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"has no data\.pkl"):
        read_state_dict(tmp_path / "other.zip")
