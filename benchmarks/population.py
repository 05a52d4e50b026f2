"""What a run costs in a population, against the same run alone: `python -m benchmarks.population`.

The same steps of the same members, alternating in one process: one member at a time through a trainer for one, and all
of them through a trainer for all. Data of MELD's and IEMOCAP's shape from the built-in corpus, at the paper's settings.
"""

import argparse
import itertools
import time
from dataclasses import replace

import jax
import numpy as np

from benchmarks.packing import SETTINGS, SHAPES
from cmath_jax.config import Config, override
from cmath_jax.training import compiler
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.devices import TRIAL_STEPS
from cmath_jax.training.grouping import memory_needed
from cmath_jax.training.trainer import Trainer


class Timed:
    """A trainer and its members, a few steps at a time."""

    def __init__(self, trainer: Trainer, seeds: range) -> None:
        self.trainer = trainer
        self.seconds: list[float] = []
        self.state = trainer.fresh_states(seeds)
        self.settings = trainer.hyper_params([trainer.config for _ in seeds])
        orders = [replace(trainer.batches, seed=seed) for seed in seeds]
        slots = max(order.slots(0) for order in orders)
        self.plan = trainer.devices.put_trials([order.plan(0, slots) for order in orders], TRIAL_STEPS)
        self.numbers = itertools.cycle(range(trainer.batches.steps))

    def step(self) -> None:
        began = time.perf_counter()
        number = next(self.numbers)
        self.state, metrics = self.trainer.advance(self.state, self.plan, self.settings, number, number + 1)
        jax.block_until_ready(metrics)
        self.seconds.append(time.perf_counter() - began)


def measure(name: str, members: int, steps: int) -> None:
    simulation = {f"data.simulation.{option}": value for option, value in SHAPES[name].items()}
    config = override(Config(), {**SETTINGS[name], **simulation, "parallel.devices": 1, "optim.average": 0.999})
    corpus = load_configured(config)
    alone = Trainer.of(config, corpus)
    together = Trainer.of(config, corpus, members)
    memory = memory_needed(together)
    singles = [Timed(alone, range(seed, seed + 1)) for seed in range(members)]
    population = Timed(together, range(members))
    for _ in range(1 + steps):  # the first compiles
        for single in singles:
            single.step()
        population.step()
    one_by_one = sum(np.median(single.seconds[1:]) for single in singles)
    side_by_side = np.median(population.seconds[1:])
    print(
        f"{name:<8} {members} members  "
        f"one by one {1000 * one_by_one:7.1f} ms  side by side {1000 * side_by_side:7.1f} ms  "
        f"ratio {side_by_side / one_by_one:.2f}, to one alone {members * side_by_side / one_by_one:.2f}  "
        f"compilation {alone.train_steps.seconds:.1f} and {together.train_steps.seconds:.1f} s  "
        f"memory {memory / 2**20:.0f} MB"
    )


def main() -> None:
    compiler.set_flags()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[5], help="sizes of the population")
    parser.add_argument("--steps", type=int, default=20, help="steps to measure")
    arguments = parser.parse_args()
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.platform}: {device.device_kind}")
    for name in SETTINGS:
        for members in arguments.members:
            measure(name, members, arguments.steps)


if __name__ == "__main__":
    main()
