"""Training that alternates between weights and policies, against one plain Adam for each."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from samples import tiny

from cmath_jax.config import OptimConfig, override
from cmath_jax.errors import InputError
from cmath_jax.training.corpora import check_usable, load_configured
from cmath_jax.training.devices import TRIAL_STEPS
from cmath_jax.training.optim import at_rate, make_optimizer
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


class Moments:
    """Adam and RMSprop of torch.optim, by hand, in float64."""

    def __init__(self) -> None:
        self.steps, self.first, self.second = 0, 0.0, 0.0

    def adam(self, g: Any) -> Any:
        self.steps += 1
        self.first, self.second = 0.9 * self.first + 0.1 * g, 0.999 * self.second + 0.001 * g**2
        return self.first / (1 - 0.9**self.steps) / (np.sqrt(self.second / (1 - 0.999**self.steps)) + 1e-8)

    def rmsprop(self, g: Any) -> Any:
        self.second = 0.99 * self.second + 0.01 * g**2
        self.first = 0.95 * self.first + g / (np.sqrt(self.second) + 1e-8)
        return self.first


def test_both_begin_anew_at_the_milestones() -> None:
    """After 25, 40, 50, 75, 80 epochs, and so on, once where both meet; that of policies as RMSprop, with momentum."""
    config = OptimConfig(policy_rate=20.0, policy_decay=0.3, weight_decay=0.1)
    tx, params = make_optimizer(config, round, 500), initial()

    @jax.jit
    def advance(params: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, jax.tree.map(lambda x: 0.01 * x, updates)), state

    state = tx.init(params)
    kernel, policy = (np.array(x, np.float64) for x in jax.tree.leaves(params))
    falls, of_weights, of_policies = 0, Moments(), Moments()
    for epoch in range(202):
        if epoch and (epoch % 25 == 0 or epoch % 40 == 0):
            falls, of_weights, of_policies = falls + 1, Moments(), Moments()
        gradient = jax.tree.map(lambda x, epoch=epoch: x * math.cos(epoch), gradient_at(epoch))
        to_kernel, to_policy = (np.array(x, np.float64) for x in jax.tree.leaves(gradient))
        if epoch % 2 == 0:
            kernel -= 0.01 * 0.6**falls * of_weights.adam(to_kernel + 0.1 * kernel)
        else:
            update = of_policies.rmsprop if falls else of_policies.adam
            policy -= 0.01 * 20 * 0.8**falls * update(to_policy + 0.3 * policy)
        params, state = advance(params, state, gradient)
        np.testing.assert_allclose(params["layer"]["kernel"], kernel, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(params["policies"]["mix_policy"], policy, rtol=1e-3, atol=1e-4)
    assert falls == 12


@pytest.mark.parametrize("rate", [1e-3, 0.5])
def test_the_epochs_of_policies_are_counted_at_any_rate(rate: float) -> None:
    config = OptimConfig(policy_rate=20.0, weight_decay=0.1, schedule="cosine")
    tx = make_optimizer(config, lambda epoch: round(epoch * STEPS), 7)
    params = {**initial(), "tables": {"policy_epochs": jnp.zeros(())}}
    state, counts = tx.init(params), []
    for step in range(7 * STEPS):
        gradient = {**gradient_at(step), "tables": {"policy_epochs": jnp.zeros(())}}
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, at_rate(rate, updates))
        counts.append(float(params["tables"]["policy_epochs"]))
    assert counts == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]


@pytest.mark.slow
def test_the_average_has_the_temperature_of_its_epoch() -> None:
    """A count is taken over: the mean of counts would be that of an earlier epoch."""
    config = tiny(
        model__name="adaign",
        model__temperature_decay=0.9,
        optim__policy_rate=1.0,
        optim__average=0.9,
        parallel__devices=1,
    )
    made = Trainer.of(config, load_configured(config))
    state = made.fresh_states([0])
    for epoch in range(2):
        plan = made.devices.put_trials([made.batches.plan(epoch)], TRIAL_STEPS)
        steps = made.batches.steps_before(epoch + 1) - made.batches.steps_before(epoch)
        state, _ = made.advance(state, plan, made.hyper_params([config]), 0, steps)
    (count,) = (
        np.asarray(x)
        for path, x in jax.tree_util.tree_leaves_with_path(state.average)
        if jax.tree_util.keystr(path).endswith("policy_epochs']")
    )
    assert count.tolist() == [1.0]


def test_a_model_without_policies_is_refused() -> None:
    config = tiny(optim__policy_rate=20.0)
    with pytest.raises(InputError, match=r"^optim\.policy_rate=20\.0 is for a model with policies, and cmath has none"):
        Trainer.of(config, load_configured(config))


@pytest.mark.parametrize(("name", "value"), [("model.temperature_decay", 0.9), ("optim.policy_decay", 5e-4)])
def test_what_needs_a_rate_of_policies_is_refused_without(name: str, value: float) -> None:
    config = override(tiny(model__name="adaign"), {name: value})
    with pytest.raises(InputError, match=rf"^{re.escape(name)}={value} has no effect with optim\.policy_rate=0"):
        check_usable(config, load_configured(config))
