"""Exports a trained model as one program of StableHLO, which runs with JAX alone: no code of ours, no Flax, no data.

Batch and length are symbols, so that one artefact serves all conversations. What `TrainedModel.save` keeps beside the
parameters is inside it: standardization, calibration, the draws of the uncertainty.

Shapes: b conversations, l utterances of the longest, d features, c classes.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import UNLABELLED, Conversation
from cmath_jax.data.standardize import Standardizer
from cmath_jax.io.json_files import to_json
from cmath_jax.io.whole import new_folder
from cmath_jax.models.layers import LONGEST_SYMBOL
from cmath_jax.prediction.predictor import Predictor, predict_step
from cmath_jax.results.circumstances import public

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "tpu")
CHECKED = 9  # utterances of the conversation on which the artefact is compared with the live model ...
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.05}  # ... and how far a probability may be off
PROGRAM, RECORD, EXAMPLE = "model.stablehlo", "model.json", "example.py"


def program_of(predictor: Predictor) -> Any:
    """Returns (features, speaker, valid) -> (probability, uncertainty), a pure function of arrays.

    features: m -> float32 [b, l, d_m], unscaled, a row of NaN where the modality is missing; speaker: int32 [b, l];
    valid: bool [b, l], False for padding. Probability: float32 [b, l, c]; uncertainty: float32 [b, l].
    """
    trained = predictor.trained
    step = partial(predict_step, model=trained.module())
    params = jax.tree.map(jnp.asarray, trained.params)
    temperature, normal_zc = (jnp.asarray(x) for x in predictor.numbers)

    def predict(features: Mapping[str, jax.Array], speaker_bl: jax.Array, valid_bl: jax.Array) -> Any:
        place_bl = jnp.broadcast_to(jnp.arange(speaker_bl.shape[1], dtype=jnp.int32)[None], speaker_bl.shape)
        present = {m: ~jnp.isnan(x_bld).all(-1) | ~valid_bl for m, x_bld in features.items()}
        standardized = {m: _standardized(x_bld, trained.standardizer, m) for m, x_bld in features.items()}
        known = {m: (present[m] & valid_bl)[..., None] for m in standardized}
        batch = Batch(
            features={m: jnp.where(known[m], x_bld, 0.0) for m, x_bld in standardized.items()},
            utterance_rl=place_bl,
            speaker_rl=speaker_bl,
            label_rl=jnp.full_like(place_bl, UNLABELLED),
            position_rl=place_bl,
            segment_rl=valid_bl.astype(jnp.int32),
            present=present,
        )
        told = step(params, batch, temperature, normal_zc)
        return told.probability, told.uncertainty

    return predict


def _standardized(x_bld: jax.Array, standardizer: Standardizer, m: str) -> jax.Array:
    """Returns what `Standardizer.features` does, in float32: the mean is subtracted in two parts, to lose no digits.

    Before that every feature is brought near to 1 by a power of two, which is exact: a compiler divides by multiplying
    with the reciprocal, and a device may take that of a large deviation, or a small deviation, for 0.
    """
    mean_d, deviation_d = (np.asarray(x[m], np.float64) for x in (standardizer.mean, standardizer.deviation))
    varies_d = np.isfinite(deviation_d)
    _, exponent_d = np.frexp(np.where(varies_d, deviation_d, 1.0))
    unit_d = 2.0 ** -np.clip(exponent_d, -126, 126)
    mean_d, deviation_d = unit_d * np.where(varies_d, mean_d, 0.0), unit_d * np.where(varies_d, deviation_d, 1.0)
    first_d = mean_d.astype(np.float32)
    second_d = (mean_d - first_d).astype(np.float32)
    # Without the barrier a compiler might add up the parts first, and round.
    rest_bld = jax.lax.optimization_barrier(x_bld * unit_d.astype(np.float32)[None, None] - first_d[None, None])
    z_bld = (rest_bld - second_d[None, None]) / deviation_d.astype(np.float32)[None, None]
    return jnp.where(varies_d[None, None], jnp.clip(z_bld, -standardizer.farthest, standardizer.farthest), 0.0)


def export(checkpoint: str | Path | Predictor, folder: str | Path) -> Path:
    """Writes the artefact: `model.stablehlo`, what it takes and gives in `model.json`, and `example.py`, which runs it.

    Raises:
      InputError: the model cannot be read; the folder is there and not empty, or cannot be written.
      RuntimeError: the artefact says something else than the model.
    """
    predictor = checkpoint if isinstance(checkpoint, Predictor) else Predictor.load(checkpoint)
    folder, trained = Path(folder), predictor.trained
    b, length = jax.export.symbolic_shape("b, l", constraints=[f"l <= {LONGEST_SYMBOL}"])
    features = {m: jax.ShapeDtypeStruct((b, length, trained.dims[m]), jnp.float32) for m in trained.modalities}
    speaker, valid = (jax.ShapeDtypeStruct((b, length), kind) for kind in (jnp.int32, jnp.bool_))
    exported = jax.export.export(jax.jit(program_of(predictor)), platforms=PLATFORMS)(features, speaker, valid)
    _check(exported, predictor)
    record = {
        "format": FORMAT,
        "classes": list(trained.classes),
        "modalities": {m: trained.dims[m] for m in trained.modalities},
        "speakers": trained.speakers,
        "longest": LONGEST_SYMBOL,
        "platforms": list(PLATFORMS),
        "calling_convention": exported.calling_convention_version,
        "extraction": {m: public(settings) for m, settings in trained.extraction.items()},
        "facts": asdict(trained.facts),
    }
    example = resources.files(__package__).joinpath("run_exported.py").read_text(encoding="utf-8")
    with new_folder(folder) as partial_folder:
        (partial_folder / PROGRAM).write_bytes(exported.serialize())
        (partial_folder / RECORD).write_text(to_json(record), encoding="utf-8")
        (partial_folder / EXAMPLE).write_text(example, encoding="utf-8")
    return folder


def _check(exported: Any, predictor: Predictor) -> None:
    """Raises RuntimeError if the program does not say of a made-up conversation what the live model says."""
    trained, rng = predictor.trained, np.random.default_rng(0)
    speakers_n = np.arange(CHECKED, dtype=np.int32) % trained.speakers
    features = {}
    for m in trained.modalities:
        x_nd = rng.standard_normal((CHECKED, trained.dims[m]))
        deviation_d = np.where(np.isfinite(trained.standardizer.deviation[m]), trained.standardizer.deviation[m], 0.0)
        features[m] = (trained.standardizer.mean[m] + deviation_d * x_nd).astype(np.float32)
    conversation = Conversation("check", features, speakers_n, np.full(CHECKED, UNLABELLED, np.int32))
    live = [[*p.probabilities.values()] for p in predictor.predict_features([conversation])[0]]
    present_bl = np.ones((1, CHECKED), bool)
    told, _ = exported.call({m: x_nd[None] for m, x_nd in features.items()}, speakers_n[None], present_bl)
    off = float(np.abs(np.asarray(told)[0] - live).max())
    if not off <= TOLERANCE[trained.config.precision]:
        raise RuntimeError(f"the exported program is off by {off:.2g} in a probability; nothing is written")
