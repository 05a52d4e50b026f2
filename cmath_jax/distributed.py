"""Several processes that train one run together (`jax.distributed`)."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def agree(stop: bool, steps: int) -> tuple[bool, int]:
    """Whether any of the processes wants to stop, and the fewest steps that one has in mind."""
    if jax.process_count() == 1:
        return stop, steps
    both = multihost_utils.process_allgather(np.array([stop, steps]))
    return bool(both[:, 0].any()), int(both[:, 1].min())
