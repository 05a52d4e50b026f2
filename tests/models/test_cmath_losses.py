"""The losses of CMATH's outputs: padding counts nothing, equals cost nothing, a stopped teacher stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import CLASSES, DIMS, WIDTH, conversations, losses_of, pack

from cmath_jax.config import LossConfig
from cmath_jax.models.outputs import Outputs

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
