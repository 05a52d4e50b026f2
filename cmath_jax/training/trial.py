"""A trial, the training of one config with one seed: how far it is, and where that is kept."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cmath_jax.config import Config, to_dict
from cmath_jax.errors import TrainingDivergedError
from cmath_jax.results.summary import SeedResult, best_epoch
from cmath_jax.training.checkpoint import Checkpoints, saved_record
from cmath_jax.training.devices import host_copy
from cmath_jax.training.evaluator import EVALUATED
from cmath_jax.training.run_folder import MetricsLog, RunFolder
from cmath_jax.training.step import TrainState
from cmath_jax.training.trainer import Trainer


@dataclass
class Trial:
    """The training of one config with one seed, as far as it is.

    Attributes:
      stamp: what its checkpoints must have been made with.
      history: the rows of its whole epochs.
      sums: of the metrics of an epoch that SIGTERM cut short.
      done: steps in all.
      saved: steps of its latest checkpoint.
      failure: why it went no further.
      until: after so many epochs it rests, though its config may have more; None: after all of them.
      evaluated: the splits that are scored after each epoch.
      checkpoints, log: while it is trained.
      result: of its best epoch, when it is tested.
    """

    config: Config
    seed: int
    folder: RunFolder
    stamp: Mapping[str, Any]
    history: list[dict[str, Any]]
    sums: dict[str, float]
    done: int
    saved: int
    failure: TrainingDivergedError | None = None
    until: int | None = None
    evaluated: Sequence[str] = EVALUATED
    result: SeedResult | None = None
    checkpoints: Checkpoints = field(init=False, repr=False)
    log: MetricsLog = field(init=False, repr=False)

    @classmethod
    def resumed(cls, config: Config, seed: int, folder: RunFolder, fingerprint: str) -> "Trial":
        """Returns the trial as far as its latest checkpoint says. Raises InputError as `saved_record`."""
        stamp = {"config": to_dict(config), "fingerprint": fingerprint}
        record = saved_record(folder.checkpoints(seed), stamp)
        return cls(config, seed, folder, stamp, **record, saved=record["done"])

    def opened_checkpoints(self, alone: bool = True) -> Checkpoints:
        """Returns its checkpoints, which the caller has to close; `alone` if those of no other trial are open."""
        return Checkpoints(self.folder.checkpoints(self.seed), alone)

    def opened_log(self) -> MetricsLog:
        """Returns the log of its epochs, which the caller has to close."""
        return self.folder.metrics(self.seed, self.history)

    def latest_state(self, trainer: Trainer) -> TrainState:
        """Returns its latest state, in the memory of the host; a fresh one where nothing is saved.

        Raises:
          InputError: for one that was trained on features that were standardized otherwise.
        """
        if self.checkpoints.empty:
            fresh: TrainState = host_copy(trainer.initialize(self.seed))
            return fresh
        return trainer.state_of(self.checkpoints.latest(trainer.saved_like()), self.checkpoints.folder)

    def best_state(self, trainer: Trainer) -> TrainState:
        """Returns the state with the best validation score, in the memory of the host; raises as `latest_state`."""
        with self.opened_checkpoints() as checkpoints:
            return trainer.state_of(checkpoints.best(trainer.saved_like()), checkpoints.folder)

    @property
    def active(self) -> bool:
        """Returns whether there are epochs left, and a chance that the validation score rises in one of them."""
        train = self.config.train
        epochs, patience = min(train.epochs, self.until or train.epochs), train.patience
        if self.failure is not None or len(self.history) >= epochs:
            return False
        return not 0 < patience <= len(self.history) - (best_epoch(self.history) if self.history else 0)

    @property
    def name(self) -> str:
        """Returns what messages call it."""
        return f"{self.config.experiment}, seed {self.seed}"

    def add(self, name: str, value: float) -> None:
        """Adds a number to one of the sums of the epoch."""
        self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self, metrics: Mapping[str, float], conversations: Callable[[], list[str]]) -> bool:
        """Counts a step and adds up its metrics. Returns whether they are finite; if not, the trial has failed."""
        self.done += 1
        if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"])):
            self.failure = TrainingDivergedError(
                f"{self.name}, epoch {len(self.history) + 1}, step {self.done}: the loss is {metrics['loss']}, the "
                f"norm of its gradient {metrics['gradient_norm']}; conversations {', '.join(conversations())}. "
                f"{'The last good checkpoint is kept' if self.history else 'Nothing was saved before'}; "
                "try a lower optim.learning_rate, or optim.clip_norm"
            )
            return False
        for name, value in metrics.items():
            self.add(name, value)
        return True

    def end_epoch(self, row: dict[str, Any], arrays: Any) -> None:
        """Saves an epoch, then logs it: a row that no checkpoint holds would be written twice after a resume."""
        self.history, self.sums = [*self.history, row], {}
        is_best = best_epoch(self.history) == row["epoch"]
        self.save(arrays, row["validation"]["weighted_f1"] if is_best else None)
        self.log.write(row)

    def save(self, arrays: Any, best: float | None = None) -> None:
        """Starts to write a checkpoint; `best` is the validation score if it is the best so far."""
        if self.saved == self.done and best is None:
            return  # a request to terminate came before the first step
        # Written while training goes on: of what changes in the meantime it needs a copy.
        record = {**self.stamp, "history": self.history, "sums": dict(self.sums), "done": self.done}
        self.checkpoints.save(self.done, arrays, record, best)
        self.saved = self.done
