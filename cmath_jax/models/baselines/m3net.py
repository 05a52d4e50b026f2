"""M3NET: a hypergraph and a graph of high frequencies over all modalities (Chen et al., 2023); see docs/baselines.md.

An utterance has a node for each of its modalities.

Shapes: m modalities, twice the one that hears and the one that is heard; r rows, l slots of a row (q the slot that
hears, k the one that is heard), d width, x several widths side by side.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.models.baselines.deep_graph import Graph, heard, is_node, links, normalized
from cmath_jax.models.baselines.input_norm import InputNorm, running_statistics
from cmath_jax.models.baselines.place_weights import PlaceWeights
from cmath_jax.models.baselines.weights import Released, Tree, Weights, stacked
from cmath_jax.models.layers import (
    Context,
    Dense,
    Dropout,
    SpeakerEmbedding,
    accurate,
    context_of,
    product,
    repeat_along,
    total,
    uniform_by,
    visible,
)
from cmath_jax.models.outputs import Outputs, plain_outputs
from cmath_jax.models.recurrent import Recurrent


class Hypergraph(nn.Module):
    """Layers of means: of a hyperedge over its nodes, and of a node over its hyperedges; [m, r, l, d] -> the same.

    A conversation has a hyperedge for each modality and one for each utterance: a node is in two of them.

    Attributes:
      layers: how many; each has a bias and nothing else.
      weighted: for how many utterances of a conversation the divisors are learned; see `M3NETOptions`.
      dtype: of the computation.
    """

    layers: int
    weighted: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_mrld: jax.Array, node_mrl: jax.Array, context: Context) -> jax.Array:
        modalities, width = len(x_mrld), x_mrld.shape[-1]
        modality_mrl, position_mrl = jnp.arange(modalities)[:, None, None], context.position_rl[None]
        together_mrqk = visible(context, context) & node_mrl[:, :, None, :]
        length_mrl = (context.segment_rl[:, :, None] == context.segment_rl[:, None, :]).sum(-1)[None]

        # The weights of nodes divide in a hyperedge, those of hyperedges in a node.
        edge_weights = PlaceWeights((modalities + self.weighted) * bool(self.weighted), name="edge_weights")
        node_weights = PlaceWeights(modalities * self.weighted, name="node_weights")
        node_weight_mrl = jnp.where(node_mrl, node_weights(modality_mrl * length_mrl + position_mrl), 0.0)
        edge_weight_mrl = edge_weights(modality_mrl) + edge_weights(modalities + position_mrl)
        whole_mrl = jnp.where(together_mrqk, node_weight_mrl[:, :, None, :], 0.0).sum(-1)
        share_mrqk = jnp.where(together_mrqk, _inverse(whole_mrl * edge_weight_mrl)[..., None], 0.0).astype(self.dtype)
        share_mrl = _inverse(total(node_weight_mrl, 0)[None] * edge_weight_mrl).astype(self.dtype)

        def advance(x_mrld: jax.Array, bias_d: jax.Array) -> tuple[jax.Array, None]:
            utterance_mrld = share_mrl[..., None] * repeat_along(total(x_mrld, 0), 0, modalities)
            y_mrld = nn.leaky_relu(product(share_mrqk, x_mrld) + utterance_mrld + bias_d[None, None, None])
            return jnp.where(node_mrl[..., None], y_mrld, jnp.zeros((), self.dtype)), None

        bias_nd = self.param("bias", nn.initializers.zeros, (self.layers, width), jnp.float32).astype(self.dtype)
        return jax.lax.scan(advance, x_mrld, bias_nd)[0]


def _inverse(x: jax.Array) -> jax.Array:
    return jnp.where(x == 0, 0.0, 1.0 / jnp.where(x == 0, 1.0, x))


class HighFrequencies(nn.Module):
    """Layers that add to a node its neighbours, by weights of either sign: [m, r, l, d] -> the same.

    Neighbours are the nodes of the same modality in the conversation, and those of the same utterance.

    Attributes:
      layers: how many.
      dtype: of the computation.
    """

    layers: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_mrld: jax.Array, node_mrl: jax.Array, context: Context) -> jax.Array:
        modalities, *_, width = x_mrld.shape
        itself_rqk = context.position_rl[:, :, None] == context.position_rl[:, None, :]
        linked = links(context, modalities)
        exact = accurate(x_mrld).dtype
        others_mrqk = (linked.own_mrqk & ~itself_rqk[None]).astype(exact)
        plain = normalized(Graph(others_mrqk, linked.cross_mmrl.astype(exact)))

        def advance(x_mrld: jax.Array, gate: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            kernel, bias = gate
            # A gate reads both nodes side by side: tanh(q [X_i; X_j] + c).
            score_nd = accurate(product(x_mrld.reshape(-1, width), kernel.reshape(2, width).T))
            hears_mrl, heard_mrl = (score_nd[:, i].reshape(node_mrl.shape) for i in range(2))
            hears_mrl += accurate(bias)
            own_mrqk = plain.own_mrqk * jnp.tanh(hears_mrl[:, :, :, None] + heard_mrl[:, :, None, :])
            cross_mmrl = plain.cross_mmrl * jnp.tanh(hears_mrl[:, None] + heard_mrl[None])
            return x_mrld + heard(Graph(own_mrqk.astype(self.dtype), cross_mmrl.astype(self.dtype)), x_mrld), None

        kernel = self.param("kernel", uniform_by(2 * width), (self.layers, 2 * width), jnp.float32)
        bias = self.param("bias", uniform_by(2 * width), (self.layers,), jnp.float32)
        return jax.lax.scan(advance, x_mrld, (kernel.astype(self.dtype), bias))[0]


class M3NET(nn.Module):
    """The whole model. `M3NET(...).apply(variables, batch, train=False)` returns `Outputs`.

    Training draws from the rng key `dropout`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: of what goes into the graphs, both directions of the GRU together.
      graph_width, layers, frequency_layers, text_layers, project_text, weighted_utterances: see `M3NETOptions`.
      dropout: rate, everywhere; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: False.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 512
    graph_width: int = 512
    layers: int = 3
    frequency_layers: int = 4
    text_layers: int = 1
    project_text: bool = True
    weighted_utterances: int = 0
    dropout: float = 0.5
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)
        node_mrl = jnp.broadcast_to(is_node(context), (len(present), *context.segment_rl.shape))

        def dense(width: int, name: str) -> Dense:
            return Dense((width,), dtype=self.dtype, uniform=True, name=name)

        # What is said, in its context and by whom; and what is heard and seen.
        x = {m: dense(self.width, f"project_{m}")(batch.features[m]) for m in present if m != "t"}
        if "t" in present:
            text_rld = InputNorm(self.text_layers, self.dtype, name="norm")(batch.features["t"])
            text_rld = dense(self.width, "project_t")(text_rld) if self.project_text else text_rld
            text_rld = jnp.where(node_mrl[0][..., None], text_rld, jnp.zeros((), self.dtype))
            said_rld = Recurrent("gru", self.width // 2, 2, 2, self.dtype, name="recurrent")(text_rld, context)
            speaker = SpeakerEmbedding(self.speakers, self.width, self.dtype, 1.0, name="speaker")
            x["t"] = said_rld + speaker(batch.speaker_rl)
        x_mrld = dense(self.graph_width, "nodes")(jnp.stack([x[m] for m in present]))
        x_mrld = jnp.where(node_mrl[..., None], x_mrld, jnp.zeros((), self.dtype))

        # Both graphs begin with the same nodes.
        smooth = Hypergraph(self.layers, self.weighted_utterances, self.dtype, name="hypergraph")
        rough = HighFrequencies(self.frequency_layers, self.dtype, name="high_frequencies")
        parts = [smooth(x_mrld, node_mrl, context), rough(x_mrld, node_mrl, context)]
        fused_rlx = nn.relu(jnp.concatenate([part[m] for m in range(len(present)) for part in parts], axis=-1))
        logits_rlc = dense(self.classes, "classifier")(Dropout()(fused_rlx, context))
        return plain_outputs(logits_rlc, fused_rlx)


NORMS = tuple(f"normBN{letter}" for letter in "abcd")


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit. On MELD (seven classes) the GRU reads the text as it is."""
    graph = "graph_model."
    edges, nodes = len(weights[f"{graph}hyperedge_weight"]), len(weights[f"{graph}EW_weight"])
    return {
        "width": len(weights["linear_a.bias"]),
        "graph_width": len(weights[f"{graph}fc1.bias"]),
        "layers": weights.count(r"graph_model\.hyperconv\d+\.bias"),
        "frequency_layers": weights.count(r"graph_model\.conv\d+\.gate\.bias"),
        "text_layers": len(NORMS),
        "project_text": weights.classes != 7,
        "weighted_utterances": min(edges - len(MODALITIES), nodes // len(MODALITIES)),
    }


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters; of the weights by place those that a conversation alone can need."""
    graph, weighted = "graph_model.", options["weighted_utterances"]
    gates = [f"{graph}conv{k + 1}.gate" for k in range(options["frequency_layers"])]
    return {
        "norm": stacked([weights.norm(name) for name in NORMS]),
        **({"project_t": weights.dense("linear_l")} if options["project_text"] else {}),
        "project_a": weights.dense("linear_a"),
        "project_v": weights.dense("linear_v"),
        "recurrent": weights.recurrent("gru_l"),
        "speaker": {"embedding": weights[f"{graph}speaker_embeddings.weight"][: weights.speakers]},
        "nodes": weights.dense(f"{graph}fc1"),
        "hypergraph": {
            "bias": np.stack([weights[f"{graph}hyperconv{k + 1}.bias"] for k in range(options["layers"])]),
            "edge_weights": {"weight": weights[f"{graph}hyperedge_weight"][: len(MODALITIES) + weighted]},
            "node_weights": {"weight": weights[f"{graph}EW_weight"][: len(MODALITIES) * weighted]},
        },
        "high_frequencies": {
            "kernel": np.concatenate([weights[f"{gate}.weight"] for gate in gates]),
            "bias": np.concatenate([weights[f"{gate}.bias"] for gate in gates]),
        },
        "classifier": weights.dense("smax_fc"),
    }


def released_standardization(weights: Weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the running statistics of the four text layers."""
    return {"t": running_statistics(weights, NORMS)}


RELEASED = {
    "M3NET": Released(
        released_options,
        released_params,
        dead=(
            r"(.*\.)?(normLN\w*|hidfc|modal_embeddings|hyperedge_attr\d|edgeweight|edgefc|hyperconv\d+\.weight)(\..*)?"
            r"|linear_l\..*|normBN\w\.num_batches_tracked"
        ),
        standardization=released_standardization,
    )
}
