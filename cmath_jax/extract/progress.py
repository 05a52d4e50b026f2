"""Shows a person how far an extraction is: a bar on a terminal, a line now and then otherwise."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

SECONDS = 10.0  # between two lines


class Counter:
    """A count of what is done: `with Counter("audio", 300, shown=True) as counter:`, and `counter.add(1)` for each."""

    def __init__(self, name: str, total: int, shown: bool) -> None:
        self._name, self._total, self._done = name, total, 0
        self._bar = tqdm(total=total, desc=name, unit="utterance") if shown and sys.stderr.isatty() else None
        self._lines = shown and self._bar is None and total > 0
        self._start = self._said = time.monotonic()

    def add(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        now = time.monotonic()
        if self._lines and (now - self._said > SECONDS or self._done == self._total):
            self._said = now
            left = (now - self._start) / max(self._done, 1) * (self._total - self._done)
            print(f"{self._name}  {self._done}/{self._total}  {left:.0f} s left", file=sys.stderr, flush=True)

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
