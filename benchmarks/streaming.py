"""Training from disk: is memory bounded, and does the device wait for data?

    python -m benchmarks.streaming [--conversations 200000] [--resident 1000] [--folder DIR] [--keep]

Large: a simulated corpus is prepared, conversation by conversation, and every one is trained on, streamed, in a small
model whose steps are short, so that reading is as fast as it has to be. Printed are the memory of the process in the
course of it, and the share of the time in which the device had nothing to do: from the end of a stretch of steps to the
moment at which the next one is handed over, the start of the epoch included.

Small: on a corpus that fits into memory, the same steps streamed and resident, in alternation, at MELD's settings
(width 400, 4 conversations a step) and in the small model.
"""

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil

from cmath_jax.config import Config, override
from cmath_jax.data.packing import groups_of_epoch, training_shape
from cmath_jax.data.prepared.streaming import chunk_steps, stream
from cmath_jax.training import compiler
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.trainer import Trainer

GB = 1e9
DIMS = {"text_dim": 256, "audio_dim": 64, "visual_dim": 80}  # 16 kB a conversation
SMALL_MODEL = {"model.width": 32, "model.heads": 2}
SETTINGS: dict[str, dict[str, Any]] = {"small model": SMALL_MODEL, "MELD's settings": {"model.width": 400}}


@dataclass
class Epoch:
    """What one took.

    Attributes:
      seconds: in all.
      waited: seconds in which the device had nothing to do.
      first: those before the first stretch.
      memory: bytes of the process after each stretch.
    """

    seconds: float
    waited: float
    first: float
    memory: list[int]


def configured(conversations: int, folder: Path, **options: Any) -> Config:
    simulation = {"train": conversations, "validation": 50, "test": 50, **DIMS}
    return override(
        Config(),
        {
            **{f"data.simulation.{name}": value for name, value in simulation.items()},
            "data.prepared_dir": str(folder),
            "parallel.devices": 1,
            **options,
        },
    )


def epoch(trainer: Trainer, state: Any, settings: Any, number: int, steps: int) -> tuple[Any, Epoch]:
    """The first steps of an epoch, as training does them; all of them if `steps` is 0."""
    steps = steps or trainer.batches.steps
    process, memory, waits = psutil.Process(), [], []
    began = idle_since = time.perf_counter()
    done = None
    with ThreadPoolExecutor(1) as watch:  # notes when the device is through with a stretch
        for numbers, block in trainer.plans([0], [number], 0):
            if done is not None:
                idle_since = done.result() if done.done() else time.perf_counter()
            waits.append(time.perf_counter() - idle_since)
            state, metrics = trainer.advance(state, block, settings, 0, min(len(numbers), steps - numbers.start))
            if done is not None:
                done.result()  # no further ahead than training
            done = watch.submit(_finished, metrics)
            memory.append(process.memory_info().rss)
            if numbers.stop >= steps:
                break
        assert done is not None
        done.result()
    return state, Epoch(time.perf_counter() - began, sum(waits), waits[0], memory)


def _finished(metrics: Any) -> float:
    jax.block_until_ready(metrics)
    return time.perf_counter()


def started(config: Config) -> tuple[Trainer, Any, Any]:
    """A trainer, a state and settings; the step is compiled."""
    trainer = Trainer.of(config, load_configured(config))
    settings = trainer.hyper_params([config])
    state = trainer.fresh_states([0])
    _, block = next(trainer.plans([0], [0], 0))
    state, metrics = trainer.advance(state, block, settings, 0, 1)
    jax.block_until_ready(metrics)
    return trainer, state, settings


