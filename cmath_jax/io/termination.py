"""SIGTERM as a request: finish the step, save, leave. Preemptible machines give notice that way."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from cmath_jax.errors import Terminated


class Termination:
    """`with Termination() as termination:` SIGTERM raises `Terminated`, at once, since there is nothing to save.

    Inside of `with termination.deferred():` it only sets `termination.requested`, to be asked for between steps.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False
        self._before: Any = None

    def __enter__(self) -> "Termination":
        # Only the main thread may set handlers; elsewhere the program around us keeps its own.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._deferred:
            raise Terminated("stopped with nothing left to save")
