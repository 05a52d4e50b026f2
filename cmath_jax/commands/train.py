"""Runs the command line `launch.py --config FILE [--workdir DIR] [--shard I/N] [--config.NAME=VALUE ...]`."""

import functools
import logging
import os
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmath_jax.commands.experiments import listed, path_of
from cmath_jax.config import Config, DataConfig, flat, roles, to_dict
from cmath_jax.data.load import check_source
from cmath_jax.data.sources.simulate import Simulation
from cmath_jax.errors import FailedError, InputError, Terminated, doing, nearest
from cmath_jax.io.command import DONE, FAILED, answer, respelled, tell
from cmath_jax.sweeps import experiment as experiments
from cmath_jax.sweeps.shards import Shard
from cmath_jax.training import compiler

USAGE = """usage: python launch.py --config FILE [--workdir DIR] [--shard I/N] [--config.NAME=VALUE ...]

  --config FILE          an experiment by its name (meld) or its path (experiments/meld.py), or the config.json of a run
  --workdir DIR          the run folder, default runs/NAME; a run that is there already is continued
  --shard I/N            of a sweep: only part I (from 0) of N, in the folder part-I-of-N of DIR; once they are all
                         done, or before, python -m cmath_jax.report DIR/part-* makes one report of them
  --config.NAME=VALUE    changes an option, as in --config.optim.learning_rate=1e-3
  --help                 this text; with --config FILE every option and its value
"""

GOES_ON = "The same command goes on from the last epoch that was saved, or begins if there is none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done or safely interrupted, 1 failed, 2 bad input, 130 interrupted."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    spellings = {name: f"--config.{name}" for name in roles()}
    spellings |= {f"simulation.{name}": f"--config.data.simulation.{name}" for name in vars(Simulation())}
    groups = {name.rpartition(".")[0] for name in spellings if "." in name}
    spellings |= {f"{group}.NAME": f"--config.{group}.NAME" for group in groups}
    code = answer(lambda: _one_of_several(given, spellings), f"interrupted. {GOES_ON}", spellings)
    if _is_one_of_several():
        from cmath_jax.training import multihost

        if code:
            multihost.leave(code)
        multihost.announce_end()
    return code


def _one_of_several(arguments: list[str], spellings: dict[str, str]) -> int:
    """Runs the command. Of several processes one that fails must not wait for the others, whatever it fails of."""
    try:
        return _run(arguments, spellings)
    except (InputError, FailedError, Terminated, OSError, MemoryError):
        raise
    except Exception as error:
        if not _is_one_of_several():
            raise
        from cmath_jax.training import multihost

        if multihost.tells_of_a_lost_process(error):
            first = str(error).splitlines()[0]
            raise FailedError(f"another process is lost, and this one ends ({first}). {GOES_ON}") from error
        traceback.print_exc()
        return FAILED


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")  # a slip of the pen is answered without it
    return jax is not None and jax.distributed.is_initialized()


def _run(arguments: list[str], spellings: dict[str, str]) -> int:
    path, workdir, shard, overrides, wants_help = _parse(arguments)
    if path is None:
        if not wants_help:
            raise InputError("--config FILE is missing; --help says more")
        tell("\n".join([USAGE, "experiments:", *listed()]))
        return 0
    path = path_of(path)
    parameters = experiments.parameters(path)
    # What was given is spelled as it was given, also where it is no option.
    spellings |= {name: f"--config.{name}" for name in (*parameters, *overrides)}
    experiment = experiments.load(path, overrides)
    config = experiment.config
    if wants_help:
        tell("\n".join([USAGE, _options(parameters, config)]))
        return 0
    folder = Path(workdir or Path("runs") / config.experiment)
    if shard and experiment.measuring:
        raise InputError("--shard splits the points of a sweep; a scaling study is measured as a whole")
    part = shard.of(experiment) if shard else experiment
    trained = [] if experiment.measuring else [run for _, run in experiment.runs.values()]
    for source in dict.fromkeys((each.dataset, each.data) for each in (config, *trained)):
        _check_source(*source)
    if shard:
        folder /= shard.folder
        if not part.sections:
            tell(f"{folder}: there are fewer runs than parts, and none is left for this one")
            return 0
    with doing("working in --workdir", folder):
        return _train(part, folder, bool(shard))


