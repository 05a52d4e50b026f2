"""The keys of random draws, and the average of the parameters."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from samples import tiny

from cmath_jax.training import step
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.devices import TRIAL_STEPS
from cmath_jax.training.trainer import Trainer


def test_random_streams_are_addressed() -> None:
    keys = [step.rng_key(jnp.int32(s), n, t) for s, n, t in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]]
    assert len({bytes(np.asarray(jax.random.key_data(key))) for key in keys}) == 4
    np.testing.assert_array_equal(jax.random.key_data(step.rng_key(jnp.int32(0), "a", 0)), jax.random.key_data(keys[0]))


def test_the_average_follows_the_parameters() -> None:
    """By the weights of `optim.average`, from the first step on, and without the initial ones."""
    config = tiny(optim__average=0.7, parallel__devices=1)
    made = Trainer.of(config, load_configured(config))
    state = made.fresh_states([0])
    plan = made.devices.put_trials([made.batches.plan(0)], TRIAL_STEPS)
    passed: list[Any] = []
    for number in range(3):
        state, _ = made.advance(state, plan, made.hyper_params([config]), number, number + 1)
        passed.append(jax.tree.map(np.array, state.params))
        weights = 0.7 ** np.arange(len(passed))[::-1]
        expected = jax.tree.map(lambda *x, w=weights: sum(w * x for w, x in zip(w / w.sum(), x, strict=True)), *passed)
        chex.assert_trees_all_close(state.average, expected, rtol=1e-5, atol=1e-6)
    assert state.evaluated is state.average
