"""DialogueGCN (Ghosal et al., 2019), in the equations of both its released codes; see docs/baselines.md.

Shapes: r rows, l slots of a row: k the sender and q the receiver of an edge; n all slots of all rows; v speakers, d
width, x features side by side.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.errors import require
from cmath_jax.models.attention import MASKED
from cmath_jax.models.baselines.matching import Matching
from cmath_jax.models.baselines.weights import Released, Tree, Weights
from cmath_jax.models.layers import Dense, Dropout, accurate, context_of, product, uniform_by
from cmath_jax.models.outputs import Outputs, plain_outputs
from cmath_jax.models.recurrent import Recurrent

LAYERS = 2  # of the LSTM
ORDERS = 2  # of the two ends of an edge: the sender speaks first, or not


def edges(position_rl: jax.Array, segment_rl: jax.Array, past: int, future: int) -> jax.Array:
    """Whether the receiver is in the window of the sender, bool [r, k, q]: near, and of one conversation."""
    distance_rkq = position_rl[:, None, :] - position_rl[:, :, None]
    same_rkq = segment_rl[:, :, None] == segment_rl[:, None, :]
    filled_rkq = segment_rl[:, :, None] != 0
    near_rkq = (-past <= distance_rkq) & (distance_rkq <= future)
    return near_rkq & same_rkq & filled_rkq


class EdgeAttention(nn.Module):
    """The weights of edges, [r, k, q]: a softmax over the receivers of each sender.

    Attributes:
      kind: bilinear, by x_k . W x_q; position, by w . x_q with a w for the position of k in its conversation.
      longest: how many positions have a w; those after them have the last one.
      dtype: of the computation.
    """

    kind: str
    longest: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_rld: jax.Array, batch: Batch, edges_rkq: jax.Array) -> jax.Array:
        width = x_rld.shape[-1]
        if self.kind == "bilinear":
            sender_rlx, size, initializer = x_rld, width, nn.initializers.normal(1.0 / width)
        else:
            position_rl = jnp.minimum(batch.position_rl, self.longest - 1)
            sender_rlx, size = jax.nn.one_hot(position_rl, self.longest, dtype=self.dtype), self.longest
            initializer = uniform_by(width)
        kernel = self.param("kernel", initializer, (size, width), jnp.float32).astype(self.dtype)
        asking_rkd = product(sender_rlx.reshape(-1, size), kernel).reshape(x_rld.shape)
        score_rkq = accurate(jnp.einsum("rkd,rqd->rkq", asking_rkd, x_rld))
        # Padding has no edges.
        weight_rkq = nn.softmax(jnp.where(edges_rkq, score_rkq, MASKED)) * edges_rkq
        return weight_rkq.astype(self.dtype)


class RelationalConvolution(nn.Module):
    """Sums what each sender tells by the kernel of its relation to the receiver (Schlichtkrull et al. 2018).

    A relation is who sends, who receives, and which of them speaks first. The kernel of each is a sum of few bases,
    weighted by `share`: [sender v, receiver v, order, basis].
    """

    width: int
    bases: int
    speakers: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_rld: jax.Array, batch: Batch, weight_rkq: jax.Array) -> jax.Array:
        rows, slots, dim = x_rld.shape
        initializer = uniform_by(self.bases * dim)

        def parameter(name: str, *shape: int) -> jax.Array:
            return self.param(name, initializer, shape, jnp.float32).astype(self.dtype)

        x_nd = x_rld.reshape(rows * slots, dim)
        who_rlv = jax.nn.one_hot(batch.speaker_rl, self.speakers, dtype=self.dtype)
        basis = parameter("basis", dim, self.bases, self.width)
        share = parameter("share", self.speakers, self.speakers, ORDERS, self.bases)

        # What a sender tells a receiver, for each who the receiver may be and each order.
        basis_nxd = product(x_nd, basis.reshape(dim, -1)).reshape(-1, self.bases, self.width)
        share_nx = product(who_rlv.reshape(-1, self.speakers), share.reshape(self.speakers, -1))
        told_nxd = jnp.matmul(share_nx.reshape(-1, self.speakers * ORDERS, self.bases), basis_nxd)
        told_rkvxd = told_nxd.reshape(rows, slots, self.speakers, ORDERS, self.width)

        slot_l = jnp.arange(slots)
        first_kq = slot_l[:, None] < slot_l[None]
        ordered_rkxq = jnp.stack([jnp.where(first_kq[None] == first, weight_rkq, 0) for first in (True, False)], axis=2)
        heard_rqvd = jnp.einsum("rkxq,rkvxd->rqvd", ordered_rkxq, told_rkvxd)
        heard_rqd = (heard_rqvd * who_rlv[..., None]).sum(2)
        own_rld = product(x_nd, parameter("own", dim, self.width)).reshape(rows, slots, self.width)
        return heard_rqd + own_rld + parameter("bias", self.width)[None, None]


class DialogueGCN(nn.Module):
    """The whole model. `DialogueGCN(...).apply(variables, batch, train=False)` returns `Outputs`.

    Training draws from the rng key `dropout`.

    Attributes:
      classes: number of emotions.
      speakers: number of speaker indices.
      width: of the states of the LSTM, both directions together.
      relation_width, graph_width, hidden_width: of the two convolutions and of the layer before the classifier; 0 is as
        half the width.
      past, future: how many utterances before and after it one tells of itself.
      bases: of the kernels of relations.
      edge_attention, longest: see `EdgeAttention`.
      nodal_attention: whether an utterance attends to all of its conversation before it is classified.
      dropout: rate; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: False; the LSTM hears the future.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 200
    relation_width: int = 0
    graph_width: int = 0
    hidden_width: int = 0
    past: int = 10
    future: int = 10
    bases: int = 30
    edge_attention: str = "bilinear"
    longest: int = 110
    nodal_attention: bool = False
    dropout: float = 0.4
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)
        relation, graph, hidden = (
            width or self.width // 2 for width in (self.relation_width, self.graph_width, self.hidden_width)
        )

        def dense(width: int, name: str) -> Dense:
            return Dense((width,), dtype=self.dtype, uniform=True, name=name)

        u_rlx = jnp.concatenate([batch.features[m] for m in present], axis=-1)
        x_rld = Recurrent("lstm", self.width // 2, LAYERS, 2, self.dtype, name="lstm")(u_rlx, context)
        edges_rkq = edges(context.position_rl, context.segment_rl, self.past, self.future)
        attention = EdgeAttention(self.edge_attention, self.longest, self.dtype, name="edge_attention")
        weight_rkq = attention(x_rld, batch, edges_rkq)
        relations = RelationalConvolution(relation, self.bases, self.speakers, self.dtype, name="relations")
        h_rld = relations(x_rld, batch, weight_rkq)
        near_rld = jnp.einsum("rkq,rkd->rqd", edges_rkq.astype(self.dtype), h_rld)
        neighbours = Dense((graph,), use_bias=False, dtype=self.dtype, uniform=True, name="neighbours")
        z_rld = jnp.concatenate([x_rld, dense(graph, "own")(h_rld) + neighbours(near_rld)], axis=-1)
        if self.nodal_attention:
            z_rld = Matching(self.dtype, bounded=True, name="nodal_attention")(z_rld, context)
        mean_rld = nn.relu(dense(hidden, "hidden")(z_rld))
        logits_rlc = dense(self.classes, "classifier")(Dropout()(mean_rld, context))
        return plain_outputs(logits_rlc, mean_rld)


@dataclass(frozen=True)
class Names:
    """The names of parameters in one of the released codes.

    Attributes:
      edge_attention: which kind it has.
      nodal_attention: "" where it has none.
    """

    lstm: str
    edge_attention: str
    edges: str
    graph: str
    nodal_attention: str
    hidden: str
    classifier: str

    def options(self, weights: Weights) -> dict[str, Any]:
        """Returns the options that released parameters fit. Edges of vectors say the windows; the authors have 10."""
        basis = weights[f"{self.graph}.conv1.basis"].shape
        past, future = 10, 10
        distances = [x[1] - x[0] for name, x in weights.extra.items() if name.startswith("edge_index/")]
        if distances:
            distance_n = np.concatenate(distances)
            past, future = int(-distance_n.min()), int(distance_n.max())
        longest = {"longest": len(weights[self.edges])} if self.edge_attention == "position" else {}
        return {
            "width": basis[1],
            "relation_width": basis[2],
            "graph_width": weights[f"{self.graph}.conv2.weight"].shape[1],
            "hidden_width": len(weights[f"{self.hidden}.weight"]),
            "past": past,
            "future": future,
            "bases": basis[0],
            "edge_attention": self.edge_attention,
            "nodal_attention": bool(self.nodal_attention),
            **longest,
        }

    def params(self, weights: Weights, options: Mapping[str, Any]) -> Tree:
        """Returns our parameters: of as many speakers as there are."""
        first, second = (f"{self.graph}.conv{layer}" for layer in (1, 2))
        share, speakers = weights[f"{first}.att"], weights.speakers
        known = math.isqrt(len(share) // ORDERS)
        require(speakers <= known, f"{first}.att is of {known} speakers, and there are {speakers}")
        share = share.reshape(known, known, ORDERS, -1)[:speakers, :speakers]
        nodal = options["nodal_attention"]
        return {
            "lstm": weights.recurrent(self.lstm),
            "edge_attention": {"kernel": weights[self.edges]},
            "relations": {
                "basis": weights[f"{first}.basis"].swapaxes(0, 1),
                "share": share,
                "own": weights[f"{first}.root"],
                "bias": weights[f"{first}.bias"],
            },
            "own": weights.dense(f"{second}.lin"),
            "neighbours": {"kernel": weights[f"{second}.weight"]},
            **({"nodal_attention": {"query": weights.dense(self.nodal_attention)}} if nodal else {}),
            "hidden": weights.dense(self.hidden),
            "classifier": weights.dense(self.classifier),
        }


REWRITE = Names("rnn.rnn", "bilinear", "edge_att.weight", "gcn", "", "clf.lin1", "clf.lin2")
ORIGINAL = Names(
    "lstm",
    "position",
    "att_model.scalar.weight",
    "graph_net",
    "graph_net.matchatt.transform",
    "graph_net.linear",
    "graph_net.smax_fc",
)
RELEASED = {
    "DialogueGCN": Released(REWRITE.options, REWRITE.params, dead=r"clf\.emotion_att\.lin\.\w+"),
    # The nodal attention is dead if it is turned off.
    "DialogueGCNorig": Released(
        ORIGINAL.options,
        ORIGINAL.params,
        dead=r"att_model\.(matchatt|simpleatt|att)\.[\w.]+|graph_net\.matchatt\.transform\.\w+",
    ),
}
