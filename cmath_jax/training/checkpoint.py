"""The checkpoints of a trial, its latest and its best. No other file knows Orbax.

A checkpoint is one folder, named by its step, which appears under its name only when it is complete. It holds arrays
(the train state and the standardizer of the features) and a record in JSON (config, fingerprint of the data, history).
"""

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from cmath_jax.config import differences
from cmath_jax.errors import InputError, doing

NOT_BEST = -1.0  # the selection score of a checkpoint that is no better than an earlier one
OTHER_STRUCTURE = "tree structures do not match"  # as Orbax tells it
REFUSALS = (*(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO), errno.EMFILE)


def _is_told_once(record: logging.LogRecord) -> bool:
    """Whether a record is none of Orbax's tracebacks: it logs in each of its threads what it raises as well."""
    return not (record.exc_info and "orbax" in record.pathname)


def _print_unless_late(told: Any) -> None:
    # The other writes of a checkpoint that has failed end after it, and find nobody that waits for them.
    if not (isinstance(told.exc_value, RuntimeError) and str(told.exc_value) == "Event loop is closed"):
        _print(told)


def _refusal(error: object) -> int | None:
    """Returns the code of the system error that Orbax or TensorStore tells of by another exception; None for others."""
    told = re.search(r"os_error_code='(\d+)'", str(error))
    return int(told[1]) if told else next((code for code in REFUSALS if os.strerror(code) in str(error)), None)


def _is_awaited(record: logging.LogRecord) -> bool:
    """Whether a record is none about a refused future: a full disk refuses several, and only one of them is raised."""
    return not (record.exc_info and "never retrieved" in record.getMessage() and _refusal(record.exc_info[1]))


logging.getLogger("absl").addFilter(_is_told_once)
logging.getLogger("asyncio").addFilter(_is_awaited)
_print, sys.unraisablehook = sys.unraisablehook, _print_unless_late


class Checkpoints:
    """The checkpoints of one trial, in a folder of their own."""

    def __init__(self, folder: Path, alone: bool = True) -> None:
        self.folder, self._alone = folder, alone
        policies = ocp.training.preservation_policies
        kept = [
            policies.LatestN(1),
            policies.BestN(
                get_metric_fn=lambda metrics: metrics["selection"], n=1, keep_checkpoints_without_metrics=False
            ),
        ]
        with _system_errors("opening", folder):
            self._orbax = ocp.training.Checkpointer(
                folder.resolve(),
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            )

    def save(self, step: int, arrays: Any, record: Mapping[str, Any], best: float | None) -> None:
        """Starts to write a checkpoint, and returns before it is on disk.

        Args:
          step: the number of training steps done.
          arrays: a tree of arrays in host memory, which must not change any more.
          record: plain values.
          best: the validation score if this is the best so far, else None.
        """
        selection = NOT_BEST if best is None else best
        with _system_errors("writing", self.folder):  # of this one, or of the one before
            self._orbax.save_async(step, arrays, metrics={"selection": selection}, custom_metadata=dict(record))
            if jax.process_count() > 1 and not self._alone:
                # Others that saved at the same time would meet the processes at barriers of the same name.
                self._orbax.wait()

    @property
    def empty(self) -> bool:
        return self._orbax.latest is None

    def record(self) -> dict[str, Any]:
        """Returns the record of the latest checkpoint."""
        with _system_errors("reading", self.folder):
            return dict(self._orbax.metadata(self._orbax.latest).custom_metadata)

    def latest(self, like: Any) -> Any:
        """Returns the arrays of the latest checkpoint, in the structure of `like`.

        Raises InputError where they have another one.
        """
        return self._load(self._orbax.latest, like)

    def best(self, like: Any) -> Any:
        """Returns the arrays of the checkpoint with the best validation score, in the structure of `like`.

        Raises InputError where they have another one.
        """
        with _system_errors("writing", self.folder):
            self._orbax.wait()
        # One without metrics is what is left of a checkpoint that was being deleted when the process was killed.
        whole = [checkpoint for checkpoint in self._orbax.checkpoints if checkpoint.metrics is not None]
        return self._load(max(whole, key=lambda checkpoint: checkpoint.metrics["selection"]), like)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with _system_errors("writing", self.folder):
            self._orbax.close()  # waits until all is on disk

    def _load(self, checkpoint: Any, like: Any) -> Any:
        abstract = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        try:
            with _system_errors("reading", self.folder):
                return self._orbax.load(checkpoint.step, abstract)
        except (KeyError, ValueError) as error:  # a KeyError is caused by the other
            if OTHER_STRUCTURE not in f"{error} {error.__cause__}":
                raise
            raise InputError(
                f"{self.folder}: its checkpoints are of an earlier version, whose optimizer was another; use another "
                "--workdir"
            ) from error


@contextlib.contextmanager
def _system_errors(what: str, folder: Path) -> Iterator[None]:
    """Raises as OSError what Orbax and TensorStore report as something else: a full disk is a ValueError to them."""
    with doing(f"{what} the checkpoints in", folder):
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            code = _refusal(error)
            if code is None:
                raise
            raise OSError(code, os.strerror(code)) from error


def saved_record(folder: Path, stamp: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how far the latest checkpoint of a folder is: `history`, `sums` and `done` of a `trial.Trial`.

    Raises:
      InputError: if it is of another config or other data; it names what differs.
    """
    nothing = {"history": [], "sums": {}, "done": 0}
    if not folder.exists():
        return nothing
    with Checkpoints(folder) as checkpoints:
        if checkpoints.empty:
            return nothing
        record = checkpoints.record()
    differing = differences(record["config"], stamp["config"])
    if record["fingerprint"] != stamp["fingerprint"]:
        differing.append(f"fingerprint of the data: {record['fingerprint']} there, {stamp['fingerprint']} now")
    if differing:
        raise InputError(f"{folder} holds another run; use another --workdir ({'; '.join(differing)})")
    return {name: record[name] for name in nothing}
