"""A request to terminate, at a given step of a training."""

import os
import signal
from collections.abc import Sequence

import pytest

from cmath_jax.training import epoch
from cmath_jax.training.progress import Progress


def stop_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    """This process gets a SIGTERM while it does that step."""
    real, left = Progress.steps, [steps]

    def one_step(self: Progress, count: int, losses: Sequence[float]) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        real(self, count, losses)

    patch.setattr(Progress, "steps", one_step)
    patch.setattr(epoch, "SECONDS", 0)  # a look at every step
