"""Runs an experiment: `python launch.py --config experiments/meld.py --workdir DIR`; `--help` says more."""

import sys

from cmath_jax.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
