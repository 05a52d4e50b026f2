"""`--config.profile=steps`: a trace of a few training steps, for Perfetto and XProf, where its parts have names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from cmath_jax.training import multihost

STEPS = 5


class Tracer:
    """The tracer of one call.

    Attributes:
      due: whether it still has to.
    """

    def __init__(self, folder: Path, wanted: bool) -> None:
        self._folder, self.due = folder, wanted and not folder.exists()

    def traced(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, which waits for its result, and leaves a trace of what happened until then."""

        def call(*arguments: Any) -> Any:
            self.due = False
            if not multihost.writes():
                return function(*arguments)
            with jax.profiler.trace(str(self._folder), create_perfetto_trace=True):
                return jax.block_until_ready(function(*arguments))

        return call
