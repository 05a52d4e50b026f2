"""The progress of training as a person sees it: a bar on a terminal, a line per trial and epoch otherwise."""

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from cmath_jax.training import multihost


class Progress:
    """The progress of trials that are trained side by side.

    Args:
      name: shown in front of the bar.
      epochs: at most this many; the time left is counted to the last of them.
      total: steps of all these epochs.
      done: steps that an earlier run has done.
    """

    def __init__(self, name: str, epochs: int, total: int, done: int, file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._epochs, self._total, self._done = epochs, total, done
        self._first, self._start = done, time.monotonic()
        self._validation = "-"
        self._bar, self._speaks = None, multihost.writes()
        if self._file.isatty() and self._speaks:
            self._bar = tqdm(total=self._total, initial=done, desc=name, unit="step", file=self._file)

    def steps(self, count: int, losses: Sequence[float]) -> None:
        """Counts so many more steps, and shows the mean of their losses, which are those of all trials."""
        self._done += count
        if self._bar is not None and losses:
            loss = sum(losses) / len(losses)
            self._bar.set_postfix_str(f"loss {loss:.3f}, validation F1 {self._validation}", refresh=False)
            self._bar.update(count)

    def epoch(self, name: str, row: Mapping[str, Any]) -> None:
        """Shows the epoch that a trial has done."""
        self._validation = f"{row['validation']['weighted_f1']:.2f}"
        if self._bar is None and self._speaks:
            left = (time.monotonic() - self._start) / max(self._done - self._first, 1) * (self._total - self._done)
            print(
                f"{name}  epoch {row['epoch']}/{self._epochs}  loss {row['train']['loss']:.3f}  "
                f"validation F1 {self._validation}  {row['seconds']:.1f} s  at most {_duration(left)} left",
                file=self._file,
                flush=True,
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
