"""A trained model for the tests of a module; another fixture of that name in a module is another model."""

from pathlib import Path

import pytest
from samples import tiny

from cmath_jax.training.fit import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    fit(tiny(train__epochs=1), folder)
    return folder
