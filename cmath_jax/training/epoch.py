"""The epochs of trials that are trained side by side: chunks of steps on the devices, and their numbers on the host."""

import resource
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from cmath_jax.errors import TrainingDivergedError
from cmath_jax.evaluation.metrics import scored
from cmath_jax.io.termination import Termination
from cmath_jax.training.devices import TRIAL
from cmath_jax.training.multihost import agree
from cmath_jax.training.progress import Progress
from cmath_jax.training.tracing import STEPS as TRACED
from cmath_jax.training.tracing import Tracer
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.trial import Trial

SECONDS = 1.0  # that the devices work by themselves, between two looks of the host
TIMES = ("seconds", "compile_seconds")  # of an epoch; they stand beside its metrics


class Epochs:
    """Trains and evaluates epoch after epoch.

    The devices do a chunk of steps by themselves; how many make one changes no result (`step.train_steps`).
    """

    def __init__(self, trainer: Trainer, trials: Sequence[Trial], progress: Progress, termination: Termination) -> None:
        self._trainer, self._trials, self._progress, self._termination = trainer, trials, progress, termination
        self._hyper_params = trainer.hyper_params([trial.config for trial in trials])
        self._tracer = Tracer(trials[0].folder.path / "profile", trials[0].config.profile != "")
        self._chunk, self._measured = 1, False
        self._began = time.monotonic()

    def train(self, state: Any) -> tuple[Any, bool]:
        """Trains the rest of an epoch, up to a request to terminate.

        Counts steps, and sums up metrics, `seconds` without compilation and `compile_seconds`, in every active trial.
        One whose loss or gradient is not finite has failed.

        Returns:
          The state, and whether the epoch is done.
        """
        trainer, running = self._trainer, [trial for trial in self._trials if trial.active]
        began, pending = time.monotonic(), None
        batches, epoch = trainer.batches, len(running[0].history)
        done, stop = running[0].done - batches.steps_before(epoch), False
        # It may have been compiled before, to see how much memory it needs.
        earlier, self._began = trainer.train_steps.take_seconds(), time.monotonic()
        # One that has stopped is computed too: in an epoch of as many steps as the others have.
        epochs = [len(trial.history) if trial.active else epoch for trial in self._trials]
        for block, plan in trainer.plans([trial.seed for trial in self._trials], epochs, done):
            # Between host and device nothing travels but two numbers that go, and those of every step that come.
            with jax.transfer_guard("disallow"):
                while done < block.stop and not (stop := self._stops(running)):
                    chunk, advance = range(done, min(done + self._chunk, block.stop)), trainer.advance
                    if self._tracer.due and self._measured:
                        chunk, advance = chunk[:TRACED], self._tracer.traced(advance)
                    bounds = chunk.start - block.start, chunk.stop - block.start
                    state, metrics = advance(state, plan, self._hyper_params, *bounds)
                    # The host is one chunk behind: it reads numbers while the devices are busy with the next.
                    self._take(pending, epochs)
                    pending, done = (block.start, chunk, metrics), chunk.stop
            if stop:
                break
        self._take(pending, epochs)
        compiled = trainer.train_steps.take_seconds()
        for trial in running:
            # The share of a trial: over all of them they add up to the time that it took.
            trial.add("compile_seconds", (earlier + compiled) / len(running))
            trial.add("seconds", (time.monotonic() - began - compiled) / len(running))
        return state, done == batches.steps_of(epoch)

    def _stops(self, running: Sequence[Trial]) -> bool:
        """Returns whether all processes stop here; they also agree on the next chunk."""
        stop, self._chunk = agree(self._termination.requested, self._chunk)
        return stop or not any(trial.active for trial in running)

    def _take(self, pending: tuple[int, range, Any] | None, epochs: Sequence[int]) -> None:
        """Takes the numbers of a chunk into the trials, and from its time how many steps the next ones should have."""
        if pending is None:
            return
        start, chunk, metrics = pending
        conversations = self._trainer.conversations
        of_trials, losses = self._trainer.devices.get(metrics, TRIAL), []
        for step in chunk:
            for t, (trial, epoch) in enumerate(zip(self._trials, epochs, strict=True)):
                values = {name: float(value_ts[t, step - start]) for name, value_ts in of_trials.items()}
                if trial.active and trial.take(values, partial(conversations, trial.seed, epoch, step)):
                    losses.append(values["loss"])
        now = time.monotonic()
        fitting = len(chunk) * SECONDS / max(now - self._began, 1e-6)
        self._chunk, self._began, self._measured = max(1, min(round(fitting), 2 * self._chunk)), now, True
        self._progress.steps(len(chunk), losses)

    def evaluate(self, state: Any, active: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Evaluates the trials of these numbers after an epoch. One whose parameters give no probabilities has failed.

        Returns:
          The row of `metrics.jsonl` for each of the others, by its number.
        """
        trainer, evaluator = self._trainer, self._trainer.evaluator
        probability = {split: evaluator.probabilities(state.evaluated, split) for split in self._trials[0].evaluated}
        compiled = evaluator.eval_step.take_seconds() / max(len(active), 1)
        rows = {}
        for t in active:
            trial, epoch = self._trials[t], len(self._trials[t].history) + 1
            try:
                labels = trainer.corpus.labels
                scores = {split: scored(split, labels(split), x_tnc[t])[1] for split, x_tnc in probability.items()}
            except TrainingDivergedError as error:
                trial.failure = TrainingDivergedError(f"{trial.name}, epoch {epoch}: {error}")
                continue
            steps = trainer.batches.steps_of(epoch - 1)
            metrics = {name: x / steps for name, x in trial.sums.items() if name not in TIMES}
            rows[t] = {
                **{"seed": trial.seed, "epoch": epoch, "step": trial.done, "train": metrics, **scores},
                "seconds": trial.sums["seconds"],
                "compile_seconds": trial.sums["compile_seconds"] + compiled,
                "peak_memory_mb": _peak_memory(),
            }
        return rows


def _peak_memory() -> int:
    """Returns the most memory that this process has had, in MB."""
    macos = sys.platform == "darwin"  # counts bytes where Linux counts kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if macos else 2**10)
