"""The processes that train one run together (`jax.distributed`).

All of them run the same program on the same numbers, each with its own devices; the first one writes. One that ends,
for whatever reason, takes the others with it: they go on together, from the last checkpoint, or not at all. Most often
a collective fails, and the command line says so. If the first process has gone, or one is silent for too long, JAX may
be faster: it aborts with a message of its own (exit code 134).
"""

import contextlib
import hashlib
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

import jax
import numpy as np
import psutil
from jax._src.distributed import global_state
from jax.experimental import multihost_utils

from cmath_jax.config import ParallelConfig
from cmath_jax.errors import InputError
from cmath_jax.io.waiting import announced, duration
from cmath_jax.training.launchers import ALONE, Launched, check_settings_of_jax, launched

MEETING = 300  # seconds that processes wait for each other at the start
SILENCE = 30  # seconds without a sign of life after which a process counts as lost
PATIENCE = 3600  # seconds for the first process to write what the others have helped to compute
_ALONE = ALONE.replace("parallel.", "--config.parallel.")  # in what a command line says while it waits
_LOST = re.compile(
    "gloo|nccl(remote|system)error|connection (reset|closed|refused)|coordination service|heartbeat|barrier|deadline",
    re.IGNORECASE,
)


def start(config: ParallelConfig) -> None:
    """Finds the other processes, if there are any. It has to be called before JAX is asked for its
    devices.

    It can take minutes until all have come: whoever waits says so, and Ctrl-C ends it.

    Raises:
      InputError: if there should be others, and they cannot be found.
    """
    if jax.distributed.is_initialized() or config.distributed is False:
        return
    if config.coordinator:
        check_settings_of_jax(os.environ)
        found: Launched | None = Launched("parallel.distributed", config.num_processes, config.process_id)
    else:
        found = launched(os.environ, os.getpid())
    if found is None and not config.distributed:
        return
    logging.getLogger("jax._src.distributed").setLevel(logging.WARNING)
    processes = found.processes if found else None
    process = found.process if found else None
    address = config.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS") or ""
    began = time.monotonic()
    _in_another_thread(
        lambda: jax.distributed.initialize(
            coordinator_address=address or None,
            num_processes=processes,
            process_id=process,
            local_device_ids=_devices_of_this_one() if config.coordinator else None,
            cluster_detection_method="deactivate" if config.coordinator else None,
            initialization_timeout=MEETING,
            heartbeat_timeout_seconds=SILENCE,
            shutdown_timeout_seconds=PATIENCE,
        ),
        lambda seconds: _waits(found, seconds),
        lambda error: _lost_before_start(error, found, time.monotonic() - began),
    )


def _in_another_thread(
    work: Callable[[], None], tell: Callable[[float], str], refuse: Callable[[Exception], InputError]
) -> None:
    """Runs some work in a thread, so that Ctrl-C is heard meanwhile, which it is not inside of JAX."""
    failures: list[Exception] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:
            failures.append(error)

    worker = threading.Thread(target=guarded, daemon=True)
    worker.start()
    with announced(tell):
        while worker.is_alive():
            worker.join(1.0)
    if failures:
        (error,) = failures
        if not isinstance(error, ValueError | RuntimeError | IndexError | OSError):
            raise error
        raise refuse(error) from error


def _waits(found: Launched | None, seconds: float) -> str:
    """Says what this process waits for, as far as it can know."""
    address, left = global_state.coordinator_address, duration(max(0, MEETING - seconds))
    launcher = found.launcher if found else "parallel.distributed"
    if not address or global_state.client is None:
        return f"{launcher}: waiting to learn where the other processes are, {left} more; {_ALONE}"
    # What the variables of a launcher do not say, JAX has found out in the meantime.
    processes, process = global_state.num_processes, global_state.process_id
    who = f"process {process} of {processes} ({launcher})"
    if process == 0:
        missing = processes - connected(address)
        told = f"{missing} of {processes} are missing" if missing > 0 else "they are there, but not ready"
        whom = f"the others to come to {address}: {told}"
    else:
        told = "it is there, and waits for others too" if reachable(address) else "nobody answers there yet"
        whom = f"process 0 at {address}: {told}"
    return f"{who} waits for {whom}. It waits {left} more; {_ALONE}"


def connected(address: str) -> int:
    """Counts the processes that have come to this one, which listens at an address; itself counts as well."""
    port = int(address.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    return len({c.raddr for c in connections if c.raddr and c.laddr.port == port and c.status == "ESTABLISHED"})


def reachable(address: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except (OSError, ValueError):
        return False
    return True


def _devices_of_this_one() -> list[int] | None:
    """Returns the device that JAX gives this process if a launcher has started it, one each; None where JAX chooses."""
    try:
        told = launched(os.environ, os.getpid())
    except InputError:
        return None
    names = {"Slurm": "SLURM_LOCALID", "Open MPI": "OMPI_COMM_WORLD_LOCAL_RANK"}
    if os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        return None  # JAX reads it
    return [int(os.environ[names[told.launcher]])] if told and told.launcher in names else None


def _lost_before_start(error: Exception, found: Launched | None, seconds: float) -> InputError:
    late = f" after {duration(seconds)}" if seconds > 1 else ""
    launcher = f"{found.launcher} says that there are several, and " if found and found.processes else ""
    return InputError(
        f"{launcher}the processes of this run do not find each other{late} ({str(error).splitlines()[0]}); say where "
        "they are with parallel.coordinator=HOST:PORT, parallel.num_processes and parallel.process_id, or "
        f"{ALONE}"
    )


def writes() -> bool:
    """Whether this process is the one that writes files and speaks to the user."""
    return jax.process_index() == 0


def agree(stop: bool, steps: int = 0) -> tuple[bool, int]:
    """Whether any of the processes wants to stop, and the fewest steps that one has in mind."""
    if jax.process_count() == 1:
        return stop, steps
    with jax.transfer_guard("allow"):
        both = multihost_utils.process_allgather(np.array([stop, steps]))
    return bool(both[:, 0].any()), int(both[:, 1].min())


def require_same(what: str, value: object) -> None:
    """Waits until all processes have come here, with the same value.

    Raises:
      InputError: in all of them, if one has another value, of which two would make two different runs.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(repr(value).encode()).digest(), np.uint8)
    with jax.transfer_guard("allow"), announced(_behind):
        digests = multihost_utils.process_allgather(digest)
    if (digests != digests[0]).any():
        raise InputError(
            f"the {jax.process_count()} processes of this run see different {what}: give them all the same options, "
            "and a --workdir on a file system that they share"
        )


def _behind(seconds: float) -> str:
    return (
        f"process {jax.process_index()} of {jax.process_count()} has waited {duration(seconds)} for the others, which "
        "are still reading their data or compiling"
    )


_until_the_end = contextlib.ExitStack()


def announce_end() -> None:
    """Says from now on, if the others take long to end, that this process only waits for them."""
    told = f"process {jax.process_index()} of {jax.process_count()} is done, and waits up to {duration(PATIENCE)} for"
    _until_the_end.enter_context(announced(lambda seconds: f"{told} the others to end ({duration(seconds)} so far)"))


def tells_of_a_lost_process(error: BaseException) -> bool:
    """Whether an error in this process says that another one has ended or is silent."""
    return isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


def leave(code: int) -> NoReturn:
    """Ends this process at once. The others notice; to wait for them, as an orderly end does, could take forever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
