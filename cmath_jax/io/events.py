"""TensorBoard's events, written where they are told: what fails to be written fails here.

tensorboardX's own `SummaryWriter` has a thread for it, which a full disk ends; whoever tells more than its queue holds
then waits for ever.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from cmath_jax.errors import doing


class Events:
    """A file of events in a folder. Events from step `first` on that another file has are no longer shown."""

    def __init__(self, folder: Path, first: int) -> None:
        self._folder = folder
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{first}"
        with doing("writing TensorBoard events in", folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = RecordWriter(str(folder / name))
            self._write(Event(step=first, file_version="brain.Event:2"))
            self._write(Event(step=first, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Writes the values of a step. Raises OSError."""
        with doing("writing TensorBoard events in", self._folder):
            for name, value in values.items():
                self._write(Event(step=step, summary=scalar(name, value)))
            self._file.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.write(event.SerializeToString())

    def close(self) -> None:
        """Ends the file. What could not be written has been reported before."""
        with suppress(OSError):
            self._file.close()
