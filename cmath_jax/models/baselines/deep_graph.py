"""Deep convolution over a graph of what is said in each modality, as MMGCN, MM-DFN and AdaIGN have it.

An utterance has a node for each of its modalities. A node is linked to all of its modality in its conversation, also to
itself, and to those of its utterance. There is no other link, so that nothing is a matrix over all nodes of a row.

Shapes: m modalities, twice the one that hears and the one that is heard; r rows, l slots of a row (q the slot that
hears, k the one that is heard), d width, n nodes; x the gates of an LSTM, side by side.
"""

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.models.draws import random_bits
from cmath_jax.models.layers import (
    Context,
    Dense,
    Dropout,
    accurate,
    aligned,
    drop,
    product,
    repeat_along,
    total,
    uniform_by,
    visible,
)
from cmath_jax.models.recurrent import lstm

SHRINK = 0.99999  # of a cosine, since the slope of arccos at 1 is infinite
LAMBDA = 0.5  # of theta


@flax.struct.dataclass
class Graph:
    """The weights of all edges; 0 where there is none.

    Attributes:
      own_mrqk: to a node from those of its modality.
      cross_mmrl: to a node from those of its utterance.
    """

    own_mrqk: jax.Array
    cross_mmrl: jax.Array


def is_node(context: Context) -> jax.Array:
    """Whether an utterance has a modality and is no padding, bool [m, r, l]; m is of length 1 if nothing is missing."""
    filled_mrl = (context.segment_rl != 0)[None]
    return filled_mrl if context.present_mrl is None else filled_mrl & context.present_mrl


def links(context: Context, modalities: int) -> Graph:
    """Returns which nodes are linked, bool; a node is linked to itself."""
    node_mrl = is_node(context)
    linked_mrqk = visible(context, context) & node_mrl[:, :, :, None] & node_mrl[:, :, None, :]
    another_mm = ~jnp.eye(modalities, dtype=bool)
    return Graph(linked_mrqk, another_mm[:, :, None, None] & node_mrl[:, None] & node_mrl[None])


def angular_graph(x_mrld: jax.Array, context: Context) -> Graph:
    """Returns the graph of these nodes. An edge weighs 1 - arccos(c) / pi by the cosine c of its ends.

    If the context is causal, a node hears none of a later utterance. A node of zeros is at a right angle to all others.
    """
    x_mrld = accurate(x_mrld)
    square_mrl = jnp.square(x_mrld).sum(-1, keepdims=True)
    unit_mrld = x_mrld * jax.lax.rsqrt(jnp.where(square_mrl > 0, square_mrl, 1.0))
    own_mrqk = _similarity(jnp.einsum("mrqd,mrkd->mrqk", unit_mrld, unit_mrld, precision="highest"))
    cross_mmrl = _similarity((unit_mrld[:, None] * unit_mrld[None]).sum(-1))
    # A node and itself: what is known is not computed, since rounding weighs most where c is near 1.
    position_rl = context.position_rl
    itself_mrqk = (position_rl[:, :, None] == position_rl[:, None, :])[None]
    own_mrqk = jnp.where(itself_mrqk, 1.0 - math.acos(SHRINK) / math.pi, own_mrqk)
    linked = links(context, len(x_mrld))
    return Graph(jnp.where(linked.own_mrqk, own_mrqk, 0.0), jnp.where(linked.cross_mmrl, cross_mmrl, 0.0))


def _similarity(cosine: jax.Array) -> jax.Array:
    return 1.0 - jnp.arccos(SHRINK * cosine) / math.pi


def normalized(graph: Graph) -> Graph:
    """Returns D^-1/2 A D^-1/2 of a graph A; D holds the sums of the rows, of what each node hears."""
    degree_mrl = graph.own_mrqk.sum(-1) + graph.cross_mmrl.sum(1)
    scale_mrl = jnp.where(degree_mrl > 0, jax.lax.rsqrt(jnp.where(degree_mrl > 0, degree_mrl, 1.0)), 0.0)
    return Graph(
        graph.own_mrqk * scale_mrl[:, :, :, None] * scale_mrl[:, :, None, :],
        graph.cross_mmrl * scale_mrl[:, None] * scale_mrl[None],
    )


@jax.checkpoint  # else each layer would keep its H as often as it is heard
def heard(graph: Graph, h_mrld: jax.Array) -> jax.Array:
    """Sums what each node hears, by weight: the product of the graph and H, [m, r, l, d]."""
    own_mrld = product(graph.own_mrqk, h_mrld)
    if len(h_mrld) == 1:
        return own_mrld
    return own_mrld + total(graph.cross_mmrl[..., None] * repeat_along(h_mrld, 0, len(h_mrld)), 1)


def read_out(x_mrld: jax.Array, layers: nn.Module, context: Context) -> jax.Array:
    """Returns ReLU of the nodes of an utterance, and of what the layers make of them in their graph, side by side."""
    graph = normalized(angular_graph(x_mrld, context))
    x_mrld = Dropout()(x_mrld, context)
    said_mrlx = jnp.concatenate([x_mrld, layers(x_mrld, graph, context)], axis=-1)
    said_mrlx = jnp.where(is_node(context)[..., None], said_mrlx, jnp.zeros((), said_mrlx.dtype))
    return nn.relu(jnp.concatenate([*said_mrlx], axis=-1))


