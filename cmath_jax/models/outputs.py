"""Outputs that every model returns, and what of them is kept of an evaluation.

Shapes: r rows, l slots of a row, d width, c classes.
"""

import flax.struct
import jax
import jax.numpy as jnp

from cmath_jax.data.batches import Array
from cmath_jax.models.layers import accurate


@flax.struct.dataclass
class Term:
    """A term of a model's own loss: the sum of its values over the sum of its counts, of all utterances of a batch.

    Attributes:
      value_rl: float32, times its weight in the loss; 0 for an utterance that the term does not know.
      count_rl: float32, how many values are summed up in it.
    """

    value_rl: jax.Array
    count_rl: jax.Array


@flax.struct.dataclass
class Outputs:
    """The outputs that losses, metrics and a curious reader need. Logits, mean, deviation, sample are float32 or 64.

    Attributes:
      logits_rlc: of the fused representation; softmax gives Y_k, argmax the prediction.
      modality_logits: m -> [r, l, c]; softmax gives Y_m.
      mean_rld, deviation_rld: of the fused Gaussian; a deviation of 0 where the fusion has no noise.
      sample_rld: H'_k: a draw from it in training, its mean otherwise.
      augmented: m -> H'_m [r, l, d].
      reconstructions: m -> U''_m [r, l, d_m]; empty without modality reconstruction.
      gates: central m -> modality -> the gate's weights [r, l, d]; empty where nothing is gated.
      terms: of the model's own loss, by name, which the losses of all models are added to.
    """

    logits_rlc: jax.Array
    modality_logits: dict[str, jax.Array]
    mean_rld: jax.Array
    deviation_rld: jax.Array
    sample_rld: jax.Array
    augmented: dict[str, jax.Array]
    reconstructions: dict[str, jax.Array]
    gates: dict[str, dict[str, jax.Array]]
    terms: dict[str, Term] = flax.struct.field(default_factory=dict)


def plain_outputs(logits_rlc: jax.Array, mean_rld: jax.Array, terms: dict[str, Term] | None = None) -> Outputs:
    """Returns the outputs of a model without noise, gates, reconstructions and classifiers of single modalities.

    Args:
      mean_rld: what its classifier reads.
      terms: of its own loss.
    """
    mean_rld = accurate(mean_rld)
    return Outputs(
        logits_rlc=accurate(logits_rlc),
        modality_logits={},
        mean_rld=mean_rld,
        deviation_rld=jnp.zeros_like(mean_rld),
        sample_rld=mean_rld,
        augmented={},
        reconstructions={},
        gates={},
        terms=terms or {},
    )


@flax.struct.dataclass
class Evaluation:
    """The statements of a model on every slot of a batch, or on every utterance of a split.

    Attributes:
      probability: float32 [..., c], Y_k.
      fused: float32 [..., d], the mean of the fused Gaussian.
      gates: centre -> modality -> float32 [...], the mean of the gate's weights over features.
    """

    probability: Array
    fused: Array
    gates: dict[str, dict[str, Array]]
