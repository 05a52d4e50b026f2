"""CPU seconds of a training epoch of each baseline, as its authors sized it, beside those of its released code.

    python -m benchmarks.baselines [NAME ...]

Corpora are simulated, of the shape of IEMOCAP (96 conversations, 57 utterances on average) and of MELD (1,038, of
9.6), with features of the published sizes. A few steps are timed after a first one, and an epoch is as many times
longer as it has steps. The numbers of the released code were taken with PyTorch, on one thread, on such corpora; they
are quoted, not measured here. CPU seconds are those of all threads: a machine that is busy inflates them less than the
time that passes.
"""

import os
import sys
import time

from benchmarks.side_jax import Side
from cmath_jax.config import Config, override
from cmath_jax.data.load import load_corpus
from cmath_jax.models.options import MODELS
from cmath_jax.training import compiler

SECONDS = 6.0  # that the timed steps take, unless one takes longer
SHAPES = {
    "iemocap": {
        "train": 96, "validation": 4, "test": 4, "mean_length": 57.0, "max_length": 110, "max_speakers": 2,
        "classes": 6, "text_dim": 1024, "audio_dim": 1582, "visual_dim": 342,
    },
    "meld": {
        "train": 1038, "validation": 4, "test": 4, "mean_length": 9.6, "max_length": 33, "max_speakers": 9,
        "classes": 7, "text_dim": 1024, "audio_dim": 300, "visual_dim": 342,
    },
}  # fmt: skip
# CPU seconds of an epoch of the released code: IEMOCAP, MELD.
RELEASED = {
    "dialogue_rnn": (78, 70), "dialogue_gcn": (35, 36), "mmgcn": (84, 32), "mm_dfn": (202, 82), "multidag": (85, 89),
    "sdt": (108, 287), "m3net": (93, 71), "graphsmile": (47, 20), "adaign": (356, 230),
}  # fmt: skip


def config_of(name: str, dataset: str) -> Config | None:
    """Returns the training of a model as its authors sized it, on a simulated corpus; None where they gave no sizes."""
    recipes = MODELS[name].recipes
    recipe = "released" if dataset in recipes.get("released", {}) else "style" if "style" in recipes else None
    if recipe is None:
        return None
    config = override(Config(), {"model.name": name, "dataset": dataset, "recipe": recipe})
    simulation = dict(SHAPES[dataset])
    if getattr(config.model, "text_layers", 1) > 1:
        simulation["text_dim"] *= config.model.text_layers  # type: ignore[attr-defined]
    options = {f"data.simulation.{option}": value for option, value in simulation.items()}
    beside = {"parallel.devices": 1, "data.text_layer": 1, "train.curriculum": 0}
    return override(config, {"dataset": "simulated", **options, **beside})


def measure(config: Config) -> tuple[float, float, float, int]:
    """Returns CPU seconds and seconds of an epoch, seconds of tracing and compiling, and the number of parameters."""
    side = Side(config, load_corpus("simulated", simulation=config.data.simulation))
    began = time.perf_counter()
    side.advance(1)
    compiling = time.perf_counter() - began
    cpu, began, steps = time.process_time(), time.perf_counter(), 0
    while steps == 0 or (time.perf_counter() - began < SECONDS and steps < side.steps_per_epoch):
        steps += side.advance(1)[0]
    share = side.steps_per_epoch / steps
    return (time.process_time() - cpu) * share, (time.perf_counter() - began) * share, compiling, side.parameters


def main() -> None:
    compiler.set_flags()
    names = sys.argv[1:] or [name for name in MODELS if name != "cmath"]
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    print("model         shape    parameters  CPU s/epoch  s/epoch  first step s  released CPU s  ratio", flush=True)
    for name in names:
        for place, dataset in enumerate(SHAPES):
            config = config_of(name, dataset)
            if config is None:
                continue
            cpu, seconds, compiling, parameters = measure(config)
            quoted = RELEASED[name][place] if name in RELEASED else None
            beside = f"{quoted:>14}  {quoted / cpu:5.1f}" if quoted else ""
            row = f"{name:<12}  {dataset:<8}{parameters:>11,}  {cpu:>11.1f}  {seconds:>7.1f}  {compiling:>12.1f}"
            print(f"{row}  {beside}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
