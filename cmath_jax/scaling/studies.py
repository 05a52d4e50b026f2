"""Measures the points of a scaling study, or compiles them for devices that are not there, into one folder.

A point that is measured or compiled is not so again, unless devices, versions or the package have changed. One that
cannot run here is named with the reason, one that fails is reported, and the others go on.
"""

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import time
import traceback
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
from jax.experimental import multihost_utils

from cmath_jax.config import Config, source_of, to_dict
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import InputError, Terminated
from cmath_jax.io.json_files import append_line, read_whole_lines
from cmath_jax.io.termination import Termination
from cmath_jax.scaling.compiled import RefusedError, compile_apart
from cmath_jax.scaling.measurement import check_counted, measure
from cmath_jax.scaling.roofline import processor
from cmath_jax.scaling.topology import Target
from cmath_jax.sweeps.experiment import Experiment, Measuring
from cmath_jax.training import multihost
from cmath_jax.training.corpora import check_usable, load_configured
from cmath_jax.training.run_folder import RunFolder

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
DRAWING = {"report", "report.py", "figures.py"}  # parts of the package that no number depends on
MEASURED, NOT_RUN, FAILED = "measured", "not run", "failed"
COMPILED, NOT_COMPILED, REFUSED = "compiled, not run", "not compiled", "refused by the compiler"
KEPT = (MEASURED, COMPILED, REFUSED)  # statuses that the same point would have again
SIMULATED_DEVICES = (
    "The devices are simulated: parts of one processor, which they share. That steps get faster or slower with their "
    "number says nothing about the speed of real devices."
)

logger = logging.getLogger(__name__)


def run_studies(experiment: Experiment, workdir: str | Path) -> dict[str, Any]:
    """Measures or compiles all points, and writes the folder; goes on where an earlier call stopped.

    Returns:
      The content of `result.json`: the studies with the numbers of each point (`Measurement.summary`, `compile_point`),
      or the reason why it has none.

    Raises:
      InputError: for data or options that cannot be used, a package that is missing, and for a folder that holds
        another study.
      Terminated: after SIGTERM.
    """
    assert experiment.measuring is not None
    configs = dict(experiment.runs.values())
    target = Target.parse(experiment.measuring.compile_for) if experiment.measuring.compile_for else None
    check_counted(experiment.config)
    if target:
        target.check_installed()
    with Termination(), RunFolder(workdir) as folder:
        numbers_of = _compiler(target) if target else _measurer(experiment)
        folder.claim(experiment.to_dict())
        folder.write_environment({})
        surroundings = environment_of(target) if target else environment()
        log = MeasurementLog(folder.path / "measurements.jsonl")
        outcomes: dict[str, dict[str, Any]] = {}
        for number, (name, config) in enumerate(configs.items(), start=1):
            stamp = _stamp(config, experiment.measuring, surroundings)
            known = log.find(stamp)
            # All processes measure what one of them does not know.
            if multihost.agree(known is None)[0]:
                known = _outcome(name, config, numbers_of, COMPILED if target else MEASURED)
                if multihost.writes() and known["status"] in KEPT:
                    log.write(stamp, known)
                logger.info("point %d of %d, %s: %s", number, len(configs), name, _readable(known))
            assert known is not None
            outcomes[name] = known
        result = _result(experiment, surroundings, outcomes)
        folder.write_result(result)
        return result


