"""MultiDAG: utterances that hear those before them, along a directed acyclic graph; see docs/baselines.md.

Shapes: l slots of a row, in front, since a loop goes over them, r rows, d width; k the slots of the history, q those
that hear it; g the two relations, of the same speaker and of another; x the gates of both cells side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.baselines.weights import Released, Tree, Weights, stacked
from cmath_jax.models.layers import Dense, Dropout, accurate, context_of, product, uniform_by
from cmath_jax.models.outputs import Outputs, plain_outputs
from cmath_jax.models.recurrent import gru

GIVEN = ("input", "state")  # what a cell is given


@flax.struct.dataclass
class Kernels:
    """The parameters that are needed in the loop over utterances.

    Attributes:
      score_d: w, by which a state is scored.
      relation_xd: U of both relations, one below the other.
      message_dx, bias_x: of the message M, for the gates of both cells.
    """

    score_d: jax.Array
    relation_xd: jax.Array
    message_dx: jax.Array
    bias_x: jax.Array


def predecessors(segment_rl: jax.Array, speaker_rl: jax.Array, window: int) -> jax.Array:
    """Returns what is heard of what, bool [q, r, g, k]: back to the `window`-th utterance of the same speaker."""
    slot_l = jnp.arange(segment_rl.shape[1])
    together_rqk = (segment_rl[:, :, None] == segment_rl[:, None, :]) & (segment_rl[:, :, None] > 0)
    earlier_rqk = together_rqk & (slot_l[:, None] > slot_l[None, :])[None]
    same_rqk = earlier_rqk & (speaker_rl[:, :, None] == speaker_rl[:, None, :])
    seen_rqk = jnp.cumsum(same_rqk, axis=2, dtype=jnp.int32)
    between_rqk = seen_rqk[:, :, -1:] - seen_rqk  # of the same speaker, after k and before q
    heard_rqk = earlier_rqk & (between_rqk < window)
    return jnp.stack([heard_rqk & same_rqk, heard_rqk & ~same_rqk], axis=2).transpose(1, 0, 2, 3)


def attention(score_rk: jax.Array, told_rgk: jax.Array) -> jax.Array:
    """Returns the softmax of the scores over all predecessors, of both relations, and 0 elsewhere: [..., r, g, k]."""
    told_rk = told_rgk.any(-2)
    masked_rk = jnp.where(told_rk, score_rk, -jnp.inf)
    highest_r = jnp.where(told_rk.any(-1), masked_rk.max(-1), 0.0)
    power_rk = jnp.exp(masked_rk - highest_r[..., None])
    alpha_rk = power_rk / jnp.maximum(power_rk.sum(-1, keepdims=True), 1.0)  # the highest is 1, if there is any
    return jnp.where(told_rgk, alpha_rk[..., None, :], 0.0)


def cells(from_h_rx: jax.Array, from_message_rx: jax.Array, message_rd: jax.Array, h_rd: jax.Array) -> jax.Array:
    """Computes C + P: the message is the state of the one cell, and the input of the other."""
    (nodal_h, contextual_h), (nodal_m, contextual_m) = (jnp.split(x, 2, -1) for x in (from_h_rx, from_message_rx))
    nodal, contextual = gru(nodal_h, nodal_m, (message_rd,)), gru(contextual_m, contextual_h, (h_rd,))
    state_rd: jax.Array = nodal[0] + contextual[0]
    return state_rd


@jax.custom_vjp
def recurrence(kernels: Kernels, h_lrd: jax.Array, from_h_lrx: jax.Array, told_lrgk: jax.Array) -> jax.Array:
    """Computes the states of a layer, [l, r, d], one utterance after the other.

    Its gradient is written below: that of the loop would keep the history of every step.

    Args:
      h_lrd: the layer's input.
      from_h_lrx: its part in the gates of both cells.
      told_lrgk: `predecessors`.
    """
    slots, rows, width = h_lrd.shape

    def advance(history: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> Any:
        state_rkd, score_rk = history
        i, h_rd, from_h_rx, told_rgk = now
        alpha_rgk = attention(score_rk, told_rgk).astype(state_rkd.dtype)
        heard_rgd = jnp.matmul(alpha_rgk, state_rkd)
        message_rd = heard_rgd.reshape(rows, -1) @ kernels.relation_xd
        from_message_rx = message_rd @ kernels.message_dx + kernels.bias_x[None]
        new_rd = cells(from_h_rx, from_message_rx, message_rd, h_rd)
        return (state_rkd.at[:, i].set(new_rd), score_rk.at[:, i].set(score_of(kernels, new_rd))), new_rd

    start = jnp.zeros((rows, slots, width), h_lrd.dtype), jnp.zeros((rows, slots), accurate(h_lrd).dtype)
    state_lrd: jax.Array
    _, state_lrd = jax.lax.scan(advance, start, (jnp.arange(slots), h_lrd, from_h_lrx, told_lrgk))
    return state_lrd


def score_of(kernels: Kernels, state_rd: jax.Array) -> jax.Array:
    """Computes w H, [..., r], of states."""
    return accurate(state_rd) @ accurate(kernels.score_d)


def _with_states(kernels: Kernels, h_lrd: jax.Array, from_h_lrx: jax.Array, told_lrgk: jax.Array) -> Any:
    state_lrd = recurrence(kernels, h_lrd, from_h_lrx, told_lrgk)
    return state_lrd, (kernels, h_lrd, from_h_lrx, told_lrgk, state_lrd)


def _gradients(kept: Any, g_lrd: jax.Array) -> Any:
    """Computes the gradients of `recurrence`.

    As all states are known, what was heard of them is computed again in a few large products. A loop from the last
    utterance on is left for the gradients of messages: that of a state is what those who heard it say.
    """
    kernels, h_lrd, from_h_lrx, told_lrgk, state_lrd = kept
    slots, rows, width = h_lrd.shape
    dtype = h_lrd.dtype
    alpha_lrgk = attention(score_of(kernels, state_lrd).T[None], told_lrgk)
    alpha_rqgk = alpha_lrgk.transpose(1, 0, 2, 3)
    heard_rqx = jnp.matmul(alpha_rqgk.reshape(rows, -1, slots).astype(dtype), state_lrd.swapaxes(0, 1))
    heard_lrx = heard_rqx.reshape(rows, slots, -1).swapaxes(0, 1)
    message_lrd = heard_lrx @ kernels.relation_xd
    from_message_lrx = message_lrd @ kernels.message_dx + kernels.bias_x[None, None]

    def advance(later: tuple[jax.Array, jax.Array], now: tuple[jax.Array, ...]) -> Any:
        # Of every later q: the gradient of what it heard, and its product with what it heard.
        to_heard_rqx, weighed_rq = later
        i, g_rd, state_rd, heard_rx, alpha_rqg, *arguments = now
        to_heard_rqd = to_heard_rqx.reshape(rows, -1, width)
        told_rd = jnp.matmul(alpha_rqg.reshape(rows, 1, -1).astype(dtype), to_heard_rqd)[:, 0]
        to_score_r = (accurate(told_rd) * accurate(state_rd)).sum(-1) - (alpha_rqg.sum(-1) * weighed_rq).sum(-1)
        to_state_rd = g_rd + told_rd + to_score_r[:, None].astype(dtype) * kernels.score_d[None]
        to_from_h_rx, to_from_message_rx, to_message_rd, to_h_rd = jax.vjp(cells, *arguments)[1](to_state_rd)
        to_message_rd += to_from_message_rx @ kernels.message_dx.T
        to_heard_rx = to_message_rd @ kernels.relation_xd.T
        weighed_r = (accurate(to_heard_rx) * accurate(heard_rx)).sum(-1)
        later = to_heard_rqx.at[:, i].set(to_heard_rx), weighed_rq.at[:, i].set(weighed_r)
        return later, (to_h_rd, to_from_h_rx, to_from_message_rx, to_message_rd, to_score_r)

    start = jnp.zeros((rows, slots, 2 * width), dtype), jnp.zeros((rows, slots), alpha_lrgk.dtype)
    alpha_krqg = alpha_lrgk.transpose(3, 1, 0, 2)
    given = jnp.arange(slots), g_lrd, state_lrd, heard_lrx, alpha_krqg, from_h_lrx, from_message_lrx, message_lrd, h_lrd
    _, (to_h_lrd, to_from_h_lrx, *to_rest, to_score_lr) = jax.lax.scan(advance, start, given, reverse=True)
    to_from_message_lrx, to_message_lrd = to_rest

    def kernel(x_lrd: jax.Array, to_y_lrx: jax.Array) -> jax.Array:
        return x_lrd.reshape(slots * rows, -1).T @ to_y_lrx.reshape(slots * rows, -1)

    to_kernels = Kernels(
        score_d=(to_score_lr.reshape(-1) @ accurate(state_lrd).reshape(-1, width)).astype(dtype),
        relation_xd=kernel(heard_lrx, to_message_lrd),
        message_dx=kernel(message_lrd, to_from_message_lrx),
        bias_x=accurate(to_from_message_lrx).sum((0, 1)).astype(dtype),
    )
    return to_kernels, to_h_lrd, to_from_h_lrx, None


recurrence.defvjp(_with_states, _gradients)


class Cell(nn.Module):
    """The parameters of a GRU cell of each layer: kernels [layers, d, x], biases [layers, x]."""

    layers: int
    width: int

    @nn.compact
    def __call__(self) -> dict[str, jax.Array]:
        def parameter(name: str, *shape: int) -> jax.Array:
            return self.param(name, uniform_by(self.width), (self.layers, *shape))

        kernels = {f"kernel_{name}": parameter(f"kernel_{name}", self.width, 3 * self.width) for name in GIVEN}
        return kernels | {f"bias_{name}": parameter(f"bias_{name}", 3 * self.width) for name in GIVEN}


class GraphLayers(nn.Module):
    """The layers of the graph, one above the other: [l, r, d] -> the states of each, [layers, l, r, d]."""

    layers: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h_lrd: jax.Array, told_lrgk: jax.Array) -> jax.Array:
        slots, rows, width = h_lrd.shape
        params = {
            "score": self.param("score", uniform_by(2 * width), (self.layers, width)),
            "relation": self.param("relation", uniform_by(width), (self.layers, 2, width, width)),
            "nodal": Cell(self.layers, width, name="nodal")(),
            "contextual": Cell(self.layers, width, name="contextual")(),
        }

        def layer(h_lrd: jax.Array, params: Any) -> tuple[jax.Array, jax.Array]:
            nodal, contextual = params["nodal"], params["contextual"]
            kernels = Kernels(
                score_d=params["score"],
                relation_xd=params["relation"].reshape(-1, width),
                message_dx=jnp.concatenate([nodal["kernel_state"], contextual["kernel_input"]], axis=-1),
                bias_x=jnp.concatenate([nodal["bias_state"], contextual["bias_input"]]),
            )
            kernel_dx = jnp.concatenate([nodal["kernel_input"], contextual["kernel_state"]], axis=-1)
            bias_x = jnp.concatenate([nodal["bias_input"], contextual["bias_state"]])
            from_h_lrx = product(h_lrd.reshape(-1, width), kernel_dx).reshape(slots, rows, -1) + bias_x[None, None]
            state_lrd = recurrence(kernels, h_lrd, from_h_lrx, told_lrgk)
            return state_lrd, state_lrd

        _, states = jax.lax.scan(layer, h_lrd, jax.tree.map(lambda x: x.astype(self.dtype), params))
        return states


class MultiDAG(nn.Module):
    """The whole model. `MultiDAG(...).apply(variables, batch, train=False)` returns `Outputs`.

    It is causal as it is: nobody hears what comes later. Training draws from the rng key `dropout`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices; only whether two are the same matters.
      width: d.
      layers: of the graph.
      window: how many utterances of the same speaker an utterance hears, with all that were said since.
      dropout: rate, before the classifier; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: holds anyway.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 300
    layers: int = 4
    window: int = 1
    dropout: float = 0.4
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)

        def dense(width: int, name: str) -> Dense:
            return Dense((width,), dtype=self.dtype, uniform=True, name=name)

        x_rld = jnp.concatenate([batch.features[m] for m in present], -1).astype(self.dtype)
        first_rld = nn.relu(dense(self.width, "input")(x_rld))
        told_lrgk = predecessors(batch.segment_rl, batch.speaker_rl, self.window)
        states_glrd = GraphLayers(self.layers, self.dtype, name="graph")(first_rld.swapaxes(0, 1), told_lrgk)
        states_rlx = states_glrd.transpose(2, 1, 0, 3).reshape(*x_rld.shape[:2], -1)
        z_rld = jnp.concatenate([first_rld, states_rlx, x_rld], axis=-1)
        for i in range(2):
            z_rld = nn.relu(dense(self.width, f"hidden_{i}")(z_rld))
        return plain_outputs(dense(self.classes, "classifier")(Dropout()(z_rld, context)), z_rld)


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit. Vectors say who hears whom; the authors have a window of 1."""
    pairs = [(weights.extra[name], weights.extra[f"same_{name[4:]}"]) for name in weights.extra if name[:4] == "adj_"]
    return {
        "width": len(weights["fc1.weight"]),
        "layers": weights.count(r"gather\.\d+\.Wr0\.weight"),
        "window": released_window(pairs) if pairs else 1,
    }


def released_window(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    """Returns a window by which each utterance of these conversations hears those that it hears.

    Args:
      pairs: of each conversation, whom an utterance hears, and who speaks as it does, [n, n].
    """
    count_n = np.concatenate([(heard_nn * same_nn).sum(1) for heard_nn, same_nn in pairs])
    # One that does not hear all before it has as many of its own speaker as the window is long.
    is_full_n = np.concatenate([heard_nn.sum(1) < np.arange(len(heard_nn)) for heard_nn, _ in pairs])
    return int(count_n[is_full_n].max() if is_full_n.any() else count_n.max() + 1)


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters, of released ones."""
    width, layers = options["width"], range(options["layers"])

    def graph(layer: int) -> Tree:
        return {
            # The first half scores the utterance that hears: the same number for all that it hears, as is the bias.
            "score": weights[f"gather.{layer}.linear.weight"][0, width:],
            "relation": stacked([weights.dense(f"gather.{layer}.Wr{g}", bias=False) for g in (0, 1)])["kernel"],
            "nodal": weights.cell(f"grus_c.{layer}"),
            "contextual": weights.cell(f"grus_p.{layer}"),
        }

    return {
        "input": weights.dense("fc1"),
        "graph": stacked([graph(layer) for layer in layers]),
        "hidden_0": weights.dense("out_mlp.0"),
        "hidden_1": weights.dense("out_mlp.2"),
        "classifier": weights.dense("out_mlp.5"),
    }


RELEASED = {
    "MULTIDAG": Released(
        released_options,
        released_params,
        dead=r"fcs\..*|attentive_node_features\..*|gather\.\d+\.linear\.bias",
    )
}
