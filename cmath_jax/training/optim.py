"""The optimizer: Adam, and what the config puts around it."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmath_jax.config import OptimConfig

StepsBefore = Callable[[float], int]  # an epoch -> how many steps come before it, as `TrainingBatches.steps_before`
MILESTONES = (25, 40)  # epochs, of alternation
WEIGHT_FALL, POLICY_FALL = 0.6, 0.8  # what is left of a rate then


def schedule(config: OptimConfig, steps_before: StepsBefore, epochs: int) -> optax.Schedule:
    """Returns the share of the highest rate by step: a linear warm-up, then the schedule, at 0 after all steps."""
    warmup = steps_before(config.warmup_epochs)
    rest = max(steps_before(epochs) - warmup, 1)
    after = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(1.0, rest),
    }[config.schedule]
    if not warmup:
        return after
    # The first step already moves: a rate of exactly 0 would waste it.
    rise = optax.linear_schedule(1.0 / warmup, 1.0, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(config: OptimConfig, steps_before: StepsBefore, epochs: int) -> optax.GradientTransformation:
    """Returns clipping, L2 (coupled: it goes through Adam's moments; or decoupled: it does not), Adam and schedule.

    Its updates are for a highest learning rate of 1. The step multiplies them by its own: a number that runs with one
    compiled step do not have to share. If the config has a rate of policies, these and the weights alternate.
    """
    parts = (_alternating(config, steps_before, epochs),) if config.policy_rate else _adam(config, config.weight_decay)
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule(config, steps_before, epochs)))


def _adam(config: OptimConfig, weight_decay: float) -> tuple[optax.GradientTransformation, ...]:
    decay = optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()
    moments = optax.scale_by_amsgrad() if config.amsgrad else optax.scale_by_adam()
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return clip, *((moments, decay) if config.decoupled else (decay, moments))


def _alternating(config: OptimConfig, steps_before: StepsBefore, epochs: int) -> optax.GradientTransformation:
    """Returns an Adam for weights, in the epochs 0, 2, ..., and one for policies, in the others (AdaIGN).

    In an epoch of the others, parameters and moments stay as they are. Both rates fall where one of `MILESTONES`
    divides the epochs that are over.
    """

    ends = np.array([steps_before(epoch) for epoch in range(1, epochs)], np.int32)

    def epoch_of(step: jax.Array) -> jax.Array:
        return (step >= jnp.asarray(ends)).sum()

    def part(odd: int, rate: float, fall: float, weight_decay: float) -> optax.GradientTransformation:
        def is_its_epoch(step: jax.Array) -> jax.Array:
            return epoch_of(step) % 2 == odd

        def rate_at(step: jax.Array) -> Any:
            epoch = epoch_of(step)
            # Both at once count once.
            falls = sum(epoch // each for each in MILESTONES) - epoch // math.lcm(*MILESTONES)
            return rate * jnp.float32(fall) ** falls

        adam = optax.chain(*_adam(config, weight_decay))
        # The masked one counts its own steps alone; the rate is outside of it, for it goes by all.
        return optax.chain(optax.transforms.conditionally_mask(adam, is_its_epoch), optax.scale_by_schedule(rate_at))

    parts = {
        "weights": part(0, 1.0, WEIGHT_FALL, config.weight_decay),
        "policies": part(1, config.policy_rate, POLICY_FALL, config.policy_decay),
    }
    return optax.partition(parts, _kinds)


def _kinds(params: optax.Params) -> optax.Params:
    """Returns for each parameter which part it is of."""

    def kind(path: tuple[Any, ...], _: Any) -> str:
        return "policies" if jax.tree_util.keystr(path[-1:], simple=True).endswith("_policy") else "weights"

    return jax.tree_util.tree_map_with_path(kind, params)


def newest_share(decay: float, count: jax.Array) -> jax.Array:
    """Returns the share, float32, of the last of `count` parameters in their average; i steps earlier, decay^i of it.

    The weights are divided by their sum, as Adam has it, (1 - decay) / (1 - decay^count): the average never holds
    anything of the initial parameters, is that of all steps while they are few, and reaches about 1 / (1 - decay) of
    them back when they are many.
    """
    rate = jnp.float32(math.log(decay))
    return jnp.expm1(rate) / jnp.expm1(rate * count.astype(jnp.float32))
