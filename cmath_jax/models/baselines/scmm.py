"""SCMM-style: paths that each utterance chooses among, after Yang et al., 2023; see docs/baselines.md.

Its authors published no code, and of the paper only the abstract was at hand. Of it are: a context module with a long,
a short and an independent part, an interaction module with three parts, and a self-adaptive selection of paths in each.
Of a public rewriting of the context module by others are: an encoder layer over the conversation, a linear layer near
the identity with a norm, and the selection by a learned query. All else is a choice of ours: a layer of attention in a
window in place of their GRU over the last utterances, sinusoids of the place and embeddings of speakers, what the three
interactions are, where something is dropped, the classifier, and every size but the heads and the rate of dropout.

Shapes and letters as in `models.cmath`; g a path, and the modality that it is a path of.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.attention import MASKED
from cmath_jax.models.baselines.encoder import MaskedAttention, PostNorm, UtteranceInputs, near, told_alone
from cmath_jax.models.layers import (
    Context,
    Dense,
    Dropout,
    LayerNorm,
    accurate,
    context_of,
    product,
    repeat_along,
    softmax_gate,
    total,
    visible,
)
from cmath_jax.models.outputs import Outputs, plain_outputs


class PathSelection(nn.Module):
    """The sum of paths [p, *g, r, l, d], weighted for each utterance by a softmax of q.h / sqrt(d); q is learned."""

    stack: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, paths_grld: jax.Array) -> jax.Array:
        width = paths_grld.shape[-1]
        query_gd = self.param("query", nn.initializers.normal(0.02), (*self.stack, width), jnp.float32)
        score_grl = (accurate(paths_grld) * query_gd[None, ..., None, None, :]).sum(-1) / math.sqrt(width)
        return softmax_gate(score_grl[..., None], paths_grld, axis=0)[0]


class NearIdentity(nn.Module):
    """A linear layer for each of a stack that begins near the identity: [g, r, l, d] -> the same."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_grld: jax.Array) -> jax.Array:
        stack, rows, slots, width = x_grld.shape

        def initialize(rng_key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
            return jnp.eye(width, dtype=dtype)[None] + 0.01 * jax.random.normal(rng_key, shape, dtype)

        kernel = self.param("kernel", initialize, (stack, width, width), jnp.float32).astype(self.dtype)
        bias_gd = self.param("bias", nn.initializers.zeros, (stack, width), jnp.float32).astype(self.dtype)
        y_gnd = product(x_grld.reshape(stack, rows * slots, width), kernel) + bias_gd[:, None]
        return y_gnd.reshape(x_grld.shape)


class ContextModule(nn.Module):
    """C_m of every modality: a selection of its long, its short and its independent path."""

    heads: int
    window: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_mrld: jax.Array, context: Context) -> jax.Array:
        stack = (len(x_mrld),)
        # Both attentions at once: one hears the whole conversation, the other a window.
        seen_grqk = jnp.stack([visible(context, context), near(context, self.window)])
        heard_grld = MaskedAttention(self.heads, self.dtype, name="attention")(
            repeat_along(x_mrld, 0, 2), seen_grqk, context
        )
        long_mrld = PostNorm(stack, self.dtype, name="long")(x_mrld, heard_grld[0], context)
        short_mrld = LayerNorm(stack, self.dtype, name="short_norm")(heard_grld[1])
        alone_mrld = Dropout()(NearIdentity(self.dtype, name="independent")(x_mrld), context)
        alone_mrld = LayerNorm(stack, self.dtype, name="independent_norm")(alone_mrld)
        return PathSelection(stack, name="selection")(jnp.stack([long_mrld, short_mrld, alone_mrld]))


