"""Several processes that train one run together (`jax.distributed`).

All of them run the same program on the same numbers, each with its own devices; the first one writes. One that ends,
for whatever reason, takes the others with it: they go on together, from the last checkpoint, or not at all. Most often
a collective fails, and the command line says so. If the first process has gone, or one is silent for too long, JAX may
be faster: it aborts with a message of its own (exit code 134).
"""

import hashlib
import logging
import os
import re
import sys
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from cmath_jax.config import ParallelConfig
from cmath_jax.errors import InputError

SILENCE = 30  # seconds without a sign of life after which a process counts as lost
PATIENCE = 3600  # seconds for the first process to write what the others have helped to compute
_LOST = re.compile(
    "gloo|nccl(remote|system)error|connection (reset|closed|refused)|coordination service|heartbeat|barrier|deadline",
    re.IGNORECASE,
)


def start(config: ParallelConfig) -> None:
    """Finds the other processes, if there are any. To be called before anything else asks JAX for its devices.

    Raises:
      InputError: if there should be others, and they cannot be found.
    """
    if jax.distributed.is_initialized() or not (config.distributed or surrounded()):
        return
    logging.getLogger("jax._src.distributed").setLevel(logging.WARNING)
    try:
        jax.distributed.initialize(
            coordinator_address=config.coordinator or None,
            num_processes=config.num_processes or None,
            process_id=config.process_id if config.process_id >= 0 else None,
            heartbeat_timeout_seconds=SILENCE,
            shutdown_timeout_seconds=PATIENCE,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the processes of this run do not find each other ({str(error).splitlines()[0]}); say where they are with "
            "parallel.coordinator=HOST:PORT, parallel.num_processes and parallel.process_id"
        ) from error


def surrounded() -> bool:
    """Whether a launcher has started this process as one of several."""
    there = os.environ
    slurm = {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= there.keys()
    return (
        "JAX_COORDINATOR_ADDRESS" in there
        or (slurm and int(there.get("SLURM_NTASKS", "1")) > 1)
        or int(there.get("OMPI_COMM_WORLD_SIZE", "1")) > 1
        or "," in there.get("TPU_WORKER_HOSTNAMES", "")
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
    with jax.transfer_guard("allow"):
        digests = multihost_utils.process_allgather(digest)
    if (digests != digests[0]).any():
        raise InputError(
            f"the {jax.process_count()} processes of this run see different {what}: give them all the same options, "
            "and a --workdir on a file system that they share"
        )


def tells_of_a_loss(error: BaseException) -> bool:
    """Whether an error in this process says that another one has ended or is silent."""
    return isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


def leave(code: int) -> NoReturn:
    """Ends this process at once. The others notice; to wait for them, as an orderly end does, could take forever."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
