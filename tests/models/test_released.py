"""Released code of other models and ours give the same numbers, on every file of test vectors."""

from pathlib import Path

import pytest

from cmath_jax.models.baselines.released import main

VECTORS = Path(__file__).parents[3] / "shared" / "conformance"
FILES = sorted(VECTORS.glob("*_case*.npz"))


@pytest.mark.skipif(not FILES, reason="no test vectors of released code beside the project")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_released_code_computes_the_same(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([path.stem.partition("_case")[0], str(path)]) == 0, capsys.readouterr()
    assert "they agree" in capsys.readouterr().out
