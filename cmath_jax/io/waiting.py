"""Announcements of waiting: for what, and for how long, on standard error."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

FIRST, AGAIN = 10.0, 60.0  # seconds until it is said, and until it is said again


@contextlib.contextmanager
def announced(tell: Callable[[float], str]) -> Iterator[None]:
    """Says what is waited for, where the block takes longer than 10 seconds, and then every minute.

    Args:
      tell: seconds that it has taken -> the line.
    """
    done = threading.Event()
    began = time.monotonic()

    def speak() -> None:
        pause = FIRST
        while not done.wait(pause):
            with contextlib.suppress(OSError, ValueError):  # nobody may be reading
                print(tell(time.monotonic() - began), file=sys.stderr, flush=True)
            pause = AGAIN

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()


def duration(seconds: float) -> str:
    """Returns a number of seconds as `45 s`, `5 min`, `1 min 30 s`, `1 h`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if minutes else "", f"{rest} s" if rest else ""]
    return " ".join(filter(None, parts)) or "0 s"
