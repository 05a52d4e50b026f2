"""MMGCN: deep convolution over a graph of all modalities (Hu et al., 2021), in its equations; see docs/baselines.md.

Shapes: m modalities; r rows, l slots of a row, d width, c classes; v speakers; x a node and what its layers make of it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.baselines.deep_graph import DeepGraphLayers, is_node, read_out
from cmath_jax.models.baselines.deep_graph_weights import RELEASED_DEAD, released_graph_options, released_graph_params
from cmath_jax.models.baselines.weights import Released, Tree, Weights
from cmath_jax.models.layers import Dense, Dropout, SpeakerEmbedding, context_of
from cmath_jax.models.outputs import Outputs, plain_outputs
from cmath_jax.models.recurrent import Recurrent

ALPHA = 0.1  # how much of the first layer each keeps


class MMGCN(nn.Module):
    """The whole model. `MMGCN(...).apply(variables, batch, train=False)` returns `Outputs`.

    It has one classifier, over the nodes of an utterance and what the graph makes of them, side by side. Training draws
    from the rng key `dropout`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: of a node; each direction of the LSTM has half of it.
      graph_width: of the layers of the graph.
      layers: of the graph.
      dropout: rate, everywhere; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: False: the LSTM hears the future.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 200
    graph_width: int = 100
    layers: int = 64
    dropout: float = 0.4
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)
        is_node_mrlx = is_node(context)[..., None]

        # X: a node for each modality of an utterance. The text has heard the conversation, and knows its speaker.
        x_mrld = jnp.stack(
            [
                Dense((self.width,), dtype=self.dtype, uniform=True, name=f"input_{m}")(batch.features[m])
                for m in present
            ]
        )
        x_mrld = jnp.where(is_node_mrlx, x_mrld, jnp.zeros((), self.dtype))
        if "t" in present:
            text = Recurrent("lstm", self.width // 2, 2, 2, self.dtype, name="text_context")
            speaker = SpeakerEmbedding(self.speakers, self.width, self.dtype, 1.0, name="speaker")
            x_rld = text(x_mrld[0], context) + speaker(batch.speaker_rl)
            x_mrld = jnp.where(is_node_mrlx, x_mrld.at[0].set(x_rld), jnp.zeros((), self.dtype))

        # H: what the graph makes of it; and the classifier.
        graph = DeepGraphLayers(self.graph_width, self.layers, ALPHA, False, self.dtype, name="graph")
        said_rlx = read_out(x_mrld, graph, context)
        classifier = Dense((self.classes,), dtype=self.dtype, uniform=True, name="classifier")
        return plain_outputs(classifier(Dropout()(said_rlx, context)), said_rlx)


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit."""
    return released_graph_options(weights)


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters."""
    del options
    speaker_vd = weights["graph_model.speaker_embeddings.weight"][: weights.speakers]
    return {**released_graph_params(weights), "speaker": {"embedding": speaker_vd}}


RELEASED = {"MMGCN": Released(released_options, released_params, dead=RELEASED_DEAD)}
