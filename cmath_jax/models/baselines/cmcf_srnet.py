"""CMCF-SRNet-style: local cross-modal attention, then a graph, after Zhang and Li, 2023; see docs/baselines.md.

There is no usable code of its authors, and of the paper only a summary of the abstract was at hand. Of it are: a
cross-modal transformer that a mask of the scores keeps local, modalities that are treated alike, inside and across; a
graph transformer over utterances whose edges know speakers and order; a classifier of both stages side by side. All
else is a choice of ours: sinusoids and embeddings at the input, the form of each layer and their number, both windows,
five relations, their second term in the values, where something is dropped, and every size.

Shapes and letters as in `models.cmath`; m the modality that asks, then the one that it attends to; x a relation.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.baselines.encoder import (
    PostNorm,
    UtteranceInputs,
    near,
    scores,
    told_alone,
    weights,
    with_heads,
    without_heads,
)
from cmath_jax.models.layers import Context, Dense, Dropout, accurate, context_of, product
from cmath_jax.models.outputs import Outputs, plain_outputs


class LocalLayer(nn.Module):
    """A layer in which every modality attends to all of them, itself included: [m, r, l, d] -> the same.

    Attention has no matrix for its output: the one that merges what a modality hears from all is that too.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_mrld: jax.Array, seen_mrqk: jax.Array, context: Context) -> jax.Array:
        modalities, *_, width = x_mrld.shape
        features = (3, modalities, self.heads, width // self.heads)
        projected = Dense(features, (modalities,), use_bias=False, dtype=self.dtype, name="query_key_value")(x_mrld)
        query_mmrhqw, key_mmrhkw, value_mmrhkw = with_heads(projected, 2)  # the partner first
        query_mmrhqw = query_mmrhqw.swapaxes(0, 1)
        rng_key = self.make_rng("dropout") if context.drops else None
        score_mmrhqk = scores(query_mmrhqw, key_mmrhkw)
        weight_mmrhqk = weights(score_mmrhqk, seen_mrqk[None], context, rng_key, self.dtype)
        heard_mmrld = without_heads(product(weight_mmrhqk, value_mmrhkw))
        heard_mrlx = jnp.concatenate([heard_mmrld[:, n] for n in range(modalities)], axis=-1)
        heard_mrld = Dense((width,), (modalities,), dtype=self.dtype, name="merge")(heard_mrlx)
        return PostNorm((modalities,), self.dtype, name="layer")(x_mrld, Dropout()(heard_mrld, context), context)


class GraphLayer(nn.Module):
    """A layer of attention along the edges of the graph, whose relations have keys and values too.

    e_ij = q_i . (k_j + r_ij) / sqrt(w), and m_i = sum over j of alpha_ij (v_j + r'_ij), for each head.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h_rld: jax.Array, edge_rqk: jax.Array, relation_rqkx: jax.Array, context: Context) -> jax.Array:
        head_width = h_rld.shape[-1] // self.heads
        features = (3, self.heads, head_width)
        projected = Dense(features, use_bias=False, dtype=self.dtype, name="query_key_value")(h_rld)
        query_rhqw, key_rhkw, value_rhkw = with_heads(projected, 1)

        def table(name: str) -> jax.Array:
            shape = (1, self.heads, relation_rqkx.shape[-1], head_width)
            initializer = nn.initializers.normal(head_width**-0.5)
            return self.param(name, initializer, shape[1:], jnp.float32).astype(self.dtype).reshape(shape)

        # The products of a query with all relations, then those of its edges; and the weights by relation.
        score_rhqx = scores(query_rhqw, table("relation_key"))
        score_rhqk = scores(query_rhqw, key_rhkw) + jnp.einsum("rhqx,rqkx->rhqk", score_rhqx, accurate(relation_rqkx))
        rng_key = self.make_rng("dropout") if context.drops else None
        weight_rhqk = weights(score_rhqk, edge_rqk, context, rng_key, self.dtype)
        weight_rhqx = jnp.einsum("rhqk,rqkx->rhqx", weight_rhqk, relation_rqkx)
        heard_rhqw = product(weight_rhqk, value_rhkw) + jnp.matmul(weight_rhqx, table("relation_value"))
        return PostNorm((), self.dtype, name="layer")(h_rld, Dropout()(without_heads(heard_rhqw), context), context)


def relations(context: Context, speaker_rl: jax.Array) -> jax.Array:
    """Returns bool [r, q, k, x]: what k is to q, namely itself, earlier or later, by the same speaker or by another.

    Nothing is later if causal. An utterance is never of another speaker than itself: there is no such relation.
    """
    later_rqk, earlier_rqk = (
        compare(context.position_rl[:, :, None], context.position_rl[:, None, :]) for compare in (jnp.less, jnp.greater)
    )
    same_rqk = speaker_rl[:, :, None] == speaker_rl[:, None, :]
    kinds = [~later_rqk & ~earlier_rqk, earlier_rqk & same_rqk, earlier_rqk & ~same_rqk]
    if not context.causal:
        kinds += [later_rqk & same_rqk, later_rqk & ~same_rqk]
    return jnp.stack(kinds, axis=-1)


def repeated(
    layer: nn.Module, x: jax.Array, layers: int, apply: Callable[[nn.Module, jax.Array], jax.Array]
) -> jax.Array:
    """Applies equal layers one after the other; their parameters lie in one array, [layers, ...]."""

    def once(layer: nn.Module, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return apply(layer, x), None

    scan: Callable[..., Any] = nn.scan(
        once, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True}, length=layers
    )
    y: jax.Array = scan(layer, x, None)[0]
    return y


class CMCFSRNet(nn.Module):
    """The whole model. `CMCFSRNet(...).apply(variables, batch, train=False)` returns `Outputs`.

    Training draws from the rng key `dropout`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: d.
      heads: attention heads, everywhere; they divide the width.
      dropout: rate, everywhere; a call may give another one.
      local_window: how many utterances before and after one its modalities hear.
      local_layers: of the cross-modal transformer.
      graph_window: how many utterances before and after one it has edges with.
      graph_layers: of the graph transformer.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: True tells an utterance from itself and what came before it alone.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 200
    heads: int = 4
    dropout: float = 0.4
    local_window: int = 5
    local_layers: int = 1
    graph_window: int = 10
    graph_layers: int = 2
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)

        # H: the modalities of an utterance, each told what all say near it.
        x_mrld = UtteranceInputs(present, self.width, self.speakers, self.dtype, name="inputs")(batch)
        seen_mrqk = near(context, self.local_window)
        local = LocalLayer(self.heads, self.dtype, name="local")
        h_mrld = repeated(local, x_mrld, self.local_layers, lambda layer, x: layer(x, seen_mrqk, context))
        merged_rld = Dense((self.width,), dtype=self.dtype, name="merge")(
            jnp.concatenate([*told_alone(h_mrld, context)], axis=-1)
        )

        # h: utterances, told by others near them. An utterance is a node whatever modalities it lacks.
        edge_rqk = near(replace(context, present_mrl=None), self.graph_window)[0]
        relation_rqkx = relations(context, batch.speaker_rl).astype(self.dtype)
        graph = GraphLayer(self.heads, self.dtype, name="graph")
        h_rld = repeated(
            graph, merged_rld, self.graph_layers, lambda layer, h: layer(h, edge_rqk, relation_rqkx, context)
        )

        z_rlx = nn.relu(jnp.concatenate([merged_rld, h_rld], axis=-1))
        classifier = Dense((self.classes,), dtype=self.dtype, name="classifier")
        return plain_outputs(classifier(Dropout()(z_rlx, context)), z_rlx)
