"""A trace of some steps."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from samples import rows
from single import ONE_DEVICE

from cmath_jax.config import override
from cmath_jax.errors import InputError
from cmath_jax.training import epoch
from cmath_jax.training import fit as fitting


@pytest.mark.slow
def test_a_profile_is_a_trace_of_some_steps(
    undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With names for the parts of the model; and the run is what it is without."""
    monkeypatch.setattr(epoch, "TRACED", 2)
    fitting.fit(override(ONE_DEVICE, {"profile": "steps"}), tmp_path)
    (trace,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
    assert json.loads(gzip.decompress(trace.read_bytes()))
    (measured,) = (tmp_path / "profile").rglob("*.xplane.pb")
    for name in (b"fusion", b"optimizer", b"losses"):
        assert name in measured.read_bytes()
    assert rows(tmp_path) == rows(undisturbed[0])
    with pytest.raises(InputError, match="profile='epochs'"):
        override(ONE_DEVICE, {"profile": "epochs"})
