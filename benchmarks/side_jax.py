"""Training as `fit` does it, a chunk of steps at a time, for `benchmarks.single_device`."""

import time
from collections.abc import Iterator
from typing import Any

import jax

from cmath_jax.config import Config
from cmath_jax.data.corpus import Corpus
from cmath_jax.training.trainer import Trainer


class Side:
    """A run of the given config, or a population of such runs with different seeds, on JAX's default device.

    Attributes:
      planning: seconds that the host took to plan each epoch; they are not among those of `advance`.
    """

    def __init__(self, config: Config, corpus: Corpus, trials: int = 1) -> None:
        self.trainer = Trainer.of(config, corpus, trials)
        self.steps_per_epoch = self.trainer.batches.steps
        self.planning: list[float] = []
        self._seeds = range(trials)
        self._state = self.trainer.fresh_states(self._seeds)
        self._settings = self.trainer.hyper_params([config] * trials)
        self._epoch = 0
        self._blocks: Iterator[tuple[range, Any]] = iter(())
        self._plan: Any = None
        self._next = self._count = 0

    def advance(self, steps: int) -> tuple[int, float]:
        """So many steps, or what is left of the epoch. Returns how many, and their seconds without compilation."""
        self._turn_page()
        last = min(self._next + steps, self._count)
        began, _ = time.perf_counter(), self.trainer.train_steps.take_seconds()
        self._state, metrics = self.trainer.advance(self._state, self._plan, self._settings, self._next, last)
        jax.device_get(metrics)
        seconds = time.perf_counter() - began - self.trainer.train_steps.take_seconds()
        done, self._next = last - self._next, last
        return done, seconds

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return sum(x.size for x in jax.tree.leaves(self._state.params)) // len(self._seeds)

    def device_peak(self) -> int | None:
        """Bytes of memory that the device has held at most; None where it is the processor."""
        stats = jax.local_devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else None

    def executable(self) -> Any:
        """The compiled steps."""
        self._turn_page()
        return self.trainer.executable(self._state, self._plan, self._settings)

    def _turn_page(self) -> None:
        """The next plan, where all of this one is done."""
        if self._next < self._count:
            return
        began = time.perf_counter()
        following = next(self._blocks, None)
        if following is None:
            self._blocks = self.trainer.plans(self._seeds, [self._epoch] * len(self._seeds), 0)
            self._epoch += 1
            following = next(self._blocks)
        steps, self._plan = following
        self._count = len(steps)
        self._next = 0
        self.planning.append(time.perf_counter() - began)
