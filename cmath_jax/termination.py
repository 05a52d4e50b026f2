"""SIGTERM as a request: finish the step, save, leave. Preemptible machines give notice that way."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Termination:
    """`with Termination() as termination:` then ask `termination.requested` between steps."""

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> "Termination":
        # Only the main thread may set handlers; elsewhere the program around us keeps its own.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
