"""The steps of every model on a device beside the same steps on the processor: whether the numbers agree.

    python -m benchmarks.agreement [--models cmath sdt] [--dataset meld] [--precision float32] [--workers 2]

A fresh run of each model, as its authors sized it, takes a step on the device that JAX takes by default, and the same
step in a process that has the processor alone. Both draw the same dropout and noise. Prints the difference of the
losses and that of the gradients, each over the largest gradient of its parameter, of the parameter where it is largest;
and whether two runs of some more steps on the device end with equal bits. A unit of a ReLU whose input is 0 but for
rounding shows as some 1e-3.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import jax
import numpy as np
import optax

from benchmarks import baselines, single_device
from cmath_jax.config import PRECISIONS, Config, override
from cmath_jax.errors import last_line
from cmath_jax.models.options import MODELS
from cmath_jax.training import compiler
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.trainer import Trainer

STEPS = 5  # of the two runs that should be equal
SHARE = 1e-4  # of the largest gradient of all, below which one is rounding alone: that of a bias of the keys is 0
DEVICE, LOSS, EQUAL = "device", "loss", "equal"


def config_of(name: str, dataset: str, precision: str) -> Config | None:
    """Returns the training of a model on a simulated corpus; None where its authors gave no sizes for that data."""
    if name == "cmath":
        return single_device.config_of(dataset, precision)
    config = baselines.config_of(name, dataset)
    return override(config, {"precision": precision}) if config else None


def measured(config: Config) -> dict[str, np.ndarray]:
    """Returns the device, the loss and the gradients of the first step, and whether steps done twice are equal."""
    trainer = Trainer.of(config, load_configured(config))
    settings = trainer.hyper_params([config])
    _, plan = next(trainer.plans([0], [0], 0))
    state, metrics = trainer.advance(trainer.fresh_states([0]), plan, settings, 0, 1)
    # Of one step, the optimizer's mean of the gradients is a share of them; some models have several optimizers.
    means = [mean for _, mean in optax.tree.get_all_with_path(state.opt_state, "mu")]
    found = {
        f"{i}{jax.tree_util.keystr(path)}": np.asarray(x)
        for i, mean in enumerate(means)
        for path, x in jax.tree_util.tree_leaves_with_path(mean)
    }
    steps = min(STEPS, trainer.batches.steps)
    ends = [jax.device_get(trainer.advance(trainer.fresh_states([0]), plan, settings, 0, steps)) for _ in range(2)]
    equal = all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, ends), strict=True))
    about = {DEVICE: jax.devices()[0].device_kind, LOSS: np.asarray(metrics["loss"]).ravel()[0], EQUAL: equal}
    return found | {name: np.asarray(x) for name, x in about.items()}


def compared(name: str, ours: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> str:
    """Returns a row of the table."""
    loss = abs(ours[LOSS] / reference[LOSS] - 1)
    largest = {key: np.abs(x).max() for key, x in reference.items() if key not in (DEVICE, LOSS, EQUAL)}
    least = SHARE * max(largest.values())
    difference = {key: np.abs(ours[key] - reference[key]).max() / max(largest[key], least) for key in largest}
    worst = max(difference, key=difference.__getitem__)
    repeated = "equal bits" if ours[EQUAL] else "differ"
    return f"| {name} | {ours[DEVICE]} | {loss:.1e} | {difference[worst]:.1e} | `{worst}` | {repeated} |"


def in_processes(name: str, options: argparse.Namespace) -> str:
    """Returns the row of a model, measured by two processes: one sees all devices, one the processor alone."""
    both = []
    with tempfile.TemporaryDirectory() as folder:
        for platform in ({}, {"JAX_PLATFORMS": "cpu"}):
            path = Path(folder) / "numbers.npz"
            command = [sys.executable, "-m", "benchmarks.agreement", "--models", name, "--save", str(path)]
            command += ["--dataset", options.dataset, "--precision", options.precision]
            # The workers share the memory of the device.
            environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | platform
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                return f"| {name} | failed: {last_line(done.stderr)} | | | | |"
            with np.load(path) as numbers:
                both.append(dict(numbers))
    return compared(name, *both)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--dataset", choices=list(baselines.SHAPES), default="meld")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--workers", type=int, default=1, help="models at a time")
    parser.add_argument("--save", type=Path, help="only measure one model in this process, and write its numbers here")
    options = parser.parse_args()
    compiler.set_flags()
    configs = {name: config_of(name, options.dataset, options.precision) for name in options.models}
    if options.save:
        np.savez(options.save, allow_pickle=False, **measured(next(config for config in configs.values() if config)))
        return
    print(f"{options.dataset}, {options.precision}\n")
    print("| model | device | loss | gradient | of | steps twice |\n|---|---|---|---|---|---|", flush=True)
    with ThreadPoolExecutor(options.workers) as pool:
        rows = [pool.submit(in_processes, name, options) for name in configs if configs[name]]
        for row in as_completed(rows):
            print(row.result(), flush=True)


if __name__ == "__main__":
    main()
