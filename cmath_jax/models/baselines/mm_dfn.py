"""MM-DFN: a graph of all modalities whose layers remember (Hu et al., 2022), in its equations; see docs/baselines.md.

Shapes: m modalities; r rows, l slots of a row, d width, c classes; x a node and what its layers make of it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.baselines.deep_graph import DeepGraphLayers, is_node, read_out
from cmath_jax.models.baselines.deep_graph_weights import RELEASED_DEAD, released_graph_options, released_graph_params
from cmath_jax.models.baselines.parties import party_context
from cmath_jax.models.baselines.weights import Released, Tree, Weights
from cmath_jax.models.layers import Dense, Dropout, context_of
from cmath_jax.models.outputs import Outputs, plain_outputs
from cmath_jax.models.recurrent import Recurrent

ALPHA = 0.2  # how much of the first layer each keeps


class MMDFN(nn.Module):
    """The whole model. `MMDFN(...).apply(variables, batch, train=False)` returns `Outputs`.

    It has one classifier, over the nodes of an utterance and what the graph makes of them, side by side. Training draws
    from the rng key `dropout`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: of a node; each direction of the GRUs has half of it.
      graph_width: of the layers of the graph.
      layers: of the graph.
      party_text, party_audio, party_visual: how much the context of each speaker adds to a modality. Where it is 0
        everywhere, that context has no parameters.
      party_padding: see `party_context`.
      dropout: rate, everywhere; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: False: the GRUs hear the future.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 200
    graph_width: int = 100
    layers: int = 16
    party_text: float = 1.0
    party_audio: float = 1.0
    party_visual: float = 1.0
    party_padding: bool = False
    dropout: float = 0.4
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)
        is_node_mrlx = is_node(context)[..., None]

        # X: a node for each modality of an utterance. The text has heard the conversation, and each its own speaker.
        u_mrld = jnp.stack(
            [
                Dense((self.width,), dtype=self.dtype, uniform=True, name=f"input_{m}")(batch.features[m])
                for m in present
            ]
        )
        u_mrld = jnp.where(is_node_mrlx, u_mrld, jnp.zeros((), self.dtype))
        x_mrld = u_mrld
        if "t" in present:
            text = Recurrent("gru", self.width // 2, 2, 2, self.dtype, name="text_context")
            x_mrld = x_mrld.at[0].set(text(u_mrld[0], context))
        weights = {"t": self.party_text, "a": self.party_audio, "v": self.party_visual}
        heard = [i for i, m in enumerate(present) if weights[m] > 0]
        if heard:
            recurrent = Recurrent("gru", self.width // 2, 2, 2, self.dtype, name="party_context")
            weight_m = jnp.asarray([weights[present[i]] for i in heard], self.dtype)
            party_mrld = party_context(
                recurrent, u_mrld[np.array(heard)], batch.speaker_rl, context, self.speakers, self.party_padding
            )
            x_mrld = x_mrld.at[np.array(heard)].add(weight_m[:, None, None, None] * party_mrld)
        x_mrld = jnp.where(is_node_mrlx, x_mrld, jnp.zeros((), self.dtype))

        # H: what the graph makes of it; and the classifier.
        graph = DeepGraphLayers(self.graph_width, self.layers, ALPHA, True, self.dtype, name="graph")
        said_rlx = read_out(x_mrld, graph, context)
        classifier = Dense((self.classes,), dtype=self.dtype, uniform=True, name="classifier")
        return plain_outputs(classifier(Dropout()(said_rlx, context)), said_rlx)


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit; nothing says the weights of parties but the data set."""
    party_audio, party_visual, party_text = (3.0, 0.0, 1.0) if weights.classes == 6 else (0.5, 0.5, 1.5)
    return {
        **released_graph_options(weights),
        "party_text": party_text,
        "party_audio": party_audio,
        "party_visual": party_visual,
        "party_padding": True,
    }


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters."""
    del options
    tree = released_graph_params(weights)
    memory = weights.cell("graph_model.graph_net.rnn", "_l0")
    tree["graph"] |= {f"memory_{name}": x for name, x in memory.items()}
    return {**tree, "party_context": weights.recurrent("rnn_parties")}


RELEASED = {"MMDFN": Released(released_options, released_params, dead=RELEASED_DEAD)}
