"""The trainer: a model, its batches, and its compiled steps, for a number of trials that are trained side by side."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cmath_jax.config import Config
from cmath_jax.data.batches import Table, TrainingBatches
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.curriculum import Curriculum
from cmath_jax.data.prepared.streaming import epoch_plans, one_ahead, tables_of
from cmath_jax.data.standardize import Standardizer
from cmath_jax.models.registry import make_model
from cmath_jax.training.compiler import Compiled
from cmath_jax.training.corpora import check_usable, class_weights
from cmath_jax.training.devices import EVERYWHERE, TRIAL, TRIAL_STEPS, Devices, host_copy, make_devices
from cmath_jax.training.evaluator import Evaluator
from cmath_jax.training.optim import make_optimizer
from cmath_jax.training.step import HyperParams, TrainState, init_state, train_step, train_steps


@dataclass(frozen=True)
class Trainer:
    """A model with its data and compiled steps, for trials that differ in their seeds and in their `HyperParams` alone.

    Attributes:
      batches: those of seed 0; every seed has its own order, and the same shape and number of steps.
      features: what the plans of training refer to, on the devices; empty where they are streamed.
      initialize: seed -> a fresh state.
      train_steps: compiled, see `step.train_steps`.
    """

    config: Config
    corpus: Corpus
    standardizer: Standardizer
    batches: TrainingBatches
    features: Mapping[str, Any]
    class_weight_c: np.ndarray
    devices: Devices
    evaluator: Evaluator
    initialize: Callable[[int], TrainState]
    train_steps: Compiled

    @classmethod
    def of(cls, config: Config, corpus: Corpus, trials: int = 1) -> "Trainer":
        """Makes the trainer of a config and its corpus. Raises InputError if they do not go together."""
        check_usable(config, corpus)
        devices = make_devices(config.parallel, config.train.batch_size, trials)
        standardizer = Standardizer.of(corpus, config.data.standardize)
        tables = tables_of(corpus, config.data.modalities, standardizer, config.data.stream)
        table = tables["train"]
        batches = batches_of(config, table, devices)
        model = make_model(config.model, corpus, config.data.modalities, config.precision)
        initialize, steps = compiled_steps(config, model, batches, devices)
        return cls(
            config=config,
            corpus=corpus,
            standardizer=standardizer,
            batches=batches,
            features=devices.put(table.padded_features(), EVERYWHERE),
            class_weight_c=class_weights(corpus),
            devices=devices,
            evaluator=Evaluator.of(corpus, tables, model, devices),
            initialize=initialize,
            train_steps=steps,
        )

    def fresh_states(self, seeds: Sequence[int]) -> Any:
        """Returns a fresh state for each trial, on the devices."""
        return self.devices.put_trials([host_copy(self.initialize(seed)) for seed in seeds])

    def hyper_params(self, configs: Sequence[Config]) -> Any:
        """Returns the hyper-parameters of each trial, on the devices."""
        return self.devices.put_trials([HyperParams.of(config, self.class_weight_c) for config in configs])

    def advance(self, state: Any, plan: Any, hyper_params: Any, first: int, last: int) -> tuple[Any, Any]:
        """Takes the steps `first` to `last - 1` of a plan, all arguments on the devices: see `step.train_steps`."""
        state, metrics = self.train_steps(*self._arguments(state, plan, hyper_params, first, last))
        return state, metrics

    def executable(self, state: Any, plan: Any, hyper_params: Any) -> Any:
        """Returns the compiled program that `advance` runs; the arguments may be abstract."""
        return self.train_steps.executable(*self._arguments(state, plan, hyper_params, 0, 1))

    def _arguments(self, state: Any, plan: Any, hyper_params: Any, first: int, last: int) -> tuple[Any, ...]:
        bounds = [self.devices.put(np.int32(step), EVERYWHERE) for step in (first, last)]
        return state, plan, self.features, hyper_params, *bounds

    def plans(self, seeds: Sequence[int], epochs: Sequence[int], first: int) -> Generator[tuple[range, Any]]:
        """Yields the steps of an epoch of each trial, from step `first` on: their numbers, and plans on devices.

        Those of the whole epoch at once; or, if features are streamed, a block of batches after the other, of which the
        next is on its way while one is in use.
        """
        share = self.devices.share(self.batches.shape.rows)
        blocks = epoch_plans(self.batches, seeds, epochs, first, share)
        return one_ahead((steps, self.devices.put_trials(plans, TRIAL_STEPS)) for steps, plans in blocks)

    def saved_like(self) -> dict[str, Any]:
        """Returns what a checkpoint holds, as shapes."""
        return {"state": jax.eval_shape(self.initialize, 0), "scaling": self.standardizer.tree()}

    def saved(self, state: TrainState) -> dict[str, Any]:
        """Returns what a checkpoint holds, of a state on the host."""
        return {"state": state, "scaling": self.standardizer.tree()}

    def state_of(self, saved: Mapping[str, Any], folder: Path) -> TrainState:
        """Returns the state of a checkpoint. Raises InputError as `Standardizer.check_saved`."""
        self.standardizer.check_saved(saved["scaling"], folder)
        state: TrainState = saved["state"]
        return state

    def conversations(self, seed: int, epoch: int, step: int) -> list[str]:
        """Returns the ids of the conversations of a training step, for messages."""
        return replace(self.batches, seed=seed).conversations(epoch, step)


def batches_of(config: Config, table: Table, devices: Devices) -> TrainingBatches:
    """Returns the batches of a training split, as the config and the devices want them."""
    curriculum = Curriculum.of(table.label_n, table.speaker_n, table.length_b, config.train.curriculum)
    return TrainingBatches(table, config.train.batch_size, 0, devices.rows, curriculum)


def compiled_steps(
    config: Config, model: nn.Module, batches: TrainingBatches, devices: Devices
) -> tuple[Callable[[int], TrainState], Compiled]:
    """Returns the function from a seed to a fresh state, and the training steps, which are compiled when called."""
    tx = make_optimizer(config.optim, batches.steps_before, config.train.epochs)
    average = config.optim.average
    one_row = jax.tree.map(lambda x: x[:1], next(batches.epoch(0)))
    initialize = jax.jit(
        partial(init_state, batch=one_row, model=model, tx=tx, average=average),
        # It runs once: to compile it well would take longer than it saves.
        compiler_options={"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None,
    )
    step = partial(train_step, model=model, tx=tx, average=average, axis=devices.axis)
    steps = devices.compile(
        partial(train_steps, step=step),
        (TRIAL, TRIAL_STEPS, EVERYWHERE, TRIAL, EVERYWHERE, EVERYWHERE),
        (TRIAL, TRIAL),
        donate=(0,),
    )
    return initialize, steps
