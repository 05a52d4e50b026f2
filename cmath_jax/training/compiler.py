"""The flags of XLA, the platform of JAX, and compiled functions that know how long their compilation took.

Only a program may set XLA's flags, not a library: they hold for the whole process.
"""

import os
import time
from typing import Any

from cmath_jax.errors import InputError

OPTIONS = "--xla_backend_extra_options"


def set_flags() -> None:
    """Lets a processor compute several results in one pass over memory: Adam's update, above all.

    It has to be called before JAX looks for its devices. Options that the user has set are left alone.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if OPTIONS not in flags:
        # Unlike a flag of its own, an option that a version of XLA does not know is ignored.
        os.environ["XLA_FLAGS"] = f"{flags} {OPTIONS}=xla_cpu_use_multi_output_fusion=true".strip()


def check_platform() -> None:
    """Raises InputError where JAX cannot compute on any of the platforms that JAX_PLATFORMS names."""
    import jax  # only here: the flags have to be set without it

    asked = os.environ.get("JAX_PLATFORMS")
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:  # of no plug-in at all, and of one without a device
        told = str(error).partition("\n")[0] or "nothing that is installed knows it"
        raise InputError(
            f"JAX cannot compute on JAX_PLATFORMS={asked} ({told}); its wheels for GPUs and TPUs are installed as "
            "docs/getting_started.md says, and JAX_PLATFORMS=cpu takes the processor"
        ) from error


class Compiled:
    """A jitted function that is compiled once for each shape of its second argument, a plan.

    Attributes:
      seconds: what its compilations have taken in all.
    """

    def __init__(self, function: Any) -> None:
        self.seconds = 0.0
        self._taken = 0.0
        self._function = function
        self._executables: dict[tuple[int, ...], Any] = {}

    def take_seconds(self) -> float:
        """Returns what its compilations have taken since it was last asked."""
        seconds, self._taken = self.seconds - self._taken, self.seconds
        return seconds

    def __call__(self, first: Any, plan: Any, *rest: Any) -> Any:
        return self.executable(first, plan, *rest)(first, plan, *rest)

    def executable(self, first: Any, plan: Any, *rest: Any) -> Any:
        """Returns the compiled program for arguments of these shapes, which may be abstract."""
        shape = plan.utterance_rl.shape
        if shape not in self._executables:
            start = time.monotonic()
            self._executables[shape] = self._function.lower(first, plan, *rest).compile()
            self.seconds += time.monotonic() - start
        return self._executables[shape]
