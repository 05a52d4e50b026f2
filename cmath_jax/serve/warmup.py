"""Does what would make the first clients wait, before there are any: loads weights, compiles shapes."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cmath_jax.data.corpus import UNLABELLED, Conversation
from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError
from cmath_jax.serve.limits import Limits

if TYPE_CHECKING:
    from cmath_jax.prediction.predictor import Predictor

RATE = 16_000  # samples a second of the recording


def warm_up(predictor: "Predictor", limits: Limits) -> None:
    """Runs the model on a made-up utterance, then on batches of all shapes that requests can bring.

    Raises:
      InputError: the model cannot predict what a client can send.
    """
    import soundfile

    from cmath_jax.prediction.predictor import LEAST_SLOTS, MOST_SLOTS

    if not set(predictor.modalities) & {"t", "a"}:
        raise InputError("the model knows only video, which is not read here; use python -m cmath_jax.predict")
    with tempfile.TemporaryDirectory(prefix="cmath_serve_") as folder:
        noise_n = np.random.default_rng(0).normal(0, 0.05, RATE)
        soundfile.write(Path(folder) / "noise.wav", noise_n, RATE)
        audio = "noise.wav" if "a" in predictor.raw else None
        spoken = Transcript("warm-up", (Utterance("Ann", "Hello.", audio=audio),))
        (single,), _ = predictor.extract([spoken], Path(folder))
    predictor.predict_features([single])
    # The predictor rounds slots and rows up to powers of two. Of conversations a little longer than half of the slots
    # each needs a row of its own.
    for slots in _doubled(LEAST_SLOTS, limits.utterances):
        length = slots // 2 + 1
        features = {m: np.repeat(x_nd, length, axis=0) for m, x_nd in single.features.items()}
        indices_n = np.zeros(length, np.int32)
        labels_n = np.full(length, UNLABELLED, np.int32)
        long = Conversation("warm-up", features, indices_n, labels_n)
        # No two rows of a batch would fit into one: all have this length at least, but one, which may have one less.
        most = (limits.batch_utterances + 1) // length
        for rows in _doubled(1, min(most, MOST_SLOTS // slots)):
            predictor.predict_features([replace(long, id=f"warm-up {i}") for i in range(rows)])


def _doubled(first: int, most: int) -> list[int]:
    """Returns `first`, and as often twice as much as it needs to reach `most`."""
    values = [first]
    while values[-1] < most:
        values.append(2 * values[-1])
    return values
