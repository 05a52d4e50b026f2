"""Predicts conversations of many requests in one call.

One thread computes. Whenever it is free it takes all that waits, up to a number of utterances: alone a request waits
for nothing, and under load the batches grow by themselves.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cmath_jax.data.sources.schema import Transcript


class PredictorInterface(Protocol):
    """The methods of `cmath_jax.prediction.predictor.Predictor` that the server needs."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def modalities(self) -> str: ...
    @property
    def raw(self) -> str: ...
    @property
    def card(self) -> Any: ...
    def predict(self, transcripts: Sequence[Transcript], folder: Path | None = None) -> Sequence[list[Any]]: ...


@dataclass(frozen=True)
class _Job:
    transcript: Transcript
    answer: "Future[list[Any]]" = field(default_factory=Future)


class Batcher:
    """A queue that answers conversations in the order in which they come.

    Args:
      predict: conversations -> their predictions.
      utterances: at most so many in one call, unless a single conversation has more.
      observe: is told the conversations and the utterances of every call.
    """

    def __init__(
        self,
        predict: Callable[[Sequence[Transcript]], Sequence[list[Any]]],
        utterances: int,
        observe: Callable[[int, int], None] = lambda conversations, utterances: None,
    ) -> None:
        self._predict = predict
        self._utterances = utterances
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._since: float | None = None  # when the call that is under way began
        self._thread = threading.Thread(target=self._work, name="predictor", daemon=True)
        self._thread.start()

    def submit(self, transcripts: Sequence[Transcript]) -> list["Future[list[Any]]"]:
        """Returns a future for each conversation; one that is cancelled before its turn costs nothing."""
        jobs = [_Job(transcript) for transcript in transcripts]
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.extend(jobs)
            self._changed.notify()
        return [job.answer for job in jobs]

    @property
    def waiting(self) -> int:
        """Returns the number of conversations whose turn has not come."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    def busy_seconds(self) -> float:
        """Returns how long the call that is under way has taken; 0 where there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def close(self, seconds: float) -> None:
        """Waits for the call that is under way, at most so long; what still waits is cancelled."""
        with self._changed:
            self._closed = True
            for job in self._waiting:
                job.answer.cancel()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[_Job]:
        """Returns what is computed next; nothing where there will be nothing any more."""
        batch: list[_Job] = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    break
                size = 0
                while self._waiting and (not batch or size + len(self._waiting[0].transcript) <= self._utterances):
                    job = self._waiting.popleft()
                    if job.answer.set_running_or_notify_cancel():
                        batch.append(job)
                        size += len(job.transcript)
        return batch

    def _answer(self, batch: Sequence[_Job]) -> None:
        transcripts = [job.transcript for job in batch]
        self._since = time.monotonic()
        self._observe(len(transcripts), sum(map(len, transcripts)))
        try:
            predictions = self._predict(transcripts)
            for job, answer in zip(batch, predictions, strict=True):
                if len(answer) != len(job.transcript):
                    raise RuntimeError(f"{len(answer)} predictions for {len(job.transcript)} utterances")
        except Exception as error:  # whatever it is belongs to the request that brought it, not to this thread
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
            else:
                # One of them is to blame, and the others shall not notice.
                for job in batch:
                    self._answer([job])
        else:
            for job, answer in zip(batch, predictions, strict=True):
                job.answer.set_result(answer)
        finally:
            self._since = None
