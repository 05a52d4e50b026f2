"""Runs an experiment: `python launch.py --config experiments/meld.py --workdir DIR`; `--help` says more."""

import sys

INSTALL = "`make demo` sets up .venv, `. .venv/bin/activate` enters it; docs/getting_started.md says it without make"


def run() -> int:
    """Returns the exit code of the command; 2 where this Python cannot run it, which is the first thing to go wrong."""
    if sys.version_info < (3, 11):  # noqa: UP036, since this file is what another Python meets first
        return refuse("Python 3.11 or newer is needed, and this is %d.%d" % sys.version_info[:2])  # noqa: UP031
    try:
        from cmath_jax.commands.train import main
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cmath_jax"):
            raise
        return refuse("%s has no package %s" % (sys.executable, error.name))  # noqa: UP031
    return main()


def refuse(reason: str) -> int:
    sys.stderr.write("error: %s; %s\n" % (reason, INSTALL))  # noqa: UP031
    return 2


if __name__ == "__main__":
    sys.exit(run())
