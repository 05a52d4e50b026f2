"""The losses of the paper, as sums and counts over valid utterances (eqs 3, 18-24).

Each term is a `Mean`: a sum over this device's utterances and the count that divides it. Sums and counts add up over
devices before the division, so that a batch spread over many devices has the loss of the whole.
What has no label is masked by `where` before anything is computed from it, so that it has no gradient, not even NaN.
"""

from collections.abc import Iterable, Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from cmath_jax.config import LossConfig
from cmath_jax.data.batches import Array, Batch
from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.models.outputs import Outputs


@flax.struct.dataclass
class LossWeights:
    """The numbers of a `LossConfig` as data: runs that differ in them alone share a compiled step.

    Attributes:
      gamma1, gamma2, reconstruction, temperature: float32 scalars, as in `LossConfig`.
      stop_teacher: 1 or 0.
      focal: float32 scalar, as in `LossConfig`.
      class_weight_c: float32 [c], of the cross-entropy.
    """

    gamma1: Array
    gamma2: Array
    reconstruction: Array
    stop_teacher: Array
    temperature: Array
    focal: Array
    class_weight_c: Array

    @classmethod
    def of(cls, config: LossConfig, class_weight_c: np.ndarray) -> "LossWeights":
        """Returns the weights of a config. `class_weight_c` counts only if it asks for class weights."""
        weight_c = class_weight_c if config.class_weights else np.ones_like(class_weight_c)
        names = ("gamma1", "gamma2", "reconstruction", "stop_teacher", "temperature", "focal")
        return cls(**{name: np.float32(getattr(config, name)) for name in names}, class_weight_c=weight_c)


@flax.struct.dataclass
class Mean:
    """A mean that has not been divided yet."""

    sum: jax.Array
    count: jax.Array

    @classmethod
    def of(cls, value_rl: jax.Array, valid_rl: jax.Array, weight_rl: jax.Array | float = 1.0) -> "Mean":
        weight_rl = jnp.where(valid_rl, weight_rl, jnp.float32(0.0))
        return cls((jnp.where(valid_rl, value_rl, 0.0) * weight_rl).sum(), weight_rl.sum())

    def value(self) -> jax.Array:
        return self.sum / jnp.maximum(self.count, 1e-12)


def loss_terms(outputs: Outputs, batch: Batch, weights: LossWeights) -> dict[str, Mean]:
    """Returns `ce`, `kl`, `mse` and `reconstruction`, summed over modalities and the labelled utterances of a batch.

    An utterance that lacks a modality adds nothing to the part of that modality, and still counts as one: a modality
    does not weigh more because few utterances have it.
    """
    valid_rl = batch.label_rl != UNLABELLED
    known = {m: valid_rl & batch.present.get(m, True) for m in outputs.augmented}

    def of_known(values: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        return {m: _kept(x_rlx, known[m]) for m, x_rlx in values.items()}

    logits_rlc, h_k_rld = (_kept(x_rlx, valid_rl) for x_rlx in (outputs.logits_rlc, outputs.sample_rld))
    logits, augmented, restored = map(of_known, (outputs.modality_logits, outputs.augmented, outputs.reconstructions))
    features = of_known({m: batch.features[m] for m in restored})

    def over_modalities(values: Mapping[str, jax.Array]) -> jax.Array:
        return _sum(jnp.where(known[m], x_rl, 0.0) for m, x_rl in values.items())

    def teacher(x: jax.Array) -> jax.Array:
        """Returns x, whose gradient is stopped or not."""
        still = jax.lax.stop_gradient(x)
        taught: jax.Array = still + (1 - weights.stop_teacher) * (x - still)
        return taught

    # Eqs 19-21: the fused classifier and every modality's, against the label.
    label_rl = jnp.where(valid_rl, batch.label_rl, 0)
    weight_rl = jnp.asarray(weights.class_weight_c)[label_rl]

    def surprise(x_rlc: jax.Array) -> jax.Array:
        log_rl = jnp.take_along_axis(jax.nn.log_softmax(x_rlc), label_rl[..., None], axis=-1)[..., 0]
        return -log_rl * _focal_weight(log_rl, weights.focal)

    ce_rl = surprise(logits_rlc) + over_modalities({m: surprise(x_rlc) for m, x_rlc in logits.items()})

    # Eqs 22, 23: the fused classifier teaches the others.
    log_teacher_rlc = jax.nn.log_softmax(teacher(logits_rlc) / weights.temperature)
    log_students = {m: jax.nn.log_softmax(x_rlc / weights.temperature) for m, x_rlc in logits.items()}
    kl_rl = over_modalities(
        {m: (jnp.exp(log_teacher_rlc) * (log_teacher_rlc - x_rlc)).sum(-1) for m, x_rlc in log_students.items()}
    )

    # Eq. 18: the fused representation teaches the others.
    taught_rld = teacher(h_k_rld)
    mse_rl = over_modalities({m: _squared_distance(taught_rld, h_rld) for m, h_rld in augmented.items()})

    # Eq. 3.
    rec_rl = over_modalities({m: _squared_distance(features[m], u_rld) for m, u_rld in restored.items()})
    terms = {
        "ce": Mean.of(ce_rl, valid_rl, weight_rl),
        "kl": Mean.of(kl_rl, valid_rl),
        "mse": Mean.of(mse_rl, valid_rl),
    }
    own = {name: Mean(term.value_rl.sum(), term.count_rl.sum()) for name, term in outputs.terms.items()}
    return terms | ({"reconstruction": Mean.of(rec_rl, valid_rl)} if outputs.reconstructions else {}) | own


def total_loss(terms: dict[str, jax.Array], weights: LossWeights) -> jax.Array:
    """Returns the loss of eq. 24: L = L_ce + L_rec + gamma1 L_mse + gamma2 L_kl, and the own terms of the model."""
    weighted = {"reconstruction": weights.reconstruction, "mse": weights.gamma1, "kl": weights.gamma2}
    # What has no weight is left out: 0 times infinity would be NaN.
    parts = (jnp.where(weight > 0, weight * terms[name], 0.0) for name, weight in weighted.items() if name in terms)
    own = (term for name, term in terms.items() if name not in (*weighted, "ce"))
    return terms["ce"] + _sum(parts) + _sum(own)


def _focal_weight(log_rl: jax.Array, gamma: Array) -> jax.Array:
    """Returns (1 - p)^gamma (Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 4); 1 where gamma is 0.

    1 - p is kept off 0, where the gradient of a power below 1 is infinite.
    """
    missed_rl = jnp.maximum(-jnp.expm1(log_rl), 1e-7)
    return jnp.where(gamma > 0, missed_rl**gamma, 1.0)


def _kept(x_rlx: jax.Array, kept_rl: jax.Array) -> jax.Array:
    return jnp.where(kept_rl[..., None], x_rlx, jnp.zeros((), x_rlx.dtype))


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    return sum(terms, jnp.zeros((), jnp.float32))


def _squared_distance(x_rld: jax.Array, y_rld: jax.Array) -> jax.Array:
    """Returns [r, l], the mean over features, so that modalities and widths of every size weigh alike."""
    return jnp.square(x_rld.astype(jnp.float32) - y_rld.astype(jnp.float32)).mean(-1)
