"""A step of training, whatever compiles it: the same on one device and on many, and what optax makes of the loss."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from samples import tiny

from cmath_jax.evaluation.metrics import scored
from cmath_jax.models.registry import make_model
from cmath_jax.training import step
from cmath_jax.training.corpora import class_weights, load_configured
from cmath_jax.training.devices import TRIAL, TRIAL_STEPS
from cmath_jax.training.losses import LossWeights, loss_terms, total_loss
from cmath_jax.training.trainer import Trainer


@pytest.mark.parametrize(("engine", "average"), [("jit", 0.9), pytest.param("pmap", 0.0, marks=pytest.mark.slow)])
def test_a_step_on_many_devices_is_a_step_on_one(engine: str, average: float) -> None:
    """Same losses and same state after three steps, with dropout and noise, when the batch does not divide."""
    corpus = load_configured(tiny())
    options = {"parallel__engine": engine, "optim__average": average, "loss__class_weights": True}
    results = {}
    for devices in (1, 2, 4, 8):
        # Batches of three conversations: on four devices and more some of them have nothing but padding.
        made = Trainer.of(tiny(parallel__devices=devices, **options), corpus)
        state, hyper_params = made.fresh_states([0]), made.hyper_params([made.config])
        plan = made.devices.put_trials([made.batches.plan(0)], TRIAL_STEPS)
        with jax.transfer_guard("disallow"):
            state, _ = made.advance(state, plan, hyper_params, 0, 1)
            state, metrics = made.advance(state, plan, hyper_params, 1, 3)
            losses = made.devices.get(metrics, TRIAL)
        probability_nc = made.evaluator.probabilities(state.evaluated, "test")[0]
        _, scores = scored("test", corpus.labels("test"), probability_nc)
        results[devices] = losses, made.devices.get_trials(state)[0], probability_nc, scores["loss"]
    for devices in (2, 4, 8):
        for ours, theirs in zip(results[devices], results[1], strict=True):
            chex.assert_trees_all_close(ours, theirs, rtol=2e-5, atol=2e-5)


def test_a_step_is_adam_on_the_loss_of_the_reference_tests() -> None:
    """The loss and its gradient are those that test_model.py compares with the reference; the rest is optax."""
    config = tiny(parallel__devices=1, loss__gamma1=0.7, loss__class_weights=True, optim__clip_norm=1.0)
    corpus = load_configured(config)
    made = Trainer.of(config, corpus)
    params = made.initialize(0).params
    batch = next(made.batches.epoch(0))
    rngs = {name: step.rng_key(jnp.int32(0), name, 0) for name in ("dropout", "noise")}

    weights = LossWeights.of(config.loss, class_weights(corpus))

    def loss_of(params: Any) -> jax.Array:
        model = make_model(config.model, corpus, config.data.modalities, config.precision)
        outputs = model.apply({"params": params}, batch, train=True, rngs=rngs)
        terms = {name: term.value() for name, term in loss_terms(outputs, batch, weights).items()}
        return total_loss(terms, weights)

    loss, grads = jax.jit(jax.value_and_grad(loss_of))(params)
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.optim.learning_rate))
    updates, _ = tx.update(grads, tx.init(params), params)
    plan = made.devices.put_trials([made.batches.plan(0)], TRIAL_STEPS)
    state, metrics = made.advance(made.fresh_states([0]), plan, made.hyper_params([config]), 0, 1)
    assert float(metrics["loss"][0, 0]) == pytest.approx(float(loss), rel=1e-5)
    assert float(metrics["gradient_norm"][0, 0]) == pytest.approx(float(optax.tree.norm(grads)), rel=1e-4)
    chex.assert_trees_all_close(
        made.devices.get_trials(state)[0].params, optax.apply_updates(params, updates), rtol=1e-4, atol=1e-4
    )