class ModalityAttention(nn.Module):
    """Multi-head attention among the modalities of one utterance: [m, r, l, d], [m, r, l, d] -> [m, r, l, d].

    All share the parameters. Of a single one that answers every weight is 1: there are no queries and no keys then.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, asking_mrld: jax.Array, answering_mrld: jax.Array, told_mrl: jax.Array | None, context: Context
    ) -> jax.Array:
        width = asking_mrld.shape[-1]

        def project(name: str, x_mrld: jax.Array) -> jax.Array:
            features = (self.heads, width // self.heads)
            return Dense(features, use_bias=False, dtype=self.dtype, name=name)(x_mrld)

        value_mrlhw = project("value", answering_mrld)
        weight_mmrlh = jnp.ones((len(asking_mrld), *value_mrlhw.shape[:-1]), self.dtype)
        if len(answering_mrld) > 1:
            query_mrlhw, key_mrlhw = accurate(project("query", asking_mrld)), project("key", answering_mrld)
            score_mmrlh = (query_mrlhw[:, None] * key_mrlhw[None]).sum(-1) / math.sqrt(width / self.heads)
            if told_mrl is not None:
                score_mmrlh = jnp.where(told_mrl[None, ..., None], score_mmrlh, MASKED)
            weight_mmrlh = nn.softmax(score_mmrlh, axis=1).astype(self.dtype)
        weight_mmrlh = Dropout()(weight_mmrlh, context)
        mixed_mrlhw = total(weight_mmrlh[..., None] * value_mrlhw[None], 1)
        output = Dense((width,), dtype=self.dtype, name="output")
        return Dropout()(output(mixed_mrlhw.reshape(asking_mrld.shape)), context)


class InteractionModule(nn.Module):
    """Z, a selection of the full, the partial and the biased interaction of the C_m; with one C_m Linear(C_m)."""

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, c_mrld: jax.Array, context: Context) -> jax.Array:
        modalities, *_, width = c_mrld.shape

        def merge(name: str, parts: Sequence[jax.Array]) -> jax.Array:
            return Dense((width,), dtype=self.dtype, name=name)(jnp.concatenate(parts, axis=-1))

        if modalities == 1:
            return merge("full", [*c_mrld])
        told_mrl = None if context.present_mrl is None else context.told_mrl

        # Full: every modality attends to all of its utterance.
        heard_mrld = ModalityAttention(self.heads, self.dtype, name="full_attention")(c_mrld, c_mrld, told_mrl, context)
        all_mrld = LayerNorm((modalities,), self.dtype, name="full_norm")(c_mrld + heard_mrld)
        full_rld = merge("full", [*told_alone(all_mrld, context)])
        # Partial: every pair, by its product and by both. One matrix is enough for a modality of several pairs.
        partial_rld = merge("partial", [*(x * y for x, y in itertools.combinations(c_mrld, 2)), *c_mrld])
        # Biased: the first modality, which is text where there is text, attends to the others.
        others = None if told_mrl is None else told_mrl[1:]
        attention = ModalityAttention(self.heads, self.dtype, name="biased_attention")
        biased_rld = c_mrld[0] + attention(c_mrld[:1], c_mrld[1:], others, context)[0]
        return PathSelection(name="selection")(jnp.stack([full_rld, partial_rld, biased_rld]))


class SCMM(nn.Module):
    """The whole model. `SCMM(...).apply(variables, batch, train=False)` returns `Outputs`.

    Training draws from the rng key `dropout`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: d.
      heads: attention heads, everywhere; they divide the width.
      dropout: rate, everywhere; a call may give another one.
      window: how many utterances before and after one its short path hears.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: True tells an utterance from itself and what came before it alone.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 256
    heads: int = 8
    dropout: float = 0.1
    window: int = 2
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)

        x_mrld = UtteranceInputs(present, self.width, self.speakers, self.dtype, name="inputs")(batch)
        c_mrld = ContextModule(self.heads, self.window, self.dtype, name="context")(x_mrld, context)
        z_rld = InteractionModule(self.heads, self.dtype, name="interaction")(told_alone(c_mrld, context), context)

        z_rld = nn.relu(z_rld)
        classifier = Dense((self.classes,), dtype=self.dtype, name="classifier")
        return plain_outputs(classifier(Dropout()(z_rld, context)), z_rld)
