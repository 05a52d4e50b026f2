"""One seed of a run in training: what it is, and how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cmath_jax.config import Config
from cmath_jax.errors import TrainingDivergedError
from cmath_jax.results import summary
from cmath_jax.training.checkpoint import Checkpoints
from cmath_jax.training.run_folder import RunFolder


@dataclass
class Member:
    """One seed of a run, and how far it is.

    Attributes:
      stamp: what its checkpoints must have been made with.
      history: the rows of its whole epochs.
      sums: of the metrics of an epoch that SIGTERM cut short.
      done: steps in all.
      failure: why it went no further.
    """

    config: Config
    seed: int
    folder: RunFolder
    stamp: Mapping[str, Any]
    history: list[dict[str, Any]]
    sums: dict[str, float] = field(default_factory=dict)
    done: int = 0
    failure: TrainingDivergedError | None = None

    @property
    def active(self) -> bool:
        return self.failure is None and not finished(self.history, self.config)

    @property
    def name(self) -> str:
        return f"{self.config.experiment}, seed {self.seed}"

    def add(self, name: str, value: float) -> None:
        """To one of the sums."""
        self.sums[name] = self.sums.get(name, 0.0) + value

    def save(self, store: Checkpoints, arrays: Any, best: float | None) -> None:
        # Written while training goes on: of what changes in the meantime it needs a copy.
        record = {**self.stamp, "history": self.history, "sums": dict(self.sums), "done": self.done}
        store.save(self.done, arrays, record, best)


def finished(history: Sequence[Mapping[str, Any]], config: Config) -> bool:
    """Whether all epochs are done, or the validation score has not risen for as many as the patience."""
    if not history or len(history) >= config.train.epochs:
        return bool(history)
    return 0 < config.train.patience <= len(history) - summary.best_epoch(history)
