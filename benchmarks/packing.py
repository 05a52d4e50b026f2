"""Packing against bucketing: the same train step on the same conversations, laid out in two ways.

    python -m benchmarks.packing [--steps 20]

Packed: conversations share rows, one shape for all steps (what training does). Bucketed: a row per conversation, as
long as the longest of the step, rounded up to a multiple of 8; a shape, and a compilation, per length that occurs.
Both run alternately in one process, on simulated corpora with the shapes of MELD and IEMOCAP at the paper's settings.
Prints a table: padding, shapes, compilation, median time of a step.
"""

import argparse
import time
from collections.abc import Callable

import jax
import numpy as np

from cmath_jax.config import Config, override
from cmath_jax.data.batches import Batch, TrainingBatches
from cmath_jax.data.packing import Shape, groups_of_epoch
from cmath_jax.training import compiler
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.devices import TRIAL_STEPS
from cmath_jax.training.trainer import Trainer

BUCKET = 8
SIMULATED = {"validation": 1, "test": 1, "text_dim": 1024, "visual_dim": 342}
SHAPES: dict[str, dict[str, float]] = {
    "meld": {"train": 1038, "audio_dim": 300, **SIMULATED},
    "iemocap": {"train": 96, "mean_length": 48.0, "max_length": 110, "audio_dim": 1582, **SIMULATED},
}
SETTINGS = {
    "meld": {"model.width": 400, "train.batch_size": 4},
    "iemocap": {"model.width": 500, "train.batch_size": 16},
}


def bucketed(batches: TrainingBatches, step: int) -> Batch:
    """The conversations of a step of epoch 0, a row each."""
    group = groups_of_epoch(batches.table.length_b, batches.size, batches.seed, epoch=0)[step]
    longest = int(batches.table.length_b[group].max())
    return batches.table.plan([[c] for c in group], Shape(batches.size, -(-longest // BUCKET) * BUCKET))


def measure(name: str, steps: int) -> None:
    simulation = {f"data.simulation.{option}": value for option, value in SHAPES[name].items()}
    config = override(Config(), {**SETTINGS[name], **simulation, "parallel.devices": 1})
    trainer = Trainer.of(config, load_configured(config))
    epoch = trainer.batches.plan(0)
    layouts: dict[str, Callable[[int], Batch]] = {
        "packed": lambda step: jax.tree.map(lambda x: x[step], epoch),
        "bucketed": lambda step: bucketed(trainer.batches, step),
    }
    settings = trainer.hyper_params([config])
    states = {layout: trainer.fresh_states([0]) for layout in layouts}
    seconds: dict[str, list[float]] = {layout: [] for layout in layouts}
    compiling = dict.fromkeys(layouts, 0.0)
    shapes: dict[str, set[tuple[int, ...]]] = {layout: set() for layout in layouts}
    slots = dict.fromkeys(layouts, 0)
    for timed in (False, True):  # the first pass compiles
        for step in range(min(steps, trainer.batches.steps)):
            for layout, batch_of in layouts.items():
                batch = batch_of(step)
                before = trainer.train_steps.seconds
                began = time.perf_counter()
                plan = trainer.devices.put_trials([jax.tree.map(lambda x: x[None], batch)], TRIAL_STEPS)
                states[layout], metrics = trainer.advance(states[layout], plan, settings, 0, 1)
                jax.block_until_ready(metrics)
                compiling[layout] += trainer.train_steps.seconds - before
                if timed:
                    seconds[layout].append(time.perf_counter() - began)
                    shapes[layout].add(batch.utterance_rl.shape)
                    slots[layout] += batch.utterance_rl.size
    utterances = int((epoch.utterance_rl[: len(seconds["packed"])] >= 0).sum())
    for layout in layouts:
        print(
            f"{name:<8} {layout:<9} padding {100 * (1 - utterances / slots[layout]):5.1f} %  "
            f"shapes {len(shapes[layout]):2d}  compilation {compiling[layout]:6.1f} s  "
            f"step {1000 * np.median(seconds[layout]):7.1f} ms (mean {1000 * np.mean(seconds[layout]):.1f})"
        )


def main() -> None:
    compiler.set_flags()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help="steps of an epoch to measure")
    steps = parser.parse_args().steps
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    for name in SETTINGS:
        measure(name, steps)


if __name__ == "__main__":
    main()
