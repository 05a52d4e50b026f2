"""Training from disk: what training in memory comes to, and the same wherever it was interrupted."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from samples import final_arrays, rows, tiny
from stopping import stop_after

from cmath_jax.data.prepared import streaming
from cmath_jax.errors import Terminated
from cmath_jax.training import fit as fitting


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three of the four steps of an epoch; of two where there are two devices."""
    monkeypatch.setattr(streaming, "CHUNK_BYTES", 3000)


def assert_close(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"parallel__devices": 1},
        {"parallel__devices": 2},
        {"parallel__devices": 2, "parallel__engine": "jit"},
        {"parallel__population": 2, "seeds": 2},
    ],
)
def test_training_comes_to_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    config = tiny(**options, train__epochs=2)
    streamed = tiny(**options, train__epochs=2, data__stream=True, data__prepared_dir=str(tmp_path / "prepared"))
    a, b = fitting.fit(config, tmp_path / "a"), fitting.fit(streamed, tmp_path / "b")
    assert_close(rows(tmp_path / "a"), rows(tmp_path / "b"))
    assert_close(final_arrays(tmp_path / "a", config), final_arrays(tmp_path / "b", streamed))
    assert a["test"]["confusion_matrix"] == b["test"]["confusion_matrix"]
    # The fingerprint is the same: what is finished in memory is finished.
    assert fitting.fit(streamed, tmp_path / "a")["test"] == a["test"]


@pytest.mark.slow
def test_an_interruption_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(parallel__devices=1, data__stream=True, data__prepared_dir=str(tmp_path / "prepared"))
    fitting.fit(config, tmp_path / "whole")
    for steps in (1, 3, 4):
        with monkeypatch.context() as patch:
            stop_after(patch, steps)
            with pytest.raises(Terminated):
                fitting.fit(config, tmp_path / "cut")
    fitting.fit(config, tmp_path / "cut")
    assert rows(tmp_path / "whole") == rows(tmp_path / "cut")
    whole, cut = (final_arrays(tmp_path / name, config) for name in ("whole", "cut"))
    for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        np.testing.assert_array_equal(x, y)