def _train(experiment: experiments.Experiment, folder: Path, is_part: bool) -> int:
    logger = logging.getLogger("cmath_jax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    compiler.set_flags()
    elsewhere = bool(experiment.measuring and experiment.measuring.compile_for)
    if elsewhere:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # what is compiled for other devices needs none of this machine
        # It complains of the libraries of a GPU, which run programs and compile none.
        logging.getLogger("jax._src.xla_bridge").setLevel(logging.CRITICAL)
    # Only now, so that a slip of the pen is answered at once.
    from cmath_jax.report import write_report
    from cmath_jax.results.summary import readable, readable_sweep
    from cmath_jax.sweeps.sweep import run_sweep
    from cmath_jax.training import multihost
    from cmath_jax.training.fit import fit

    if not (is_part or elsewhere):  # parts know nothing of each other, and what is only compiled needs nobody
        multihost.start(experiment.config.parallel)
    compiler.check_platform()
    if experiment.measuring:
        return _measure(experiment, folder)
    result = run_sweep(experiment, folder) if experiment.sections else fit(experiment.config, folder)
    if multihost.writes():
        tell(readable_sweep(result, folder) if experiment.sections else readable(result))
        tell(f"report: {write_report([folder])}")
        logger.info(_next_steps(experiment, folder, result))
    return FAILED if result.get("failed") else DONE


def _check_source(dataset: str, data: DataConfig) -> None:
    """Raises InputError if data are not there: at once, before anything is imported that takes its time."""
    names = ("dir", "features_dir", "feature_set", "file", "validation")
    try:
        check_source(dataset, **{name: getattr(data, name) for name in names})
    except InputError as error:
        raise InputError(respelled(str(error), {name: f"data.{name}" for name in vars(data)})) from error


def _measure(experiment: experiments.Experiment, folder: Path) -> int:
    from cmath_jax.scaling import report
    from cmath_jax.scaling.studies import run_studies
    from cmath_jax.training import multihost

    result = run_studies(experiment, folder)
    if multihost.writes():
        tell(report.readable(result))
        tell(f"report: {report.write(folder, result)}")
    return 1 if result["failed"] else 0


def _options(parameters: Mapping[str, Any], config: Config) -> str:
    """Returns all options and their values by groups, each under a line that says what it is."""
    values = flat(to_dict(config))
    groups: dict[str, dict[str, Any]] = {"this experiment": {n: v for n, v in parameters.items() if n not in values}}
    for name, value in values.items():
        group = name.rpartition(".")[0]
        described: Any = functools.reduce(getattr, filter(None, group.split(".")), config)
        title = (type(described).__doc__ or "").partition("\n")[0]
        groups.setdefault(f"{group}: {title}" if group else "every experiment", {})[name] = value
    blocks = [[title, *(f"  --config.{n}={v}" for n, v in group.items())] for title, group in groups.items() if group]
    return "\n\n".join("\n".join(block) for block in blocks)


def _next_steps(experiment: experiments.Experiment, folder: Path, result: Mapping[str, Any]) -> str:
    """Returns the commands that go on from a run or a sweep, a line each, with what they do."""
    from cmath_jax.results.circumstances import Circumstances

    place = shlex.quote(str(folder))
    if experiment.whole:
        steps = {f"report {shlex.quote(str(folder.parent))}/part-*": "one report of all parts, done or not"}
    elif experiment.sections:
        steps = {f"report {place} DIR": "one report of this sweep and others"}
    else:
        made = {each.origin for each in Circumstances.read(result, {}).features.values()}
        from_words = {
            f"predict --checkpoint {place} FILE": "labels conversations of FILE, .jsonl or .txt",
            f"serve --checkpoint {place}": "a page to try it, and a JSON API",
        }
        from_features = {f"predict --checkpoint {place} DIR": "labels conversations of DIR, which has their features"}
        steps = from_words if made == {"extracted"} else from_features
        steps = steps | {f"report {place} DIR": "one report of this run and others"}
    width = max(map(len, steps))
    lines = [f"python -m cmath_jax.{step:<{width}}  # {what}" for step, what in steps.items()]
    return "next: " + "\n      ".join(lines)


def _parse(arguments: list[str]) -> tuple[str | None, str | None, Shard | None, dict[str, str], bool]:
    """Returns the config file, the run folder, the part of a sweep, the overridden options, and if help is wanted."""
    single: dict[str, str] = {}
    overrides: dict[str, str] = {}
    left = iter(arguments)
    for argument in left:
        if argument in ("--help", "-h"):
            single["--help"] = ""
            continue
        name, equals, value = argument.partition("=")
        if not (name in ("--config", "--workdir", "--shard") or name.startswith("--config.")):
            raise InputError(f"unknown argument {argument!r}; {_hint(name)}")
        if not equals:
            value = next(left, "")
            if not value or value.startswith("--"):
                raise InputError(f"{name} is given no value")
        target, key = (overrides, name.removeprefix("--config.")) if name.startswith("--config.") else (single, name)
        if key in target:
            raise InputError(f"{name} is given twice")
        target[key] = value
    shard = Shard.parse(single["--shard"]) if "--shard" in single else None
    return single.get("--config"), single.get("--workdir"), shard, overrides, "--help" in single


def _hint(name: str) -> str:
    """Returns what may have been meant by an unknown argument: one of ours, or an option without its beginning."""
    near = nearest(name, ("--config", "--workdir", "--shard", "--help")) if name.startswith("--") else None
    if near is None and name.startswith("--"):
        options = [f"--config.{each}" for each in roles()]
        near = nearest("--config." + name.removeprefix("--").removeprefix("config").lstrip(".-"), options)
    return f"did you mean {near}?" if near else "--help lists what there is"