class DeepGraphLayers(nn.Module):
    """Graph convolutions that stay near the first of them (GCNII, Chen et al. 2020), [m, r, l, d] to [m, r, l, w].

    With the graph P, H_0 = ReLU(X F + f), H = drop(H_0), and theta = ln(1/2 / i + 1) for the layers i = 1, 2, ...:

        R = P H, H = drop(ReLU(theta [R, H_0] W_i + (1 - theta) ((1 - alpha) R + alpha H_0)))

    With a memory, as MM-DFN has it, R = P S where (S, C) = LSTM(H, (S, C)) steps from layer to layer, and H is added to
    the next one. What a layer keeps as it is, it keeps by its kernel, to which so much of the identity is added.

    Attributes:
      width: w.
      layers: how many.
      alpha: how much of H_0 each keeps.
      memory: whether there is an LSTM.
      dtype: of the computation.
    """

    width: int
    layers: int
    alpha: float
    memory: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_mrld: jax.Array, graph: Graph, context: Context) -> jax.Array:
        graph = jax.tree.map(lambda weight: weight.astype(self.dtype), graph)
        first_mrld = nn.relu(Dense((self.width,), dtype=self.dtype, uniform=True, name="input")(x_mrld))
        nodes = math.prod(first_mrld.shape[:3])
        rng_key = self.make_rng("dropout") if context.drops else None
        modality_mrld = jnp.arange(len(x_mrld))[:, None, None, None]
        address = (modality_mrld, context.utterance_rl[..., None], jnp.arange(self.width))

        def dropped(h_mrld: jax.Array, layer: jax.Array | int) -> jax.Array:
            if rng_key is None:
                return h_mrld
            bits_mrld = random_bits(rng_key, *aligned(jnp.asarray(layer), *address))
            return drop(h_mrld, bits_mrld, context.dropout)

        def mixed(h_mrld: jax.Array, kernel: jax.Array) -> jax.Array:
            y_nx = product(h_mrld.reshape(nodes, -1), kernel)
            return y_nx.reshape(*h_mrld.shape[:3], kernel.shape[1])

        memory = self._memory() if self.memory else None

        def advance(
            state: tuple[jax.Array, ...], now: tuple[jax.Array, jax.Array]
        ) -> tuple[tuple[jax.Array, ...], None]:
            (h_mrld, *remembered), (kernel, layer) = state, now
            if memory is None:
                r_mrld = heard(graph, h_mrld)
            else:
                kernel_input, kernel_state, bias_x = memory
                gates_mrlx = mixed(h_mrld, kernel_input) + mixed(remembered[0], kernel_state) + bias_x[None, None, None]
                # The gates are computed again for the gradient, which is faster than to keep all that it takes of them.
                remembered = [*jax.checkpoint(lstm)(gates_mrlx, jnp.zeros((), self.dtype), tuple(remembered))]
                r_mrld = heard(graph, remembered[0])
            g_mrld = mixed(jnp.concatenate([r_mrld, first_mrld], axis=-1), kernel)
            next_mrld = dropped(nn.relu(g_mrld), layer)
            return (next_mrld if memory is None else next_mrld + h_mrld, *remembered), None

        number = np.arange(1, self.layers + 1)
        nothing = (jnp.zeros_like(first_mrld),) * (2 if self.memory else 0)
        start = (dropped(first_mrld, 0), *nothing)
        (h_mrld, *_), _ = jax.lax.scan(advance, start, (self._kernels(number), jnp.asarray(number)))
        return h_mrld

    def _kernels(self, number: np.ndarray) -> jax.Array:
        """Returns the kernels of all layers with what they keep, [layers, 2 w, w]."""
        kernel = self.param("kernel", uniform_by(self.width), (self.layers, 2 * self.width, self.width), jnp.float32)
        kept = np.concatenate([(1 - self.alpha) * np.eye(self.width), self.alpha * np.eye(self.width)])
        theta = np.log(LAMBDA / number + 1)[:, None, None]
        whole: jax.Array = jnp.asarray(theta, kernel.dtype) * kernel + jnp.asarray((1 - theta) * kept, kernel.dtype)
        return whole.astype(self.dtype)

    def _memory(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns both kernels and the sum of both biases of the LSTM, [w, x], [w, x], [x]."""

        def parameter(name: str, *shape: int) -> jax.Array:
            return self.param(f"memory_{name}", uniform_by(self.width), shape, jnp.float32).astype(self.dtype)

        kernels = [parameter(f"kernel_{name}", self.width, 4 * self.width) for name in ("input", "state")]
        bias_x = parameter("bias_input", 4 * self.width) + parameter("bias_state", 4 * self.width)
        return kernels[0], kernels[1], bias_x
