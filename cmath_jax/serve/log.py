"""Writes the log of the server: for those who run it, and not for clients to fill, or to be read in.

Every record begins somewhere in the code: those of one place are written once a minute, and then counted. Of an
exception the log has the places and the kinds, but no message: it may hold what a client has written.
"""

import contextlib
import logging
import math
import os
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

SECONDS = 60.0  # in which records of the same place are written once
LONGEST = 500  # characters of a message
PLACES = 1000  # of which it is known when they were written last
MACHINE = ("jaxlib", "jax")  # packages whose messages are about the machine


def set_up() -> None:
    """Lets all loggers of the process write to standard error, sparsely and discreetly."""
    # A descriptor of its own, which `without_native_words` does not take away.
    handler = logging.StreamHandler(os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace"))
    handler.addFilter(Sparse())
    handler.setFormatter(Discreet("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every form that a client garbles


_native = threading.Lock()
_native_users = 0
_native_kept = -1  # the descriptor of standard error while nothing is written to it


@contextlib.contextmanager
def without_native_words() -> Iterator[None]:
    """Lets nothing reach standard error but the log: libraries in C write there what they think of each bad frame."""
    global _native_users, _native_kept
    with _native:
        if not _native_users:
            _native_kept = os.dup(2)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        _native_users += 1
    try:
        yield
    finally:
        with _native:
            _native_users -= 1
            if not _native_users:
                os.dup2(_native_kept, 2)
                os.close(_native_kept)


class Sparse(logging.Filter):
    """A filter that lets one record of each place pass in so many seconds; that one tells how many came before it."""

    def __init__(self, seconds: float = SECONDS) -> None:
        super().__init__()
        self._seconds = seconds
        self._written: dict[Any, tuple[float, int]] = {}  # place -> when, and how many have not been since
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.name, record.pathname, record.lineno, _places(record.exc_info))
        now = time.monotonic()
        with self._lock:
            when, more = self._written.get(place, (-math.inf, 0))
            if now - when < self._seconds:
                self._written[place] = when, more + 1
                return False
            if len(self._written) >= PLACES:
                self._written.clear()
            self._written[place] = now, 0
        if more:
            record.msg, record.args = f"{record.getMessage()} (and {more} times before)", ()
        return True


class Discreet(logging.Formatter):
    """A formatter that writes no message of an exception, and of a message no more than its beginning."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # that of another formatter
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is given
        record.message = record.message[:LONGEST]
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is given
        return "\n".join(_told(error) for error in _chain(ei[1]))


def _told(error: BaseException) -> str:
    """Returns where an exception was raised and of what kind it is."""
    places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    return f"{places}\n{type(error).__module__}.{type(error).__qualname__}{_message(error)}"


def _message(error: BaseException) -> str:
    """Returns the message of an exception that is about the machine, as a full disk or memory, or nothing."""
    if isinstance(error, OSError):
        return f": {error.strerror}" if error.strerror else ""
    if type(error).__module__.partition(".")[0] in MACHINE:
        return f": {str(error)[:LONGEST]}"
    return ""


def _chain(error: BaseException | None) -> list[BaseException]:
    """Returns an exception after those during or because of which it was raised."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain[::-1]


def _places(failure: Any) -> tuple[Any, ...]:
    """Returns the places in the code that an exception came through."""
    if not isinstance(failure, tuple) or failure[1] is None:
        return ()
    frames = ((frame.filename, frame.lineno) for frame in traceback.extract_tb(failure[2]))
    return (failure[0], *frames)
