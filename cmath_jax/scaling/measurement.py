"""The measurement of a point of a scaling study: the steps of a config as in `fit`, beside the rates of the device."""

import gc
import math
import time
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from cmath_jax.config import Config
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import InputError, TrainingDivergedError
from cmath_jax.io.files import sizes
from cmath_jax.scaling import roofline
from cmath_jax.sweeps.experiment import Measuring
from cmath_jax.training.devices import TRIAL, Devices, PmapDevices
from cmath_jax.training.grouping import free_memory
from cmath_jax.training.multihost import agree
from cmath_jax.training.trainer import Trainer

LONGEST = 120.0  # seconds; a point that takes longer has fewer repeats ...
FEWEST = 3  # ... but not fewer than these
STORED_NAMES = {"trials": "members"}  # of a number in the files of results, where it is not the attribute's
COUNTED_MODEL = "cmath"  # the one whose FLOPs the roofline has a formula for


class DoesNotFitError(InputError):
    """The error of a step that needs more memory than the devices have left."""


@dataclass(frozen=True)
class Measurement:
    """The numbers of a point: of all trials on all devices, unless said otherwise.

    Attributes:
      engine: jit, pmap or population.
      trials: how many are trained side by side.
      parameters: of one trial.
      rows, slots: of the batch of one trial.
      conversations, utterances: of a step, on average.
      padding: the share of slots without an utterance.
      steps: of a repeat.
      step_seconds: of a step, for each repeat: the mean over its steps.
      compile_seconds: of the training steps.
      memory: bytes that the compiled steps need on each device: arguments, results and what lies between.
      flops: of the matrix products of a step, by formula.
      counted_flops, counted_bytes: of a step, by the compiler, which counts the body of a loop once.
      product_rate: FLOP/s of a plain matrix product on one device, measured beside the steps.
      copy_rate: bytes/s of a plain copy on one device.
      bound: seconds that a step takes at least, by the roofline.
    """

    engine: str
    devices: int
    trials: int
    parameters: int
    rows: int
    slots: int
    conversations: float
    utterances: float
    padding: float
    steps: int
    step_seconds: list[float]
    compile_seconds: float
    memory: int
    flops: float
    counted_flops: float
    counted_bytes: float
    product_rate: float
    copy_rate: float
    bound: float

    def summary(self) -> dict[str, Any]:
        """Returns all of it, with what follows from it: medians and quartiles, rates, shares; ready for JSON.

        `peak_share` is the achieved FLOP/s of the products over that of plain ones on as many devices, `bound_share`
        the roofline's time over the measured one, `counted_share` the compiler's FLOPs over those of the formula.
        """
        low, step, high = np.quantile(self.step_seconds, (0.25, 0.5, 0.75)).tolist()
        return {
            **{STORED_NAMES.get(name, name): value for name, value in vars(self).items()},
            "repeats": len(self.step_seconds),
            "step_low": low,
            "step_median": step,
            "step_high": high,
            "throughput_low": self.utterances / high,
            "throughput": self.utterances / step,
            "throughput_high": self.utterances / low,
            "achieved_flops": self.flops / step,
            "peak_share": self.flops / step / (self.product_rate * self.devices),
            "bound_share": self.bound / step,
            "counted_share": self.counted_flops / self.flops,
        }


def engine_name(devices: Devices, trials: int) -> str:
    """Returns jit, pmap or population."""
    return "population" if trials > 1 else "pmap" if isinstance(devices, PmapDevices) else "jit"


def check_counted(config: Config) -> None:
    """Raises InputError for a model whose FLOPs there is no formula for."""
    if config.model.name != COUNTED_MODEL:
        raise InputError(f"model.name={config.model.name!r}: the FLOPs of a step are counted for {COUNTED_MODEL} only")


def measure(config: Config, corpus: Corpus, measuring: Measuring) -> Measurement:
    """Measures the training steps of `config` for `parallel.population` trials with different seeds, one for 0.

    Raises:
      InputError: for options that do not go together, or ask for more devices than there are, or more memory.
      TrainingDivergedError: if a loss is not finite, since time may then be another.
    """
    check_counted(config)
    trials = max(1, config.parallel.population)
    try:
        return _measure(config, corpus, trials, measuring)
    finally:
        gc.collect()  # the memory that one point leaves behind would be missing for the next