class MeasurementLog:
    """The file `measurements.jsonl`: a line for each point that was measured, and what it was measured with."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, stamp: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the latest outcome that was measured with the same; None where there is none."""
        rows = (row for row in reversed(read_whole_lines(self._path)) if row.get("stamp") == stamp)
        return next((row["outcome"] for row in rows), None)

    def write(self, stamp: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        append_line(self._path, {"stamp": stamp, "outcome": outcome})


def environment() -> dict[str, Any]:
    """Returns what decides how fast a step is, besides its config: devices, compiler, versions, the package itself."""
    devices = jax.devices()
    kinds = [f"{device.platform}: {device.device_kind}" for device in devices]
    if devices[0].platform == "cpu":
        kinds = [f"cpu: {processor()}"] * len(devices)
    return {
        "devices": kinds,
        "simulated": devices[0].platform == "cpu" and len(devices) > machines(),
        "processes": jax.process_count(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "compiler": {
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
            "few_optimizations": bool(jax.config.values["jax_disable_most_optimizations"]),
            "cache": bool(jax.config.values["jax_compilation_cache_dir"]),
        },
        "versions": {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in PACKAGES}},
        "source": source_digest(),
    }


def environment_of(target: Target) -> dict[str, Any]:
    """Returns what decides what is compiled for a target, besides its config."""
    versions = {name: importlib.metadata.version(name) for name in (*PACKAGES, target.distribution)}
    return {
        "devices": [target.sheet.name] * target.count,
        "compile_for": str(target),
        "simulated": False,
        "processes": 1,
        "compiler": {
            "XLA_FLAGS": target.environment_variables().get("XLA_FLAGS", ""),
            "few_optimizations": False,
            "cache": False,
        },
        "versions": {"python": platform.python_version(), **versions},
        "source": source_digest(),
    }


def machines() -> int:
    """Returns how many machines the processes of this run are on."""
    if jax.process_count() == 1:
        return 1
    name = np.array(zlib.crc32(platform.node().encode()), np.uint32)
    return len(np.unique(multihost_utils.process_allgather(name)))


def source_digest() -> str:
    """Returns a hash of the code that is measured and of that which measures: the package without its reports."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if not DRAWING & set(path.relative_to(package).parts):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class _Corpora:
    """The corpora of configs; the last one is kept, since points that share it follow one another."""

    def __init__(self) -> None:
        self._source: Config | None = None
        self._corpus: Corpus | None = None

    def of(self, config: Config) -> Corpus:
        source = source_of(config)
        if self._corpus is None or source != self._source:
            self._source, self._corpus = source, None
            self._corpus = load_configured(source)
        return self._corpus


def _stamp(config: Config, measuring: Measuring, surroundings: Mapping[str, Any]) -> dict[str, Any]:
    unnamed = replace(config, experiment="")
    stamp = {"config": to_dict(unnamed), "measuring": asdict(measuring), "environment": surroundings}
    return json.loads(json.dumps(stamp))


def _measurer(experiment: Experiment) -> Callable[[Config], dict[str, Any]]:
    """Returns the function that measures a config. Raises InputError if the experiment's own cannot be used."""
    assert experiment.measuring is not None
    measuring, corpora = experiment.measuring, _Corpora()
    check_usable(experiment.config, corpora.of(experiment.config))
    return lambda config: measure(config, corpora.of(config), measuring).summary()


def _compiler(target: Target) -> Callable[[Config], dict[str, Any]]:
    """Returns the function that compiles a config for the target."""
    return lambda config: compile_apart(config, target)


def _outcome(name: str, config: Config, numbers_of: Callable[[Config], dict[str, Any]], done: str) -> dict[str, Any]:
    """Returns the `status` of a point, and either its `reason` or its `date`, `seconds` and `numbers`.

    Args:
      done: the status where it has numbers.
    """
    began = time.monotonic()
    try:
        numbers = numbers_of(config)
    except RefusedError as error:
        return {"status": REFUSED, "reason": str(error)}
    except InputError as error:
        return {"status": NOT_RUN if done == MEASURED else NOT_COMPILED, "reason": str(error)}
    except Terminated:
        raise
    except Exception as error:  # of one point, be it lack of memory or a bug; the others may have better luck
        if jax.process_count() > 1:
            raise  # the other processes wait for this one
        logger.error("%s: %s", name, "".join(traceback.format_exception(error)))
        return {"status": FAILED, "reason": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "status": done,
        "date": date,
        "seconds": time.monotonic() - began,
        "numbers": numbers,
    }


def _result(
    experiment: Experiment, surroundings: Mapping[str, Any], outcomes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    studies = [
        {
            "kind": section.kind,
            "points": {
                point: {
                    "run": experiment.runs[section.kind, point][0],
                    "options": options,
                    **outcomes[experiment.runs[section.kind, point][0]],
                }
                for point, options in section.points.items()
            },
        }
        for section in experiment.sections
    ]
    simulated = {"warning": SIMULATED_DEVICES} if surroundings["simulated"] else {}
    return {
        "experiment": experiment.config.experiment,
        "environment": surroundings,
        **simulated,
        "config": to_dict(experiment.config),
        "measuring": asdict(experiment.measuring) if experiment.measuring else {},
        "studies": studies,
        "failed": {name: outcome["reason"] for name, outcome in outcomes.items() if outcome["status"] == FAILED},
        "seconds": sum(outcome.get("seconds", 0.0) for outcome in outcomes.values()),
    }


def _readable(outcome: Mapping[str, Any]) -> str:
    if "numbers" not in outcome:
        return f"{outcome['status']}: {outcome['reason']}"
    numbers = outcome["numbers"]
    if outcome["status"] == COMPILED:
        return f"{COMPILED}, in {numbers['compile_seconds']:.0f} s"
    return (
        f"{1000 * numbers['step_median']:.2f} ms a step ({1000 * numbers['step_low']:.2f} to "
        f"{1000 * numbers['step_high']:.2f}), {numbers['throughput']:.0f} utterances/s, "
        f"{100 * numbers['peak_share']:.0f} % of the peak"
    )
