"""Small random conversations and parameters for the reference."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import reference_params

DIMS = {"t": 5, "a": 4, "v": 3}
WIDTH, SPEAKERS, CLASSES = 6, 3, 4
SETTINGS: dict[str, Any] = {"heads": 2, "kernel": 3, "gamma1": 0.7, "gamma2": 1.3, "reconstruction_weight": 0.9}


def make_conversation(rng: np.random.Generator, length: int) -> dict[str, Any]:
    return {
        "features": {m: rng.normal(size=(length, size)) for m, size in DIMS.items()},
        "speakers": rng.integers(SPEAKERS, size=length),
        "labels": rng.integers(CLASSES, size=length),
    }


def make_params(rng: np.random.Generator, settings: Mapping[str, Any]) -> dict[str, Any]:
    return reference_params.random_params(rng, DIMS, settings, SPEAKERS, CLASSES, WIDTH)
