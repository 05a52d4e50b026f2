"""Runs the model beside this file on features: `python example.py FEATURES.npz [-o OUT.npz]`.

Needs JAX, flatbuffers and NumPy, and nothing else. FEATURES.npz holds one conversation: `speakers` [n], numbers from 0
in the order of appearance, and for each modality of model.json its features [n, d]: `t` text, `a` audio, `v` visual. A
row of NaN says that the utterance lacks the modality. To write such a file:

    numpy.savez("features.npz", speakers=[0, 1, 0], t=text, a=audio, v=visual)
"""

import argparse
import json
import sys
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np

here = Path(__file__).parent
NAMES = {"t": "text", "a": "audio", "v": "visual"}


def refuse(line: str) -> NoReturn:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def read(path: str, record: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns features m -> float32 [n, d] and speakers int32 [n]; ends the program for a file that does not fit."""
    dims = record["modalities"]
    shapes = ", ".join(f"{m} [n, {d}] ({NAMES[m]})" for m, d in dims.items())
    wanted = f"the model takes a file of numpy.savez with one conversation: speakers [n], {shapes}"
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):  # NumPy takes it for a pickle, and says how to load one
                refuse(f"{path}: it is no .npz file; {wanted}")
            file.seek(0)
            given = np.load(file, allow_pickle=False)
            found = {name: given[name] for name in given.files if name in (*dims, "speakers")}
    except FileNotFoundError:
        refuse(f"there is no file {path}")
    except OSError as error:
        refuse(f"{path}: cannot be read: {error.strerror or error}")
    except Exception as error:  # whatever a damaged file or one of another kind makes NumPy raise
        refuse(f"{path}: it is no .npz file of numbers ({type(error).__name__}: {error!s:.100}); {wanted}")
    missing = [name for name in ("speakers", *dims) if name not in found]
    if missing:
        given_names = ", ".join(map(repr, given.files[:5])) + (", ..." if len(given.files) > 5 else "")
        refuse(f"{path}: it has no array {missing[0]!r}, but {given_names or 'nothing'}; {wanted}")
    speakers_n = found.pop("speakers")
    n = speakers_n.size
    numbers = speakers_n.dtype.kind in "iuf"
    wide_n = speakers_n.astype(np.float64) if numbers else np.zeros(1)  # float16 cannot be held against 2^31
    numbers = numbers and ((wide_n >= 0) & (wide_n < 2**31) & (np.floor(wide_n) == wide_n)).all()
    if speakers_n.ndim != 1 or not n or not numbers:
        refuse(f"{path}: speakers is {speakers_n.dtype} {list(speakers_n.shape)}, not numbers from 0, [n]; {wanted}")
    if n > record["longest"]:
        refuse(f"{path}: it has {n} utterances; the model takes {record['longest']} at most")
    for m, x_nd in found.items():
        if x_nd.shape != (n, dims[m]) or x_nd.dtype.kind not in "fiu":
            refuse(f"{path}: {m} is {x_nd.dtype} {list(x_nd.shape)}, not numbers [{n}, {dims[m]}]; {wanted}")
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            found[m] = x_nd = x_nd.astype(np.float32)
        if np.isinf(x_nd).any() or (np.isnan(x_nd).any(1) != np.isnan(x_nd).all(1)).any():
            refuse(f"{path}: {m} has numbers that are not finite; a row is whole, or all NaN where it is missing")
    if all(np.isnan(x_nd).all() for x_nd in found.values()):
        refuse(f"{path}: no utterance has any features")
    return found, speakers_n.astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description="The emotion of every utterance, from its features.")
    parser.add_argument("features", metavar="FEATURES.npz")
    parser.add_argument("-o", "--output", metavar="OUT.npz")
    options = parser.parse_args()
    record = json.loads((here / "model.json").read_text(encoding="utf-8"))
    features, speakers = read(options.features, record)
    model = jax.export.deserialize(bytearray((here / "model.stablehlo").read_bytes()))

    # Batches of one: conversations of unequal length would be padded, with False in `valid` where there is nothing.
    batch = {m: x_nd[None] for m, x_nd in features.items()}, speakers[None], np.ones((1, len(speakers)), bool)
    probability, uncertainty = jax.device_get(model.call(*batch))

    if options.output:
        try:
            np.savez(options.output, probability=probability[0], uncertainty=uncertainty[0])
        except OSError as error:
            refuse(f"{options.output}: cannot be written: {error.strerror or error}")
    for probability_c, doubt in zip(probability[0], uncertainty[0], strict=True):
        label = record["classes"][int(probability_c.argmax())]
        print(json.dumps({"label": label, "probability": float(probability_c.max()), "uncertainty": float(doubt)}))


if __name__ == "__main__":
    main()
