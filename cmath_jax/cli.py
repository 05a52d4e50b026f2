"""The command line: `launch.py --config FILE [--workdir DIR] [--shard I/N] [--config.NAME=VALUE ...]`."""

import logging
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from cmath_jax import compiler
from cmath_jax import experiment as experiments
from cmath_jax.command import shorten_warnings
from cmath_jax.config import flat, to_dict
from cmath_jax.errors import InputError, Terminated, TrainingDivergedError
from cmath_jax.shards import Shard

USAGE = """usage: python launch.py --config FILE [--workdir DIR] [--shard I/N] [--config.NAME=VALUE ...]

  --config FILE          an experiment (experiments/meld.py) or the config.json of a run
  --workdir DIR          the run folder, default runs/NAME; a run that is there already is continued
  --shard I/N            of a sweep: only part I (from 0) of N, in the folder part-I-of-N of DIR; once they are all
                         done, or before, python -m cmath_jax.report DIR/part-* makes one report of them
  --config.NAME=VALUE    changes an option, as in --config.optim.learning_rate=1e-3
  --help                 this text; with --config FILE also every option and its value
"""

GOES_ON = "The same command goes on from the last epoch that was saved"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done or safely interrupted, 1 failed, 2 bad input."""
    code = _main(sys.argv[1:] if arguments is None else list(arguments))
    if code and _is_one_of_several():
        from cmath_jax import distributed

        distributed.leave(code)
    return code


def _main(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingDivergedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Terminated as stopped:
        print(f"{stopped}. The same command goes on from there", file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print(f"interrupted. {GOES_ON}", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_one_of_several():
            raise
        from cmath_jax import distributed

        if distributed.tells_of_a_loss(error):
            first = str(error).splitlines()[0]
            print(f"error: another process is lost, and this one ends ({first}). {GOES_ON}", file=sys.stderr)
        else:
            traceback.print_exc()
        return 1


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")  # a slip of the pen is answered without it
    return jax is not None and jax.distributed.is_initialized()


def _run(arguments: list[str]) -> int:
    path, workdir, shard, overrides, wants_help = _parse(arguments)
    if path is None:
        if not wants_help:
            raise InputError("--config FILE is missing; --help says more")
        print(USAGE, end="")
        return 0
    experiment = experiments.load(path, overrides)
    config = experiment.config
    if wants_help:
        print(USAGE)
        for name, value in (experiments.parameters(path) | flat(to_dict(config))).items():
            print(f"  --config.{name}={value}")
        return 0
    folder = Path(workdir or Path("runs") / config.experiment)
    if shard and experiment.measuring:
        raise InputError("--shard splits the points of a sweep; a scaling study is measured as a whole")
    if shard:
        experiment, folder = shard.of(experiment), folder / shard.folder
        if not experiment.sections:
            print(f"{folder}: there are fewer runs than parts, and none is left for this one")
            return 0
    shorten_warnings()
    logger = logging.getLogger("cmath_jax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    compiler.set_flags()
    # Only now, so that a slip of the pen is answered at once.
    from cmath_jax import distributed
    from cmath_jax.report import write_report
    from cmath_jax.results import readable, readable_sweep
    from cmath_jax.sweep import run_sweep
    from cmath_jax.train import fit

    if not shard:  # whose parts know nothing of each other
        distributed.start(config.parallel)
    if experiment.measuring:
        return _measure(experiment, folder)
    result = run_sweep(experiment, folder) if experiment.sections else fit(config, folder)
    if distributed.writes():
        print(readable_sweep(result, folder) if experiment.sections else readable(result))
        print(f"report: {write_report([folder])}")
    return 1 if result.get("failed") else 0


def _measure(experiment: experiments.Experiment, folder: Path) -> int:
    from cmath_jax import distributed
    from cmath_jax.scaling import report
    from cmath_jax.scaling.studies import run_studies

    result = run_studies(experiment, folder)
    if distributed.writes():
        print(report.readable(result))
        print(f"report: {report.write(folder, result)}")
    return 1 if result["failed"] else 0


def _parse(arguments: list[str]) -> tuple[str | None, str | None, Shard | None, dict[str, str], bool]:
    """The config file, the run folder, the part of a sweep, the overridden options, and whether help is wanted."""
    single: dict[str, str] = {}
    overrides: dict[str, str] = {}
    left = iter(arguments)
    for argument in left:
        if argument in ("--help", "-h"):
            single["--help"] = ""
            continue
        name, equals, value = argument.partition("=")
        if not (name in ("--config", "--workdir", "--shard") or name.startswith("--config.")):
            raise InputError(f"unknown argument {argument!r}; --help lists what there is")
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
