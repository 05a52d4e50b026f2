"""Training that alternates between weights and policies, against one plain Adam for each."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samples import tiny

from cmath_jax.config import OptimConfig
from cmath_jax.errors import InputError
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.optim import make_optimizer
from cmath_jax.training.trainer import Trainer

STEPS = 2  # of an epoch
CONFIG = OptimConfig(policy_rate=20.0, policy_decay=0.3, weight_decay=0.1, clip_norm=1.0)


def initial() -> Any:
    return {"layer": {"kernel": jnp.array([1.0, -2.0])}, "policies": {"mix_policy": jnp.array([0.5])}}


def gradient_at(step: int) -> Any:
    return {
        "layer": {"kernel": jnp.array([3.0, 4.0]) * (step + 1)},
        "policies": {"mix_policy": jnp.array([0.2]) * (step + 1)},
    }


def trained(config: OptimConfig, steps: int) -> list[Any]:
    """The parameters after each step."""
    tx, params = make_optimizer(config, lambda epoch: round(epoch * STEPS), 100), initial()
    state, all_params = tx.init(params), []
    for step in range(steps):
        updates, state = tx.update(gradient_at(step), state, params)
        params = optax.apply_updates(params, jax.tree.map(lambda x: 0.01 * x, updates))
        all_params.append(params)
    return all_params


@pytest.mark.parametrize(
    ("room", "name", "odd", "rate", "decay"),
    [("layer", "kernel", 0, 1.0, 0.1), ("policies", "mix_policy", 1, 20.0, 0.3)],
    ids=["weights", "policies"],
)
def test_each_part_is_trained_as_if_the_epochs_of_the_other_were_not(
    room: str, name: str, odd: int, rate: float, decay: float
) -> None:
    found = trained(CONFIG, 8)
    tx, params = (
        make_optimizer(OptimConfig(weight_decay=decay, clip_norm=1.0), lambda epoch: round(epoch * STEPS), 100),
        initial()[room],
    )
    state = tx.init(params)
    for step, now in enumerate(found):
        if step // STEPS % 2 == odd:
            updates, state = tx.update(gradient_at(step)[room], state, params)
            params = optax.apply_updates(params, jax.tree.map(lambda x: 0.01 * rate * x, updates))
        np.testing.assert_allclose(now[room][name], params[name], rtol=1e-6)


def test_rates_fall_at_the_milestones() -> None:
    """After 25, 40, 50, 75, 80 epochs, and so on; once where both meet."""
    tx, params = make_optimizer(OptimConfig(policy_rate=20.0), round, 500), initial()
    update = jax.jit(tx.update)
    state, moved = tx.init(params), []
    for _ in range(202):
        # Of a gradient that stays the same, Adam makes its rate.
        updates, state = update(gradient_at(0), state, params)
        moved.append([-float(x[0]) for x in jax.tree.leaves(updates)])
    for epoch, falls in ((0, 0), (24, 0), (26, 1), (38, 1), (40, 2), (48, 2), (50, 3), (76, 4), (80, 5), (200, 12)):
        assert moved[epoch] == pytest.approx([0.6**falls, 0.0], rel=1e-4), epoch
        assert moved[epoch + 1] == pytest.approx([0.0, 20 * 0.8 ** (falls + (epoch in (24, 39)))], rel=1e-4), epoch


def test_a_model_without_policies_is_refused() -> None:
    config = tiny(optim__policy_rate=20.0)
    with pytest.raises(InputError, match=r"^optim\.policy_rate=20\.0 is for a model with policies, and cmath has none"):
        Trainer.of(config, load_configured(config))
