"""GraphSmile: graphs between two modalities, and shifts of sentiment (Li et al., 2025); see docs/baselines.md.

Shapes: m the two modalities of a graph; g its layers; r rows, l slots of a row (q the slot that hears, k the one that
is heard), d width, c classes or sentiments.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import CLASSES, MODALITIES
from cmath_jax.models.baselines.input_norm import InputNorm, running_statistics
from cmath_jax.models.baselines.place_weights import PlaceWeights
from cmath_jax.models.baselines.weights import Released, Tree, Weights
from cmath_jax.models.layers import Context, Dense, Dropout, accurate, context_of, product, total, uniform_by
from cmath_jax.models.options.graphsmile import UNKNOWN, sentiments_of
from cmath_jax.models.outputs import Outputs, Term, plain_outputs

PAIRS = ("tv", "ta", "va")  # in the order of the released code


class PairGraph(nn.Module):
    """Layers over the nodes of two modalities, each hearing the other alone: [m, r, l, d] -> the sum of all layers.

    With the edges A, the sums D of its rows, and X_0 the input, for each layer

        X_i = D^-1/2 A D^-1/2 (X_(i-1) W_i) + b_i, and the output is X_0 + sum of drop(LeakyReLU(X_i F_i + c_i)).

    All layers start alike.

    Attributes:
      layers: how many.
      weighted: how many edges of a conversation have learned weights.
      dtype: of the computation.
    """

    layers: int
    weighted: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_mrld: jax.Array, linked_mrqk: jax.Array, place_mrqk: jax.Array, context: Context) -> jax.Array:
        """Computes the nodes after all layers.

        Args:
          linked_mrqk: whether utterance q of modality m hears utterance k of the other one.
          place_mrqk: the place of that edge in the list of all edges of its conversation.
        """
        weight_mrqk = PlaceWeights(self.weighted, name="edge_weights")(place_mrqk)
        weight_mrqk = jnp.where(linked_mrqk, weight_mrqk, 0.0)
        # A sum of learned weights may be 0 or less, which has no such root: it counts as 1.
        degree_mrl = weight_mrqk.sum(-1)
        scale_mrl = jax.lax.rsqrt(jnp.where(degree_mrl > 0, degree_mrl, 1.0))
        weight_mrqk *= scale_mrl[:, :, :, None] * scale_mrl[::-1, :, None, :]
        weight_mrqk = weight_mrqk.astype(self.dtype)

        width = x_mrld.shape[-1]

        def parameters(name: str) -> tuple[jax.Array, jax.Array]:
            """Returns kernels and biases of all layers."""
            initializer = _alike(uniform_by(width))
            kernel = self.param(f"{name}_kernel", initializer, (self.layers, width, width), jnp.float32)
            bias_gd = self.param(f"{name}_bias", initializer, (self.layers, width), jnp.float32)
            return kernel.astype(self.dtype), bias_gd.astype(self.dtype)

        def advance(y_mrld: jax.Array, layer: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            kernel, bias_d = layer
            told_mrld = product(y_mrld.reshape(-1, width), kernel).reshape(y_mrld.shape)
            y_mrld = product(weight_mrqk, told_mrld[::-1]) + bias_d[None, None, None]
            return y_mrld, y_mrld

        _, y_gmrld = jax.lax.scan(advance, x_mrld, parameters("graph"))
        kernel, bias_gd = parameters("feed_forward")
        f_gnd = product(y_gmrld.reshape(self.layers, -1, width), kernel) + bias_gd[:, None]
        f_gmrld = Dropout()(nn.leaky_relu(f_gnd).reshape(y_gmrld.shape), context)
        return x_mrld + total(f_gmrld, 0)


def _alike(initializer: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Returns an initializer of a stack of layers that draws the first and repeats it."""

    def initialize(rng_key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.broadcast_to(initializer(rng_key, shape[1:], dtype)[None], shape)

    return initialize


class GraphSmile(nn.Module):
    """The whole model. `GraphSmile(...).apply(variables, batch, train=False)` returns `Outputs`.

    `terms` holds the losses of the sentiment and of its shifts, where classes have a sentiment. Training draws from the
    rng key `dropout`. Who speaks is not used.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: d.
      layers_tv, layers_ta, layers_va, past, future, shift_window, sentiment_weight, shift_weight, weighted_edges: see
        `GraphSmileOptions`. A graph of one modality with itself has as many layers as the deepest.
      dropout: rate, everywhere; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: True tells an utterance from itself and what came before it alone.
      dtype: of the computation; parameters are float32.
      sentiments: of each class, 0 to 2, -1 where it has none.
    """

    classes: int
    speakers: int
    width: int = 512
    layers_tv: int = 7
    layers_ta: int = 7
    layers_va: int = 7
    past: int = 17
    future: int = 17
    shift_window: int = 19
    sentiment_weight: float = 1.0
    shift_weight: float = 0.7
    weighted_edges: int = 0
    dropout: float = 0.2
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32
    sentiments: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)
        filled_rl = context.segment_rl != 0
        node = {m: filled_rl & batch.present.get(m, True) for m in present}

        def dense(width: int, name: str) -> Dense:
            return Dense((width,), dtype=self.dtype, uniform=True, name=name)

        def projected(m: str) -> jax.Array:
            x_rld = batch.features[m]
            x_rld = InputNorm(1, self.dtype, name="norm")(x_rld) if m == "t" else x_rld
            h_rld = Dropout()(nn.leaky_relu(dense(self.width, f"project_{m}")(x_rld)), context)
            return jnp.where(node[m][..., None], h_rld, jnp.zeros((), self.dtype))

        # A node of each modality is told by the graphs of it with each other one.
        h = {m: projected(m) for m in present}
        pairs = [pair for pair in PAIRS if set(pair) <= set(present)] or [present[0] * 2]
        window_rqk, place_mrqk = self._window(context)
        told = []
        for pair in pairs:
            p, q = (node[m] for m in pair)
            linked_mrqk = window_rqk[None] & jnp.stack([p[..., None] & q[:, None], q[..., None] & p[:, None]])
            graph = PairGraph(self._layers(pair), self.weighted_edges, self.dtype, name=f"graph_{pair}")
            told.append(graph(jnp.stack([h[m] for m in pair]), linked_mrqk, place_mrqk, context))

        # The mean of what all nodes of an utterance are told.
        nodes_grl = jnp.stack([node[m] for pair in pairs for m in pair])
        told_grld = nn.leaky_relu(dense(self.width, "fusion")(jnp.concatenate(told)))
        told_grld = jnp.where(nodes_grl[..., None], told_grld, jnp.zeros((), self.dtype))
        count_rl = jnp.maximum(nodes_grl.sum(0), 1)
        mean_rld = total(accurate(told_grld), 0) / count_rl[..., None]
        fused_rld = mean_rld.astype(self.dtype)
        return plain_outputs(dense(self.classes, "classifier")(fused_rld), mean_rld, self._terms(fused_rld, batch))

    def _layers(self, pair: str) -> int:
        layers = dict(zip(PAIRS, (self.layers_tv, self.layers_ta, self.layers_va), strict=True))
        return layers.get(pair, max(layers.values()))

    def _window(self, context: Context) -> tuple[jax.Array, jax.Array]:
        """Returns which k an utterance q hears, [r, q, k], and the place of that edge in both directions, [m, r, q, k].

        The list of a conversation has first all edges of the first modality, then all of the second, utterance by
        utterance, each from the earliest that it hears to the latest.
        """
        segment_rl, position_rl = context.segment_rl, context.position_rl
        ahead_rqk = position_rl[:, None, :] - position_rl[:, :, None]
        together_rqk = (segment_rl[:, :, None] == segment_rl[:, None, :]) & (segment_rl != 0)[:, None]
        future = 0 if self.causal else self.future
        near_rqk = ahead_rqk >= -self.past if self.past >= 0 else True
        window_rqk = together_rqk & near_rqk & (ahead_rqk <= future if future >= 0 else True)
        if not self.weighted_edges:
            return window_rqk, jnp.zeros((2, *window_rqk.shape), jnp.int32)
        edges_rk = window_rqk.sum(-1)[:, None]
        first_rl = jnp.where(together_rqk & (ahead_rqk < 0), edges_rk, 0).sum(-1)
        all_rl = jnp.where(together_rqk, edges_rk, 0).sum(-1)
        place_rqk = first_rl[..., None] + jnp.cumsum(window_rqk, axis=-1) - 1
        return window_rqk, jnp.stack([place_rqk, place_rqk + all_rl[..., None]])

    def _terms(self, fused_rld: jax.Array, batch: Batch) -> dict[str, Term]:
        """Returns the losses of sentiments and of their shifts; none where no class has a sentiment."""
        if all(sentiment == UNKNOWN for sentiment in self.sentiments):
            return {}
        sentiment_of_c = jnp.asarray(self.sentiments)
        sentiment_rl = jnp.where(batch.label_rl >= 0, sentiment_of_c[jnp.maximum(batch.label_rl, 0)], UNKNOWN)
        known_rl = sentiment_rl != UNKNOWN
        terms = {}
        if self.sentiment_weight:
            logits_rlc = accurate(Dense((3,), dtype=self.dtype, uniform=True, name="sentiment")(fused_rld))
            chosen_rlc = jax.nn.one_hot(sentiment_rl, 3, dtype=logits_rlc.dtype)
            surprise_rl = -(jax.nn.log_softmax(logits_rlc) * chosen_rlc).sum(-1)
            terms["sentiment"] = _term(self.sentiment_weight, surprise_rl, known_rl)
        if self.shift_weight:
            # Each of two utterances adds to both logits, of which the difference counts.
            fan = 2 * self.width
            kernel = self.param("shift_kernel", uniform_by(fan), (2, self.width, 2), jnp.float32)
            bias = self.param("shift_bias", uniform_by(fan), (2,), jnp.float32)
            kernel = kernel.astype(self.dtype).transpose(1, 0, 2).reshape(self.width, 4)
            parts_nx = accurate(product(fused_rld.reshape(-1, self.width), kernel))
            parts_rlx = parts_nx.reshape(*sentiment_rl.shape, 4)
            first_rl, second_rl = (parts_rlx[..., i + 1] - parts_rlx[..., i] for i in (0, 2))
            shifts_rqk = first_rl[:, :, None] + second_rl[:, None, :] + accurate(bias[1] - bias[0])
            same_rqk = sentiment_rl[:, :, None] == sentiment_rl[:, None, :]
            surprise_rqk = jax.nn.softplus(jnp.where(same_rqk, shifts_rqk, -shifts_rqk))
            block_rl = batch.position_rl // self.shift_window if self.shift_window > 0 else batch.segment_rl
            pair_rqk = (block_rl[:, :, None] == block_rl[:, None, :]) & known_rl[:, :, None] & known_rl[:, None, :]
            pair_rqk &= batch.segment_rl[:, :, None] == batch.segment_rl[:, None, :]
            terms["shift"] = _term(self.shift_weight, surprise_rqk, pair_rqk)
        return terms


