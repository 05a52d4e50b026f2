"""The optimizer: Adam, and what the config puts around it."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cmath_jax.config import OptimConfig

StepsBefore = Callable[[float], int]  # an epoch -> how many steps come before it, as `TrainingBatches.steps_before`


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
    compiled step do not have to share.
    """
    decay = optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity()
    moments = optax.scale_by_amsgrad() if config.amsgrad else optax.scale_by_adam()
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        *((moments, decay) if config.decoupled else (decay, moments)),
        optax.scale_by_learning_rate(schedule(config, steps_before, epochs)),
    )


def newest_share(decay: float, count: jax.Array) -> jax.Array:
    """Returns the share, float32, of the last of `count` parameters in their average; i steps earlier, decay^i of it.

    The weights are divided by their sum, as Adam has it, (1 - decay) / (1 - decay^count): the average never holds
    anything of the initial parameters, is that of all steps while they are few, and reaches about 1 / (1 - decay) of
    them back when they are many.
    """
    rate = jnp.float32(math.log(decay))
    return jnp.expm1(rate) / jnp.expm1(rate * count.astype(jnp.float32))
