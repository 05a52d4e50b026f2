"""The grouping of trials that are trained side by side, as many as memory holds.

Trials that differ in their seeds and in their `step.HyperParams` alone have the same structure: they go through one
compiled step. Each keeps its own order of the data, early stopping and checkpoints, and comes out as if it had been
trained alone, but for rounding.
"""

import math
import shutil
from collections.abc import Sequence

import jax
import psutil

from cmath_jax.config import Config
from cmath_jax.data.batches import TrainingBatches
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.prepared.streaming import epoch_plans
from cmath_jax.errors import InputError
from cmath_jax.io.files import sizes
from cmath_jax.training.devices import TRIAL, TRIAL_STEPS
from cmath_jax.training.multihost import agree, writes
from cmath_jax.training.step import HyperParams
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.trial import Trial

SHARE = 0.8  # of the free memory that a program may take
KB = 2**10


def make_trainer(config: Config, corpus: Corpus, trials: int) -> Trainer:
    """Returns a trainer for so many trials, or for as many as memory holds and the config allows."""
    # One trial keeps the cores of a processor busy, and its data in their cache: more at once would be slower.
    alone = config.parallel.engine == "pmap" or jax.default_backend() == "cpu"
    trials = _even(trials, min(config.parallel.population or (1 if alone else trials), trials))
    while True:
        trainer = Trainer.of(config, corpus, trials)
        if trials == 1:
            return trainer
        needed = memory_needed(trainer)
        # Processes that see different memory make the same choice.
        _, free = agree(False, int(SHARE * free_memory(trainer.devices.devices)) // KB)
        if needed <= free * KB:
            return trainer
        trials = _even(trials, max(1, min(trials * free * KB // needed, trials - 1)))


def next_group(waiting: Sequence[Trial], batches: TrainingBatches, most: int) -> Sequence[Trial]:
    """Returns at most so many trials to be trained next, all at one step of epochs of equally many steps.

    An interruption may have scattered them.
    """

    def place(trial: Trial) -> tuple[int, int]:
        epoch = len(trial.history)
        return min(epoch, batches.first_whole), trial.done - batches.steps_before(epoch)

    return [trial for trial in waiting if place(trial) == place(waiting[0])][:most]


def memory_needed(trainer: Trainer) -> int:
    """Returns how many bytes the steps take on each device, as the compiler counts them."""
    shapes = trainer.devices.shapes
    state = shapes(jax.eval_shape(trainer.initialize, 0), TRIAL)
    hyper_params = shapes(HyperParams.of(trainer.config, trainer.class_weight_c), TRIAL)
    _, (plan,) = next(epoch_plans(trainer.batches, [0], [0], 0))
    size = trainer.executable(state, shapes(plan, TRIAL_STEPS), hyper_params).memory_analysis()
    outside = size.argument_size_in_bytes + size.output_size_in_bytes - size.alias_size_in_bytes
    return int(outside + size.temp_size_in_bytes)


def free_memory(devices: Sequence[jax.Device]) -> int:
    """Returns the bytes that each of the devices has left; processors share the memory of this machine."""
    mine = [device for device in devices if device.process_index == jax.process_index()]
    if mine[0].platform == "cpu":
        return int(psutil.virtual_memory().available) // len(mine)
    stats = mine[0].memory_stats()
    return int(stats["bytes_limit"] - stats["bytes_in_use"])


def check_disk(trainer: Trainer, trials: Sequence[Trial]) -> None:
    """Raises InputError if what the trials will save does not fit on the disk.

    That is the latest and the best checkpoint of each, as far as they are not there yet, and the model of each run.
    """
    if not (trials and writes()):
        return
    state = jax.eval_shape(trainer.initialize, 0)
    whole, model = (
        sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)) for tree in (state, state.params)
    )
    missing = sum(max(0, 2 - len(trial.folder.steps_saved(trial.seed))) for trial in trials)
    needed = missing * whole + len({trial.folder.path for trial in trials}) * model
    path = trials[0].folder.path
    free = shutil.disk_usage(path).free
    if needed > free:
        more, less = sizes(needed, free)
        which = "the checkpoints of the run need" if len(trials) == 1 else f"the checkpoints of {len(trials)} runs need"
        raise InputError(
            f"--workdir {path}: {which} up to {more}, and there are {less} left on the disk; take another folder, "
            "fewer seeds or a part of the experiment"
        )


def _even(items: int, most: int) -> int:
    """Returns the size of groups of at most `most` that leaves the last of them as full as it goes."""
    groups = -(-items // most)
    return -(-items // groups)