def _measure(config: Config, corpus: Corpus, trials: int, measuring: Measuring) -> Measurement:
    trainer = Trainer.of(config, corpus, trials)
    devices, batches = trainer.devices, trainer.batches
    seeds = range(trials)
    numbers, plan = next(trainer.plans(seeds, [batches.first_whole] * trials, 0))
    state, hyper_params = trainer.fresh_states(seeds), trainer.hyper_params([config] * trials)
    executable = trainer.executable(state, plan, hyper_params)
    compile_seconds = trainer.train_steps.take_seconds()
    memory = _memory(executable, trainer)

    steps, step_seconds = _timed(trainer, state, plan, hyper_params, len(numbers), measuring)
    del state

    count = len(devices.devices)
    rows, slots = batches.shape.rows, plan.utterance_rl.shape[-1]
    sizes = roofline.WorkloadSizes(
        corpus.dims,
        len(corpus.classes),
        corpus.speakers,
        batches.shape._replace(rows=rows // devices.rows, slots=slots),
    )
    rates = roofline.measure_rates(jnp.dtype(config.precision), roofline.state_bytes(config, sizes))
    work, counted = roofline.training_work(config, sizes), roofline.Counted.of(executable)
    slots_of_epoch = batches.steps * rows * slots
    return Measurement(
        engine=engine_name(devices, trials),
        devices=count,
        trials=trials,
        parameters=roofline.parameter_count(config, sizes),
        rows=rows,
        slots=slots,
        conversations=trials * len(batches.table.length_b) / batches.steps,
        utterances=trials * len(batches.table.label_n) / batches.steps,
        padding=1 - len(batches.table.label_n) / slots_of_epoch,
        steps=steps,
        step_seconds=step_seconds,
        compile_seconds=compile_seconds,
        memory=memory,
        flops=work.products * devices.rows * trials,
        counted_flops=counted.flops * count,
        counted_bytes=counted.bytes * count,
        product_rate=rates.flops,
        copy_rate=rates.bytes,
        bound=(work * devices.trials_each).seconds(rates),
    )


def _memory(executable: Any, trainer: Trainer) -> int:
    """Returns the bytes that compiled steps, whose arguments are there already, need on each device.

    Raises:
      DoesNotFitError: if so much is not left.
    """
    size = executable.memory_analysis()
    lacking = size.output_size_in_bytes - size.alias_size_in_bytes + size.temp_size_in_bytes
    free = free_memory(trainer.devices.devices)
    if agree(lacking > free)[0]:
        more, less = sizes(lacking, free)
        raise DoesNotFitError(f"a step needs {more}, and a device has {less} left")
    return int(size.argument_size_in_bytes + lacking)


def _timed(
    trainer: Trainer, state: Any, plan: Any, hyper_params: Any, count: int, measuring: Measuring
) -> tuple[int, list[float]]:
    """Returns the number of steps of a repeat, and the seconds of a step for each repeat. The state is used up."""

    def run(state: Any, steps: int) -> tuple[Any, float]:
        began = time.perf_counter()
        done = 0
        while done < steps:
            chunk = min(steps - done, count)  # from the start of the epoch again
            state, metrics = trainer.advance(state, plan, hyper_params, 0, chunk)
            done += chunk
        losses = trainer.devices.get(metrics["loss"], TRIAL)
        seconds = time.perf_counter() - began
        if not np.isfinite(losses).all():
            raise TrainingDivergedError("the loss is no longer finite")
        return state, seconds / steps

    state, _ = run(state, 1)
    state, first = run(state, 1)
    # The processes of a run take equally many steps.
    _, steps = agree(False, max(1, math.ceil(measuring.seconds / first)))
    if steps > 1:
        state, _ = run(state, steps)
    step_seconds: list[float] = []
    spent = 0.0
    while len(step_seconds) < measuring.repeats:
        if len(step_seconds) >= FEWEST and agree(spent > LONGEST)[0]:
            break
        state, seconds = run(state, steps)
        step_seconds.append(seconds)
        spent += steps * seconds
    return steps, step_seconds
