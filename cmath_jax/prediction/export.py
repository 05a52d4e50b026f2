"""A trained model as one program of StableHLO, which runs with JAX alone: no code of this project, no Flax, no data.

Batch and length are symbols, so that one artefact serves all conversations. What `TrainedModel.save` keeps beside the
parameters is inside it: standardization, calibration, the draws of the uncertainty.

Shapes: b conversations, l utterances of the longest, d features, c classes.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cmath_jax.data.batches import Batch
from cmath_jax.data.conversations import UNLABELLED
from cmath_jax.errors import InputError
from cmath_jax.models.layers import LONGEST_SYMBOL
from cmath_jax.prediction.predictor import Predictor, predict_step

FORMAT = 1
PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, RECORD, EXAMPLE = "model.stablehlo", "model.json", "example.py"


def program_of(predictor: Predictor) -> Any:
    """(features, speaker, valid) -> (probability, uncertainty), a pure function of arrays.

    features: m -> float32 [b, l, d_m], unscaled, a row of NaN where the modality is missing; speaker: int32 [b, l];
    valid: bool [b, l], False for padding. Probability: float32 [b, l, c]; uncertainty: float32 [b, l].
    """
    trained = predictor.trained
    step = partial(predict_step, model=trained.module())
    constants = jax.tree.map(jnp.asarray, (trained.params, trained.scaling.mean, trained.scaling.deviation))
    temperature, normal_kc = (jnp.asarray(x) for x in predictor.numbers)

    def predict(features: Mapping[str, jax.Array], speaker_bl: jax.Array, valid_bl: jax.Array) -> Any:
        params, mean, deviation = constants
        place_bl = jnp.broadcast_to(jnp.arange(speaker_bl.shape[1], dtype=jnp.int32)[None], speaker_bl.shape)
        present = {m: ~jnp.isnan(x_bld).all(-1) | ~valid_bl for m, x_bld in features.items()}
        scaled = {m: (x_bld - mean[m][None, None]) / deviation[m][None, None] for m, x_bld in features.items()}
        known = {m: (present[m] & valid_bl)[..., None] for m in scaled}
        batch = Batch(
            features={m: jnp.where(known[m], x_bld, 0.0) for m, x_bld in scaled.items()},
            utterance_rl=place_bl,
            speaker_rl=speaker_bl,
            label_rl=jnp.full_like(place_bl, UNLABELLED),
            position_rl=place_bl,
            segment_rl=valid_bl.astype(jnp.int32),
            present=present,
        )
        told = step(params, batch, temperature, normal_kc)
        return told.probability, told.uncertainty

    return predict


def export(checkpoint: str | Path | Predictor, folder: str | Path) -> Path:
    """Writes the artefact: `model.stablehlo`, what it takes and gives in `model.json`, and `example.py`, which runs it.

    Raises:
      InputError: the model cannot be read, or the folder is there already.
    """
    predictor = checkpoint if isinstance(checkpoint, Predictor) else Predictor.load(checkpoint)
    folder, trained = Path(folder), predictor.trained
    if folder.exists():
        raise InputError(f"{folder} is there already: name another folder, or remove it")
    b, length = jax.export.symbolic_shape("b, l", constraints=[f"l <= {LONGEST_SYMBOL}"])
    features = {m: jax.ShapeDtypeStruct((b, length, trained.dims[m]), jnp.float32) for m in trained.modalities}
    speaker, valid = (jax.ShapeDtypeStruct((b, length), kind) for kind in (jnp.int32, jnp.bool_))
    exported = jax.export.export(jax.jit(program_of(predictor)), platforms=PLATFORMS)(features, speaker, valid)
    record = {
        "format": FORMAT,
        "classes": list(trained.classes),
        "modalities": {m: trained.dims[m] for m in trained.modalities},
        "speakers": trained.speakers,
        "longest": LONGEST_SYMBOL,
        "platforms": list(PLATFORMS),
        "calling_convention": exported.calling_convention_version,
        "extraction": {m: dict(settings) for m, settings in trained.extraction.items()},
        "facts": asdict(trained.facts),
    }
    partial_folder = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir(parents=True)
        (partial_folder / PROGRAM).write_bytes(exported.serialize())
        (partial_folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        example = resources.files(__package__).joinpath("run_exported.py").read_text(encoding="utf-8")
        (partial_folder / EXAMPLE).write_text(example, encoding="utf-8")
        os.replace(partial_folder, folder)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error
    return folder
