"""Adam, and what the config puts around it."""

import optax

from cmath_jax.config import OptimConfig


def learning_rate(config: OptimConfig, steps_per_epoch: int, epochs: int) -> optax.Schedule:
    """The learning rate by step: a linear warm-up, then the schedule of the config, at 0 when all steps are done."""
    warmup = round(config.warmup_epochs * steps_per_epoch)
    rest = max(steps_per_epoch * epochs - warmup, 1)
    after = {
        "constant": optax.constant_schedule(config.learning_rate),
        "linear": optax.linear_schedule(config.learning_rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(config.learning_rate, rest),
    }[config.schedule]
    if not warmup:
        return after
    # The first step already moves: a rate of exactly 0 would waste it.
    rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(config: OptimConfig, steps_per_epoch: int, epochs: int) -> optax.GradientTransformation:
    """Clipping, L2 (coupled: it goes through Adam's moments, as the peers have it), Adam, schedule."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity(),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(learning_rate(config, steps_per_epoch, epochs)),
    )
