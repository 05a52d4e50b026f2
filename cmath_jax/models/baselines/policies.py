"""The policies of AdaIGN: how much of an utterance is taken, and who is heard; their tables, noise and losses.

Shapes: g policies; r rows, l slots of a row, n utterances of a split; c the two choices of a policy; x rows of a table.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.models.draws import random_bits, standard_logistic
from cmath_jax.models.layers import Context


@flax.struct.dataclass
class Policies:
    """The policies of a batch: each a probability, and the logits from which it comes.

    Attributes:
      samples: m -> [r, l], how much of what is said in modality m is taken; without text where nothing depends on it.
      contexts: m -> [r, l], how much is heard of the own speaker, and not of the others.
      mix: a scalar, how much the graph without policies weighs.
      sample_logits, context_logits: m -> [r, l, c].
      mix_logits_c: see above.
    """

    samples: Mapping[str, jax.Array]
    contexts: Mapping[str, jax.Array]
    mix: jax.Array
    sample_logits: Mapping[str, jax.Array]
    context_logits: Mapping[str, jax.Array]
    mix_logits_c: jax.Array


def absolute_normal(rng_key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Draws absolute values of N(0, 0.1^2)."""
    return jnp.abs(nn.initializers.normal(0.1)(rng_key, shape, dtype))


class PolicyTables(nn.Module):
    """The tables of policies: two logits for each place in a conversation, counted from its last utterance.

    A policy is softmax(logits / temperature), class 0; in training with Gumbel noise on the logits, of which only the
    difference matters. Utterances farther from the end than the table reaches have its first row.

    Attributes:
      sampled, modalities: which modalities have a policy of samples, and which one of contexts.
      rows: places that have their own policy.
      temperature, temperature_decay, absolute_logits: see `models.options.adaign`.
      given: see `AdaIGN`.
    """

    sampled: Sequence[str]
    modalities: Sequence[str]
    rows: int
    temperature: float
    temperature_decay: float
    absolute_logits: bool
    given: Mapping[str, np.ndarray] | None

    @nn.compact
    def __call__(self, context: Context) -> Policies:
        names = [f"sample_{m}" for m in self.sampled] + [f"context_{m}" for m in self.modalities]
        normal = absolute_normal if self.absolute_logits else nn.initializers.normal(0.1)
        tables = [
            self.param(f"{kind}_policy", normal, (len(of), self.rows, 2), jnp.float32)
            for kind, of in (("sample", self.sampled), ("context", self.modalities))
            if of
        ]
        table_glc = jnp.concatenate(tables)
        mix_logits_c = self.param("mix_policy", normal, (2,), jnp.float32)
        temperature: jax.Array | float = self.temperature
        if self.temperature_decay != 1:
            # No gradient trains it: the optimizer adds 1 after each epoch of policies.
            epochs = jax.lax.stop_gradient(self.param("policy_epochs", nn.initializers.zeros, (), jnp.float32))
            temperature *= jnp.float32(self.temperature_decay) ** epochs

        same_rqk = context.segment_rl[:, :, None] == context.segment_rl[:, None, :]
        from_end_rl = same_rqk.sum(-1) - 1 - context.position_rl
        row_rl = jnp.maximum(self.rows - 1 - from_end_rl, 0)
        # A product with one-hot rows, as exact: the gradient of a look-up adds up in any order on a GPU.
        one_hot_rlx = jax.nn.one_hot(row_rl, self.rows, dtype=table_glc.dtype)
        logits_grlc = jnp.einsum("rlx,gxc->grlc", one_hot_rlx, table_glc, precision="highest")

        difference_grl = logits_grlc[..., 0] - logits_grlc[..., 1]
        mix_difference = mix_logits_c[0] - mix_logits_c[1]
        if context.train:
            rng_key = self.make_rng("noise")
            policy_grl = jnp.arange(len(names))[:, None, None]
            difference_grl += standard_logistic(random_bits(rng_key, policy_grl, context.utterance_rl[None]))
            mix_difference += standard_logistic(random_bits(rng_key, jnp.uint32(len(names))))
        probability_grl = nn.sigmoid(difference_grl / temperature)
        policies, logits = dict(zip(names, probability_grl, strict=True)), dict(zip(names, logits_grlc, strict=True))
        policies["mix"] = nn.sigmoid(mix_difference / temperature)
        for name, given in (self.given or {}).items():
            value = jnp.asarray(given) if name == "mix" else jnp.asarray(given)[context.utterance_rl]
            policies[name] = jnp.where(jnp.isnan(value), policies[name], value)
        return Policies(
            samples={m: policies[f"sample_{m}"] for m in self.sampled},
            contexts={m: policies[f"context_{m}"] for m in self.modalities},
            mix=policies["mix"],
            sample_logits={m: logits[f"sample_{m}"] for m in self.sampled},
            context_logits={m: logits[f"context_{m}"] for m in self.modalities},
            mix_logits_c=mix_logits_c,
        )


def policy_losses(policies: Policies, context: Context) -> dict[str, jax.Array]:
    """Returns the losses of the policies by their names, [r, l]; their means over utterances are the losses.

    CE_k is the cross-entropy of the logits x with choice k; D(x, y) = (t + 1) |x_0 - y_0| at place t from 0, whose mean
    over a conversation is the sum of |x_0 - y_0| weighed by (t + 1) / n.
    """
    place_rl = (context.position_rl + 1).astype(jnp.float32)

    def total(values: Sequence[jax.Array]) -> jax.Array:
        return sum(values, jnp.zeros(place_rl.shape))

    def entropy(logits: Sequence[jax.Array], choice: int) -> jax.Array:
        return total([-nn.log_softmax(x)[..., choice] for x in logits])

    def distance(x_rlc: jax.Array, y_rlc: jax.Array) -> jax.Array:
        return place_rl * jnp.abs(x_rlc[..., 0] - y_rlc[..., 0])

    samples = policies.sample_logits
    text = [samples[m] for m in samples if m == "t"]
    others = [samples[m] for m in samples if m != "t"]
    contexts, mix = [*policies.context_logits.values()], [policies.mix_logits_c[None, None]]
    alike = [distance(x, y) for x in text for y in others] + [distance(*pair) for pair in combinations(contexts, 2)]
    return {
        "importance": entropy(text + contexts, 0) + total(alike),
        "not_importance": entropy(text + contexts, 1),
        "hamming": entropy(others + mix, 0) + total([distance(*pair) for pair in combinations(others, 2)]),
        "sparsity": entropy(others + mix, 1),
    }
