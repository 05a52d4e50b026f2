"""A run that nothing has interrupted, for tests to compare with. They may run it again, and change nothing else."""

from pathlib import Path
from typing import Any

import pytest
from single import ONE_DEVICE

from cmath_jax.training.fit import fit


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, fit(ONE_DEVICE, folder)
