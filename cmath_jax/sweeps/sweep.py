"""Trains the runs of a sweep's points, group by group, into one folder.

Runs of one structure go through one program (`grouping.py`). A run that is finished is not trained again; one that
fails is reported, and the others go on. Of an experiment with a `Tuning`, hyper-parameters are searched for first.
"""

import logging
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from cmath_jax.config import Config, source_of, structure, to_dict
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import InputError, Terminated
from cmath_jax.io.termination import Termination
from cmath_jax.results.summary import References
from cmath_jax.sweeps.experiment import Experiment
from cmath_jax.sweeps.search import check_can_search, search_points
from cmath_jax.training.corpora import check_usable, load_configured
from cmath_jax.training.fit import fit_runs
from cmath_jax.training.multihost import require_same
from cmath_jax.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


def run_sweep(experiment: Experiment, workdir: str | Path) -> dict[str, Any]:
    """Trains all points, and writes the sweep's folder; goes on where an earlier call stopped.

    Returns:
      The content of its `result.json`: sections with the run of each point, and what failed. Scores are in the
      `result.json` of the runs, in `runs/NAME`.

    Raises:
      InputError: for data or options that cannot be used, and for a folder that holds another sweep.
      Terminated: after SIGTERM, when the state is saved.
    """
    began = time.monotonic()
    if experiment.tuning:
        check_can_search(experiment)
    configs = dict(experiment.runs.values())
    with Termination() as termination, RunFolder(workdir) as folder:
        corpora = {source: load_configured(source) for source in dict.fromkeys(map(source_of, configs.values()))}
        for config in configs.values():
            check_usable(config, corpora[source_of(config)])
        folder.claim(experiment.to_dict())
        references = {source: References(corpus) for source, corpus in corpora.items()}
        base = corpora[source_of(experiment.config)]
        folder.write_environment({"data": {"source": base.source, "fingerprint": base.fingerprint()}})
        failed: dict[str, str] = {}

        earlier = folder.read_result().get("seconds", 0.0)
        found: dict[str, Any] = {}
        if experiment.tuning:
            experiment, found, failed = search_points(experiment, folder.path, corpora, termination)
            configs = {name: config for name, config in experiment.runs.values() if name not in failed}

        def write() -> dict[str, Any]:
            missing = [name for name in configs if not folder.run(name).read_result() and name not in failed]
            seconds = earlier + time.monotonic() - began
            result = _summary(experiment, base, failed, missing, seconds) | found
            folder.write_result(result)
            return result

        result = write()
        groups = _groups(folder, configs, corpora)
        require_same("runs that are finished", [list(group) for group in groups])
        for group in groups:
            source = source_of(next(iter(group.values())))
            try:
                failed |= _train_group(folder, group, corpora[source], references[source], termination)
            finally:
                result = write()
        return result


def _train_group(
    folder: RunFolder,
    group: Mapping[str, Config],
    corpus: Corpus,
    references: References,
    termination: Termination,
) -> dict[str, str]:
    """Trains runs of one structure. Returns what failed: name -> a readable line."""
    with ExitStack() as stack:
        runs = [(config, stack.enter_context(folder.run(name))) for name, config in group.items()]
        try:
            outcomes = fit_runs(runs, corpus, references, termination)
        except (InputError, Terminated, OSError):
            raise  # a full disk is full for the others too
        except Exception as error:  # of one group, be it lack of memory or a bug; the others may have better luck
            if jax.process_count() > 1:
                raise  # the other processes may have none
            for _, run in runs:
                run.fail()
            logger.error("%s: %s", ", ".join(group), "".join(traceback.format_exception(error)))
            lines = f"{type(error).__name__}: {error}".strip().splitlines()
            return dict.fromkeys(group, lines[0])
        for (_, run), outcome in zip(runs, outcomes, strict=True):
            if isinstance(outcome, Exception):
                run.fail()
    failed = {
        name: str(outcome) for name, outcome in zip(group, outcomes, strict=True) if isinstance(outcome, Exception)
    }
    for message in failed.values():
        logger.error("failed: %s", message)
    return failed


def _groups(
    folder: RunFolder, configs: Mapping[str, Config], corpora: Mapping[Config, Corpus]
) -> list[dict[str, Config]]:
    """Returns the runs that have no result yet, by their structure."""
    groups: dict[Config, dict[str, Config]] = {}
    fingerprints = {source: corpus.fingerprint() for source, corpus in corpora.items()}
    for name, config in configs.items():
        run = folder.run(name)
        if not run.holds_result_of(to_dict(config), fingerprints[source_of(config)]):
            groups.setdefault(structure(config), {})[name] = config
    return list(groups.values())


def _summary(
    experiment: Experiment, corpus: Corpus, failed: Mapping[str, str], missing: list[str], seconds: float
) -> dict[str, Any]:
    sections = [
        {
            "kind": section.kind,
            "points": {
                point: {"run": experiment.runs[section.kind, point][0], "options": options}
                for point, options in section.points.items()
            },
        }
        for section in experiment.sections
    ]
    return {
        "experiment": experiment.config.experiment,
        "dataset": corpus.name,
        "source": corpus.source,
        "classes": list(corpus.classes),
        "sections": sections,
        "failed": dict(failed),
        "missing": missing,
        "seconds": seconds,
    }
