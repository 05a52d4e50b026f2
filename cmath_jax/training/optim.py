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
POLICY_MOMENTUM = 0.95  # after the first of them


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
    rate = optax.scale_by_learning_rate(schedule(config, steps_before, epochs))
    if config.policy_rate:
        return _alternating(config, rate, steps_before, epochs)
    return optax.chain(*_clipped(config, config.weight_decay, _adam(config)), rate)


def _adam(config: OptimConfig) -> optax.GradientTransformation:
    return optax.scale_by_amsgrad() if config.amsgrad else optax.scale_by_adam()


def _clipped(
    config: OptimConfig, weight_decay: float, moments: optax.GradientTransformation
) -> tuple[optax.GradientTransformation, ...]:
    decay = optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return clip, *((moments, decay) if config.decoupled else (decay, moments))


def _alternating(
    config: OptimConfig, scale: optax.GradientTransformation, steps_before: StepsBefore, epochs: int
) -> optax.GradientTransformation:
    """Returns an Adam for weights, in the epochs 0, 2, ..., and one for policies, in the others (AdaIGN).

    In an epoch of the others, parameters and moments stay as they are. Where one of `MILESTONES` divides the epochs
    that are over, both rates fall and both optimizers begin anew, that of policies as RMSprop with momentum.

    Args:
      scale: what both go through at their ends.
    """
    ends = np.array([steps_before(epoch) for epoch in range(1, epochs + 1)], np.int32)

    def epoch_of(step: jax.Array) -> jax.Array:
        return (step >= jnp.asarray(ends)).sum()

    def milestones_before(epoch: jax.Array) -> jax.Array:
        # Both at once count once.
        return sum(epoch // each for each in MILESTONES) - epoch // math.lcm(*MILESTONES)

    def part(odd: int, rate: float, fall: float, decay: float, *moments: Any) -> optax.GradientTransformation:
        """Returns the transformation of one kind of parameters, by the last of `moments` after the first milestone."""
        inner = [optax.chain(*_clipped(config, decay, each)) for each in moments]

        def init(params: Any) -> Any:
            return jnp.zeros((), jnp.int32), tuple(each.init(params) for each in inner)

        def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            step, kept = state
            epoch, passed = epoch_of(step), milestones_before(epoch_of(step))
            is_first = passed != milestones_before(epoch_of(step - 1))
            kept = jax.tree.map(lambda x, y: jnp.where(is_first, x, y), init(params)[1], kept)

            def advance() -> tuple[Any, Any]:
                all_updates, states = zip(
                    *(each.update(gradient, x, params) for each, x in zip(inner, kept, strict=True)), strict=True
                )
                which, falls = jnp.minimum(passed, len(inner) - 1), rate * jnp.float32(fall) ** passed
                return jax.tree.map(lambda *x: falls * jnp.stack(x)[which], *all_updates), states

            def rest() -> tuple[Any, Any]:
                return jax.tree.map(jnp.zeros_like, gradient), kept

            updates, kept = jax.lax.cond(epoch % 2 == odd, advance, rest)
            return updates, (step + 1, kept)

        return optax.chain(optax.GradientTransformation(init, update), scale)

    def count(gradient: Any, step: jax.Array, params: Any = None) -> tuple[Any, jax.Array]:
        """Adds 1 at the end of each epoch of policies."""
        del params
        is_end = (epoch_of(step) % 2 == 1) & (epoch_of(step + 1) > epoch_of(step))
        return jax.tree.map(lambda x: jnp.where(is_end, jnp.ones_like(x), 0.0), gradient), step + 1

    rmsprop = optax.chain(optax.scale_by_rms(decay=0.99, eps_in_sqrt=False), optax.trace(POLICY_MOMENTUM))
    parts = {
        "weights": part(0, 1.0, WEIGHT_FALL, config.weight_decay, _adam(config)),
        "policies": part(1, config.policy_rate, POLICY_FALL, config.policy_decay, _adam(config), rmsprop),
        "counts": optax.GradientTransformation(lambda _: jnp.zeros((), jnp.int32), count),
    }
    return optax.partition(parts, lambda params: jax.tree_util.tree_map_with_path(lambda path, _: _kind(path), params))


def _kind(path: tuple[Any, ...]) -> str:
    """Returns which part a parameter is of."""
    name = jax.tree_util.keystr(path[-1:], simple=True)
    return {"policy": "policies", "epochs": "counts"}.get(name.rpartition("_")[2], "weights")


def at_rate(learning_rate: Any, updates: Any) -> Any:
    """Returns the updates of `make_optimizer` for a highest learning rate; a count does not depend on it."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x if _kind(path) == "counts" else learning_rate * x, updates
    )


def newest_share(decay: float, count: jax.Array) -> jax.Array:
    """Returns the share, float32, of the last of `count` parameters in their average; i steps earlier, decay^i of it.

    The weights are divided by their sum, as Adam has it, (1 - decay) / (1 - decay^count): the average never holds
    anything of the initial parameters, is that of all steps while they are few, and reaches about 1 / (1 - decay) of
    them back when they are many.
    """
    rate = jnp.float32(math.log(decay))
    return jnp.expm1(rate) / jnp.expm1(rate * count.astype(jnp.float32))


def averaged(decay: float, average: Any, params: Any, count: jax.Array) -> Any:
    """Returns the average of parameters after the last of `count` steps; one that counts epochs is taken over."""
    mean = optax.incremental_update(params, average, newest_share(decay, count))
    return jax.tree_util.tree_map_with_path(lambda path, x, y: y if _kind(path) == "counts" else x, mean, params)
