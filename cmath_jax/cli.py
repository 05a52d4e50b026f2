"""The command line: `launch.py --config FILE [--workdir DIR] [--config.NAME=VALUE ...]`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cmath_jax import experiment as experiments
from cmath_jax.config import flat, to_dict
from cmath_jax.errors import InputError, Terminated, TrainingDivergedError

USAGE = """usage: python launch.py --config FILE [--workdir DIR] [--config.NAME=VALUE ...]

  --config FILE          an experiment (experiments/meld.py) or the config.json of a run
  --workdir DIR          the run folder, default runs/NAME; a run that is there already is continued
  --config.NAME=VALUE    changes an option, as in --config.optim.learning_rate=1e-3
  --help                 this text; with --config FILE also every option and its value
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done or safely interrupted, 1 failed, 2 bad input."""
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
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
        print("interrupted. The same command goes on from the last epoch that was saved", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    path, workdir, overrides, wants_help = _parse(arguments)
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
    logger = logging.getLogger("cmath_jax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler())
    # Only now, so that a slip of the pen is answered at once.
    from cmath_jax.report import write_report
    from cmath_jax.results import readable, readable_sweep
    from cmath_jax.sweep import run_sweep
    from cmath_jax.train import fit

    folder = Path(workdir or Path("runs") / config.experiment)
    failed = {}
    if experiment.sections:
        result = run_sweep(experiment, folder)
        failed = result["failed"]
        print(readable_sweep(result, folder))
    else:
        print(readable(fit(config, folder)))
    print(f"report: {write_report([folder])}")
    return 1 if failed else 0


def _parse(arguments: list[str]) -> tuple[str | None, str | None, dict[str, str], bool]:
    """The config file, the run folder, the overridden options, and whether help is wanted."""
    single: dict[str, str] = {}
    overrides: dict[str, str] = {}
    left = iter(arguments)
    for argument in left:
        if argument in ("--help", "-h"):
            single["--help"] = ""
            continue
        name, equals, value = argument.partition("=")
        if not (name in ("--config", "--workdir") or name.startswith("--config.")):
            raise InputError(f"unknown argument {argument!r}; --help lists what there is")
        if not equals:
            value = next(left, "")
            if not value or value.startswith("--"):
                raise InputError(f"{name} is given no value")
        target, key = (overrides, name.removeprefix("--config.")) if name.startswith("--config.") else (single, name)
        if key in target:
            raise InputError(f"{name} is given twice")
        target[key] = value
    return single.get("--config"), single.get("--workdir"), overrides, "--help" in single
