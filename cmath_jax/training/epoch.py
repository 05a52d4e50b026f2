"""One epoch of a crew: stretches of steps on the devices, and what the host makes of their numbers."""

import math
import resource
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from cmath_jax.errors import TrainingDivergedError
from cmath_jax.io.termination import Termination
from cmath_jax.training.multihost import agree
from cmath_jax.training.progress import Progress
from cmath_jax.training.step import TrainState
from cmath_jax.training.tracing import STEPS as TRACED
from cmath_jax.training.tracing import Tracer
from cmath_jax.training.trainer import Program
from cmath_jax.training.trial import Member

SECONDS = 1.0  # that the devices work by themselves, between two looks of the host


class Pace:
    """How many steps make a stretch. It changes no result: see `step.train_steps`."""

    def __init__(self) -> None:
        self.steps, self.known = 1, False
        self._last = time.monotonic()

    def start(self) -> None:
        """A stretch begins, and none is at work before it."""
        self._last = time.monotonic()

    def measured(self, steps: int) -> None:
        """A stretch of so many steps is done."""
        now = time.monotonic()
        fitting = steps * SECONDS / max(now - self._last, 1e-6)
        self.steps, self._last, self.known = max(1, min(round(fitting), 2 * self.steps)), now, True


def train_epoch(
    program: Program,
    crew: Sequence[Member],
    state: TrainState,
    settings: Any,
    first: int,
    pace: Pace,
    tracer: Tracer,
    progress: Progress,
    termination: Termination,
) -> tuple[TrainState, int]:
    """The steps of an epoch from `first` on, to its end or to a request to terminate.

    Counts steps, and sums up metrics, `seconds` without compilation and `compile_seconds`, in every active member. One
    whose loss or gradient is not finite gets a `failure` that names step and conversations.

    Returns:
      The state, and how many steps of the epoch are done.
    """
    running = [member for member in crew if member.active]
    epochs = [len(member.history) for member in crew]

    def collect(start: int, stretch: range, metrics: Any) -> None:
        losses: list[float] = []
        by_member = program.engine.get_metrics(metrics)
        for step in stretch:
            for member, epoch, values in zip(crew, epochs, by_member, strict=True):
                if member.active:
                    here = {name: float(value_s[step - start]) for name, value_s in values.items()}
                    losses += _take(program, member, epoch, step, here)
        pace.measured(len(stretch))
        progress.steps(len(stretch), losses)

    # It may have been compiled before, to see how much memory it needs.
    began, earlier = time.monotonic(), program.train_steps.take_seconds()
    pending, done = None, first
    stop, steps = agree(termination.requested, pace.steps)
    pace.start()
    for block, plan in program.blocks([member.seed for member in crew], epochs, first):
        # Between host and device nothing travels but two numbers that go, and those of every step that come.
        with jax.transfer_guard("disallow"):
            while done < block.stop and not stop:
                stretch, advance = range(done, min(done + steps, block.stop)), program.advance
                if tracer.due and pace.known:
                    stretch, advance = stretch[:TRACED], tracer.traced(advance)
                state, metrics = advance(state, plan, settings, stretch.start - block.start, stretch.stop - block.start)
                # The host is one stretch behind: it reads numbers while the devices are busy with the next.
                if pending is not None:
                    collect(*pending)
                pending, done = (block.start, stretch, metrics), stretch.stop
                stop, steps = agree(termination.requested, pace.steps)
                stop = stop or not any(member.active for member in running)
        if stop:
            break
    if pending is not None:
        collect(*pending)
    compiled = program.train_steps.take_seconds()
    for member in running:
        # A member's share: over all members they add up to the time that it took.
        member.add("compile_seconds", (earlier + compiled) / len(running))
        member.add("seconds", (time.monotonic() - began - compiled) / len(running))
    return state, done


def _take(program: Program, member: Member, epoch: int, step: int, values: dict[str, float]) -> list[float]:
    """The numbers of a step go into the sums of a member. Returns the loss; nothing if it is not finite."""
    member.done += 1
    if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
        conversations = ", ".join(program.conversations(member.seed, epoch, step))
        member.failure = TrainingDivergedError(
            f"{member.name}, epoch {epoch + 1}, step {member.done}: the loss is {values['loss']}, the norm of its "
            f"gradient {values['gradient_norm']}; conversations {conversations}. "
            f"{'The last good checkpoint is kept' if member.history else 'Nothing was saved before'}; "
            "try a lower optim.learning_rate, or optim.clip_norm"
        )
        return []
    for name, value in values.items():
        member.add(name, value)
    return [values["loss"]]


def epoch_rows(program: Program, state: TrainState, crew: Sequence[Member], running: Sequence[int]) -> dict[int, Any]:
    """By the place of a running member in its crew: its row of `metrics.jsonl` for the epoch that is done.

    One whose parameters give no probabilities gets a `failure` instead.
    """
    macos = sys.platform == "darwin"  # counts bytes where Linux counts kilobytes
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if macos else 2**10)
    probability = {split: program.probabilities(state.evaluated, split) for split in ("validation", "test")}
    compiled = program.eval_step.take_seconds() / max(len(running), 1)
    rows = {}
    for i in running:
        member, sums = crew[i], crew[i].sums
        try:
            scores = {
                split: program.score(split, probability_mnc[i])[1] for split, probability_mnc in probability.items()
            }
        except TrainingDivergedError as error:
            member.failure = TrainingDivergedError(f"{member.name}, epoch {len(member.history) + 1}: {error}")
            continue
        measured = ("seconds", "compile_seconds")
        rows[i] = {
            "seed": member.seed,
            "epoch": len(member.history) + 1,
            "step": member.done,
            "train": {name: sums[name] / program.batches.steps for name in sums if name not in measured},
            **scores,
            "seconds": sums["seconds"],
            "compile_seconds": sums["compile_seconds"] + compiled,
            "peak_memory_mb": memory,
        }
    return rows