def _term(weight: float, surprise: jax.Array, known: jax.Array) -> Term:
    """Returns a term of values [r, l] or [r, q, k]."""
    later = tuple(range(2, surprise.ndim))
    return Term(
        weight * jnp.where(known, surprise, 0.0).sum(later).astype(surprise.dtype),
        known.sum(later).astype(surprise.dtype),
    )


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit.

    Nothing says windows and weights of terms: they are the authors', but for windows of test vectors.
    """
    layers = {
        f"layers_{pair}": weights.count(rf"hetergconv_{pair}\.hetergcn_layers\.\d+\.hetergconv\.bias") for pair in PAIRS
    }
    is_meld, is_vectors = weights.classes == 7, bool(weights.extra)
    if is_vectors:
        past, future, window = (-1, 4, -1) if is_meld else (3, 2, 4)
    else:
        past, future, window = (3, 3, 3) if is_meld else (17, 17, 19)
    sentiment, shift = (0.5, 0.2) if is_meld else (1.0, 0.7)
    return {
        "width": len(weights["modal_fusion.0.bias"]),
        **layers,
        "past": past,
        "future": future,
        "shift_window": window,
        "sentiment_weight": sentiment,
        "shift_weight": shift,
        "weighted_edges": len(weights["hetergconv_tv.edge_weight"]),
    }


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters."""

    def graph(pair: str) -> Tree:
        name, layers = f"hetergconv_{pair}", range(options[f"layers_{pair}"])
        convolutions, dense = (
            [f"{name}.hetergcn_layers.{k}.hetergconv" for k in layers],
            [weights.dense(f"{name}.fc_layers.{k}.0") for k in layers],
        )
        return {
            "edge_weights": {"weight": weights[f"{name}.edge_weight"]},
            "graph_kernel": np.stack([weights[f"{each}.weight"] for each in convolutions]),
            "graph_bias": np.stack([weights[f"{each}.bias"] for each in convolutions]),
            "feed_forward_kernel": np.stack([each["kernel"] for each in dense]),
            "feed_forward_bias": np.stack([each["bias"] for each in dense]),
        }

    shift = weights.dense("senshift.shift_output_layer.0")
    norm = weights.norm("batchnorms_t.0")
    return {
        "norm": {name: x_d[None] for name, x_d in norm.items()},
        **{f"project_{m}": weights.dense(f"dim_layer_{m}.0") for m in MODALITIES},
        **{f"graph_{pair}": graph(pair) for pair in PAIRS},
        "fusion": weights.dense("modal_fusion.0"),
        "classifier": weights.dense("emo_output"),
        "sentiment": weights.dense("sen_output"),
        "shift_kernel": np.stack(np.split(shift["kernel"], 2)),
        "shift_bias": shift["bias"],
    }


def released_standardization(weights: Weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns the running statistics of the text."""
    return {"t": running_statistics(weights, ["batchnorms_t.0"])}


def released_constants(weights: Weights) -> dict[str, Any]:
    """Returns the sentiments of the classes of the data set that has so many."""
    names = next((names for names in CLASSES.values() if len(names) == weights.classes), ())
    return {"sentiments": sentiments_of(names)} if names else {}


RELEASED = {
    "GRAPHSMILE": Released(
        released_options,
        released_params,
        dead=r"hetergconv_\w+\.fc_layer\.0\.\w+|batchnorms_t\.\d\.\w+",  # a template; norms of other text layers
        standardization=released_standardization,
        constants=released_constants,
    )
}