def large(config: Config, epochs: int) -> None:
    began = time.perf_counter()
    child = multiprocessing.get_context("spawn").Process(target=load_configured, args=(config,))
    child.start()
    child.join()
    files = [path.stat().st_size for path in Path(config.data.prepared_dir).rglob("*.array_record*")]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"prepared {sum(files) / GB:.2f} GB in {len(files)} files: {time.perf_counter() - began:.0f} s", end=", ")
    print(f"peak memory {peak / GB:.2f} GB", flush=True)

    began = time.perf_counter()
    corpus = load_configured(config)
    length_b = np.array([len(c) for c in corpus.splits["train"]], np.int64)
    print(f"opened: {time.perf_counter() - began:.1f} s, {len(length_b)} conversations, {length_b.sum()} utterances")
    began = time.perf_counter()
    training_shape(tuple(length_b.tolist()), config.train.batch_size)
    shaped = time.perf_counter() - began
    groups_of_epoch(length_b, config.train.batch_size, 0, 1)
    print(f"shape of a batch: {shaped:.1f} s; order of an epoch: {time.perf_counter() - began - shaped:.1f} s")

    trainer, state, settings = started(config)
    batches, k = trainer.batches, chunk_steps(trainer.batches)
    print(f"{batches.steps} steps an epoch, {k} to a stretch, shape {tuple(batches.shape)}")
    read, began = stream(batches, 0, 0, batches.slots(0), k), time.perf_counter()
    stretches = min(10, batches.steps // k)
    for _ in range(stretches):
        next(read)
    seconds = time.perf_counter() - began
    print(f"reading alone: {stretches * k * batches.size / seconds:.0f} conversations/s", flush=True)
    read.close()

    peaks = []
    for number in range(1, 1 + epochs):
        state, measured = epoch(trainer, state, settings, number, steps=0)
        peaks += measured.memory
        fifths = " ".join(f"{np.median(part) / GB:.3f}" for part in np.array_split(measured.memory, 5))
        print(
            f"epoch {number}: {measured.seconds:.1f} s, {1000 * measured.seconds / batches.steps:.2f} ms a step; "
            f"device waits {100 * measured.waited / measured.seconds:.2f} % ({measured.waited:.2f} s, of which "
            f"{measured.first:.2f} s for the first stretch); memory in fifths of the epoch: {fifths} GB",
            flush=True,
        )
    print(f"peak memory {max(peaks) / GB:.2f} GB, features alone {length_b.sum() * 4 * sum(DIMS.values()) / GB:.2f} GB")


def small(name: str, config: Config, steps: int, rounds: int) -> None:
    runs = {way: started(replace(config, data=replace(config.data, stream=way == "streamed"))) for way in WAYS}
    measured: dict[str, list[Epoch]] = {way: [] for way in WAYS}
    for number in range(1, 1 + rounds):
        for way in WAYS:
            trainer, state, settings = runs[way]
            state, result = epoch(trainer, state, settings, number, steps)
            runs[way] = trainer, state, settings
            measured[way].append(result)
    seconds = {way: float(np.median([m.seconds for m in measured[way]])) for way in WAYS}
    for way in WAYS:
        waited, first = (np.median([getattr(m, part) for m in measured[way]]) for part in ("waited", "first"))
        print(
            f"{name:<16} {way:<9} {1000 * seconds[way] / steps:7.2f} ms a step, device waits "
            f"{100 * waited / seconds[way]:5.2f} % ({waited:.2f} s, {first:.2f} s for the first stretch)"
        )
    print(f"{name:<16} streamed takes {seconds['streamed'] / seconds['resident']:.3f} times as long", flush=True)


WAYS = ("resident", "streamed")


def main() -> None:
    compiler.set_flags()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=200_000, help="of the large corpus; 0 leaves it out")
    parser.add_argument("--epochs", type=int, default=2, help="of the large corpus")
    parser.add_argument("--batch", type=int, default=4, help="conversations a step of the large corpus")
    parser.add_argument("--resident", type=int, default=1000, help="conversations of the small corpus; 0 leaves it out")
    parser.add_argument("--steps", type=int, default=250, help="of the small corpus, in each round")
    parser.add_argument("--rounds", type=int, default=5, help="of both ways, of the small corpus")
    parser.add_argument("--folder", type=Path, help="where they are prepared; a temporary folder by default")
    parser.add_argument("--keep", action="store_true", help="keeps what was prepared, for the next time")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="streaming_"))
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {folder}")
    try:
        if options.resident:
            for name, setting in SETTINGS.items():
                config = configured(options.resident, folder, **setting)
                small(name, config, min(options.steps, options.resident // config.train.batch_size), options.rounds)
        if options.conversations:
            streaming = {"data.stream": True, "train.batch_size": options.batch, **SMALL_MODEL}
            large(configured(options.conversations, folder, **streaming), options.epochs)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
