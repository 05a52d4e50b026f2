"""Many runs as one program: which may share one, and how many fit into memory.

Runs that differ in their seeds and in their `step.Settings` alone have the same structure: they go through one compiled
step, side by side. Each keeps its own order of the data, early stopping and checkpoints, and comes out as if it had
been trained alone, but for rounding.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import psutil

from cmath_jax.config import Config
from cmath_jax.data.corpus import Corpus
from cmath_jax.training.devices import Population
from cmath_jax.training.step import Settings
from cmath_jax.training.trainer import Program

SHARE = 0.8  # of the free memory that a program may take

Item = TypeVar("Item")


def make_program(config: Config, corpus: Corpus, members: int) -> Program:
    """A program for as many members as were asked for, or for as many as memory holds and the config allows."""
    # One run keeps the cores of a processor busy, and its data in their cache: more at once would be slower.
    alone = config.parallel.engine == "pmap" or jax.devices()[0].platform == "cpu" or jax.process_count() > 1
    most = config.parallel.population or (1 if alone else members)
    members = _even(members, min(most, members))
    while True:
        program = Program.of(config, corpus, members)
        if members == 1:
            return program
        needed, free = memory_needed(program), SHARE * free_memory(program.engine.devices)
        if needed <= free:
            return program
        members = _even(members, max(1, min(int(members * free / needed), members - 1)))


def memory_needed(program: Program) -> int:
    """Bytes that the training step of a population takes on each device, as the compiler counts them."""
    config, engine = program.config, program.engine
    assert isinstance(engine, Population)
    places = -(-engine.members // len(engine.devices)) * len(engine.devices)

    def stacked(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct((places, *x.shape), x.dtype), tree)

    state = stacked(jax.eval_shape(program.initialize, 0))
    settings = stacked(Settings.of(config, program.class_weight_c))
    _, (plan,) = next(program.plans([0], [0], 0))
    size = program.executable(state, stacked(plan), settings).memory_analysis()
    return size.argument_size_in_bytes + size.output_size_in_bytes - size.alias_size_in_bytes + size.temp_size_in_bytes


def free_memory(devices: Sequence[jax.Device]) -> int:
    """Bytes on each of the devices; processors share the memory of this machine."""
    if devices[0].platform == "cpu":
        return int(psutil.virtual_memory().available) // len(devices)
    stats = devices[0].memory_stats()
    return int(stats["bytes_limit"] - stats["bytes_in_use"])


def crews(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in their order, `size` at a time."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def _even(items: int, most: int) -> int:
    """The size of groups of at most `most` that leaves the last of them as full as it goes."""
    groups = -(-items // most)
    return -(-items // groups)
