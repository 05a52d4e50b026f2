"""The losses of CMATH's outputs: padding counts nothing, equals cost nothing, a stopped teacher stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import CLASSES, DIMS, WIDTH, conversations, losses_of, pack

from cmath_jax.config import LossConfig
from cmath_jax.models.outputs import Outputs, Term

LOSS = LossConfig(gamma1=0.7, gamma2=1.3, temperature=1.5, reconstruction=0.9)


def test_padding_has_no_gradient_even_if_it_is_poison() -> None:
    """Inf and NaN under the mask: loss and gradients are those without them."""
    batch = pack(conversations((3,)), ((0,),), 5)
    rng = np.random.default_rng(0)

    def outputs_of(logits_rlc: jax.Array, sample_rld: jax.Array) -> Outputs:
        return Outputs(
            logits_rlc=logits_rlc, modality_logits={"t": logits_rlc + 1}, mean_rld=sample_rld,
            deviation_rld=sample_rld, sample_rld=sample_rld, augmented={"t": sample_rld + 1},
            reconstructions={"t": sample_rld[..., : DIMS["t"]]}, gates={},
        )  # fmt: skip

    def loss_of(logits_rlc: jax.Array, sample_rld: jax.Array) -> jax.Array:
        return losses_of(outputs_of(logits_rlc, sample_rld), batch, LossConfig(stop_teacher=False))["total"]

    logits = jnp.asarray(rng.normal(size=(1, 5, CLASSES)), jnp.float32)
    sample = jnp.asarray(rng.normal(size=(1, 5, WIDTH)), jnp.float32)
    clean, clean_grads = jax.value_and_grad(loss_of, (0, 1))(logits, sample)
    for poison in (np.inf, np.nan, 1e30):
        dirty_inputs = logits.at[:, 3:].set(poison), sample.at[:, 3:].set(poison)
        dirty, grads = jax.value_and_grad(loss_of, (0, 1))(*dirty_inputs)
        np.testing.assert_allclose(dirty, clean, rtol=1e-6)
        for gradient, expected in zip(grads, clean_grads, strict=True):
            np.testing.assert_allclose(gradient[:, :3], expected[:, :3], rtol=1e-5)
            np.testing.assert_array_equal(gradient[:, 3:], 0.0)


def test_identical_teacher_and_student_have_nothing_to_learn() -> None:
    batch = pack(conversations((3, 4)), ((0, 1),), 8)
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(1, 8, CLASSES)) * 20, jnp.float32)
    sample = jnp.asarray(rng.normal(size=(1, 8, WIDTH)), jnp.float32)
    same = Outputs(logits, {"t": logits}, sample, sample, sample, {"t": sample}, {}, {})
    losses = losses_of(same, batch, LOSS)
    assert float(losses["mse"]) == 0.0
    assert float(losses["kl"]) == 0.0
    assert "reconstruction" not in losses
    for scale in (1e-6, 1e-3, 1.0, 1e3):
        near = logits + scale * jnp.asarray(rng.normal(size=(1, 8, CLASSES)), jnp.float32)
        assert float(losses_of(same.replace(modality_logits={"t": near}), batch, LOSS)["kl"]) > -1e-6  # rounding
    other = same.replace(modality_logits={"t": jnp.asarray(rng.normal(size=(1, 8, CLASSES)) * 20, jnp.float32)})
    assert float(losses_of(other, batch, LOSS)["kl"]) > 0


@pytest.mark.parametrize("stop", [True, False])
def test_a_stopped_teacher_does_not_move(stop: bool) -> None:
    batch = pack(conversations((3, 4)), ((0, 1),), 8)
    rng = np.random.default_rng(0)
    logits, student = (jnp.asarray(rng.normal(size=(1, 8, CLASSES)), jnp.float32) for _ in range(2))
    sample, augmented = (jnp.asarray(rng.normal(size=(1, 8, WIDTH)), jnp.float32) for _ in range(2))

    def distillation(logits: jax.Array, sample: jax.Array) -> jax.Array:
        outputs = Outputs(logits, {"t": student}, sample, sample, sample, {"t": augmented}, {}, {})
        losses = losses_of(outputs, batch, LossConfig(stop_teacher=stop))
        return losses["mse"] + losses["kl"]

    for gradient in jax.grad(distillation, (0, 1))(logits, sample):
        assert bool((gradient == 0).all()) == stop


def test_the_focal_loss_against_its_formula() -> None:
    """-(1 - p)^gamma w log p over the sum of the weights w, and its gradient, in float64 by hand."""
    talks = conversations((3, 4))
    batch = pack(talks, ((0, 1),), 9)
    weight_c = np.array([0.5, 1.0, 2.0, 3.0])
    logits_rlc = np.random.default_rng(0).normal(size=(1, 9, CLASSES))
    label_n = np.concatenate([talk.labels for talk in talks])

    def by_hand(logits_nc: np.ndarray, gamma: float) -> float:
        p_n = (np.exp(logits_nc) / np.exp(logits_nc).sum(1, keepdims=True))[np.arange(7), label_n]
        return float((-((1 - p_n) ** gamma) * np.log(p_n) * weight_c[label_n]).sum() / weight_c[label_n].sum())

    def ours(logits_rlc: jax.Array, gamma: float) -> jax.Array:
        nothing = jnp.zeros((1, 9, WIDTH))
        outputs = Outputs(logits_rlc, {}, nothing, nothing, nothing, {}, {}, {})
        return losses_of(outputs, batch, LossConfig(focal=gamma), weight_c.astype(np.float32))["total"]

    for gamma in (0.0, 0.5, 1.0, 2.5):
        loss, gradient = jax.value_and_grad(ours)(jnp.asarray(logits_rlc, jnp.float32), gamma)
        np.testing.assert_allclose(loss, by_hand(logits_rlc[0, :7], gamma), rtol=1e-5)
        direction = np.random.default_rng(1).normal(size=(7, CLASSES))
        sides = [by_hand(logits_rlc[0, :7] + sign * 1e-5 * direction, gamma) for sign in (1, -1)]
        slope = float((np.asarray(gradient)[0, :7] * direction).sum())
        np.testing.assert_allclose(slope, (sides[0] - sides[1]) / 2e-5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_loss_is_finite_where_a_prediction_is_certain(gamma: float) -> None:
    batch = pack(conversations((3,)), ((0,),), 3)
    nothing = jnp.zeros((1, 3, WIDTH))

    def loss_of(scale: jax.Array) -> jax.Array:
        logits_rlc = scale * jax.nn.one_hot(batch.label_rl, CLASSES)
        outputs = Outputs(logits_rlc, {}, nothing, nothing, nothing, {}, {}, {})
        return losses_of(outputs, batch, LossConfig(focal=gamma))["total"]

    for scale in (1e4, -1e4):
        loss, slope = jax.value_and_grad(loss_of)(jnp.float32(scale))
        assert np.isfinite(loss) and np.isfinite(slope)


def test_a_model_s_own_terms_are_means_over_their_counts() -> None:
    batch = pack(conversations((3, 4)), ((0,), (1,)), 5)
    nothing = jnp.zeros((2, 5, WIDTH))
    value_rl, count_rl = jnp.arange(10.0).reshape(2, 5), jnp.asarray(batch.segment_rl > 0, jnp.float32) * 3
    plain = Outputs(jnp.zeros((2, 5, CLASSES)), {}, nothing, nothing, nothing, {}, {}, {})
    extended = plain.replace(terms={"shift": Term(value_rl, count_rl)})
    before, after = (losses_of(outputs, batch, LossConfig()) for outputs in (plain, extended))
    np.testing.assert_allclose(after["shift"], 45 / 21, rtol=1e-6)
    np.testing.assert_allclose(after["total"], before["total"] + 45 / 21, rtol=1e-6)
