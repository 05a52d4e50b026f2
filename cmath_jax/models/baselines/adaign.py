"""AdaIGN: adaptive interactive graphs (Tu et al., 2024), in their equations; see docs/baselines.md.

Shapes: g the two graphs; m modalities; r rows, l slots of a row (q the one that hears, k the one it hears), d width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.errors import require
from cmath_jax.models.baselines.deep_graph import DeepGraphLayers, angular_graph, is_node, normalized
from cmath_jax.models.baselines.parties import party_context
from cmath_jax.models.baselines.policies import Policies, PolicyTables, policy_losses
from cmath_jax.models.baselines.weights import Released, Tree, Weights, stacked
from cmath_jax.models.layers import Context, Dense, Dropout, LayerNorm, accurate, context_of
from cmath_jax.models.outputs import Outputs, Term, plain_outputs
from cmath_jax.models.recurrent import Recurrent

ALPHA = 0.2  # how much of its first layer each layer of the graph keeps
SHARE = {"t": 0.8, "a": 0.1, "v": 0.1}  # of a modality in what the classifier reads


class Graphs(nn.Module):
    """The two graphs, the one without policies and the one by them: their nodes, and what those hear; g is 2.

    Attributes:
      width, graph_width, layers, speakers, modalities, dtype: see `AdaIGN`.
      party_weights: m -> how much the context of a speaker weighs.
      party_padding: see `models.options.adaign`.
    """

    width: int
    graph_width: int
    layers: int
    speakers: int
    modalities: Sequence[str]
    party_weights: Mapping[str, float]
    party_padding: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, features: Mapping[str, jax.Array], speaker_rl: jax.Array, policies: Policies, context: Context
    ) -> tuple[jax.Array, jax.Array]:
        """Computes the nodes [g, m, r, l, d], and what they have heard, [g, m, r, l, d] of another d."""
        node_mrl = jnp.broadcast_to(is_node(context), (len(self.modalities), *speaker_rl.shape))
        each: dict[str, Any] = {"variable_axes": {"params": 0}, "split_rngs": {"params": True, "dropout": True}}

        def only_nodes(x_gmrld: jax.Array) -> jax.Array:
            return jnp.where(node_mrl[None, ..., None], x_gmrld, jnp.zeros((), self.dtype))

        # Of the first graph all policies are 1; text is taken as a whole in both: its policy is that of its party.
        one_rl = jnp.ones(speaker_rl.shape)
        taken = {
            m: jnp.stack([one_rl, policies.samples.get(m, one_rl)])[..., None].astype(self.dtype)
            for m in self.modalities
        }
        linear = []
        for m in self.modalities:
            x_grld = (1 if m == "t" else taken[m]) * jnp.broadcast_to(features[m], (2, *features[m].shape))
            linear.append(Dense((self.width,), (2,), dtype=self.dtype, uniform=True, name=f"linear_{m}")(x_grld))
        u_gmrld = only_nodes(jnp.stack(linear, axis=1))
        nodes = dict(zip(self.modalities, jnp.unstack(u_gmrld, axis=1), strict=True))
        recurrent = ("gru", self.width // 2, 2, 2, self.dtype)
        if "t" in nodes:
            each_recurrent = nn.vmap(Recurrent, in_axes=(0, None), **each)
            nodes["t"] = each_recurrent(*recurrent, name="text_context")(nodes["t"], context)
        told = [i for i, m in enumerate(self.modalities) if self.party_weights[m]]
        if told:
            party = Recurrent(*recurrent, name="party_context")
            said_gmrld = u_gmrld[:, np.array(told)]
            said_xrld = said_gmrld.reshape(-1, *said_gmrld.shape[2:])
            heard_xrld = party_context(party, said_xrld, speaker_rl, context, self.speakers, self.party_padding)
            for i, heard_grld in zip(told, jnp.unstack(heard_xrld.reshape(said_gmrld.shape), axis=1), strict=True):
                m = self.modalities[i]
                nodes[m] += self.party_weights[m] * taken[m] * heard_grld
        x_gmrld = only_nodes(jnp.stack([*nodes.values()], axis=1))

        # A node hears of its modality what was said up to it, and of its utterance all.
        graph = jax.vmap(lambda x_mrld: angular_graph(x_mrld, replace(context, causal=True)))(x_gmrld)
        own_rqk = speaker_rl[:, :, None] == speaker_rl[:, None, :]
        context_mrql = jnp.stack([policies.contexts[m] for m in self.modalities])[..., None]
        share_mrqk = jnp.where(own_rqk[None], context_mrql, 1 - context_mrql)
        share_gmrqk = jnp.stack([jnp.ones_like(share_mrqk), share_mrqk])
        graph = jax.vmap(normalized)(replace(graph, own_mrqk=graph.own_mrqk * share_gmrqk))
        each_layers = nn.vmap(DeepGraphLayers, in_axes=(0, 0, None), **each)
        layers = each_layers(self.graph_width, self.layers, ALPHA, False, self.dtype, name="layers")
        return x_gmrld, only_nodes(layers(Dropout()(x_gmrld, context), graph, context))


class AdaIGN(nn.Module):
    """The whole model. `AdaIGN(...).apply(variables, batch, train=False)` returns `Outputs`.

    Its fusion has no noise: mean and sample are what the classifier reads, the deviation is 0. `terms` are the losses
    of the policies. Training draws from the rng keys `dropout` and `noise`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      dtype: of the computation; parameters are float32.
      causal: False; the GRUs hear both ways.
      given: policy, such as sample_a or context_t -> what it is of the utterances of a split, [n]; NaN where the tables
        say it; and mix -> a scalar. The released code knows some from seven other models, which are not public.
      The others: see `models.options.adaign`.
    """

    classes: int
    speakers: int
    modalities: str
    dtype: jnp.dtype
    width: int
    dropout: float
    causal: bool
    graph_width: int
    layers: int
    text_width: int
    audio_width: int
    visual_width: int
    text_layers: int
    party_text: float
    party_audio: float
    party_visual: float
    party_padding: bool
    policy_rows: int
    temperature: float
    temperature_decay: float
    absolute_logits: bool
    importance: float
    not_importance: float
    hamming: float
    sparsity: float
    given: Mapping[str, np.ndarray] | None = None

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)
        party_weights = {"t": self.party_text, "a": self.party_audio, "v": self.party_visual}
        # The policy of samples of text has a use only where the context of its speaker, or a loss, depends on it.
        text_sampled = any((self.party_text, self.importance, self.not_importance))
        sampled = [m for m in present if m != "t" or text_sampled]
        tables = PolicyTables(
            sampled,
            present,
            self.policy_rows,
            self.temperature,
            self.temperature_decay,
            self.absolute_logits,
            self.given,
            name="policies",
        )
        policies = tables(context)

        graphs = Graphs(
            self.width,
            self.graph_width,
            self.layers,
            self.speakers,
            present,
            party_weights,
            self.party_padding,
            self.dtype,
            name="graphs",
        )
        x_gmrld, heard_gmrld = graphs(self._read(batch, present), batch.speaker_rl, policies, context)
        mix = policies.mix.astype(self.dtype)
        z_mrld = mix * heard_gmrld[0] + (1 - mix) * heard_gmrld[1]
        parts = [SHARE[m] * y_rld for y_mrld in (z_mrld, x_gmrld[0]) for m, y_rld in zip(present, y_mrld, strict=True)]
        fused_rld = nn.relu(jnp.concatenate(parts, axis=-1))
        classifier = Dense((self.classes,), dtype=self.dtype, uniform=True, name="classifier")
        return plain_outputs(classifier(Dropout()(fused_rld, context)), fused_rld, self._terms(policies, context))

    def _read(self, batch: Batch, present: Sequence[str]) -> dict[str, jax.Array]:
        """Returns m -> [r, l, d]: of text the mean over its normalized layers."""
        widths = {"t": self.text_width, "a": self.audio_width, "v": self.visual_width}
        features = {}
        for m in present:
            x_rld, layers = batch.features[m], self.text_layers
            width = x_rld.shape[-1]
            dense = Dense((widths[m] or width,), dtype=self.dtype, uniform=True, name=f"input_{m}")
            if m == "t":
                require(width % layers == 0, f"model.text_layers={layers} does not divide {width} features of text")
                y_grld = dense(jnp.stack(jnp.split(x_rld, layers, axis=-1)))
                normed_grld = LayerNorm((layers,), self.dtype, 1e-5, name="norm_t")(y_grld)
                features[m] = accurate(normed_grld).mean(0).astype(self.dtype)
            else:
                features[m] = dense(x_rld)
        return features

    def _terms(self, policies: Policies, context: Context) -> dict[str, Term]:
        """Returns the losses of the policies that have a weight."""
        weights = {name: getattr(self, name) for name in ("importance", "not_importance", "hamming", "sparsity")}
        filled_rl = context.segment_rl != 0
        count_rl = filled_rl.astype(jnp.float32)
        return {
            name: Term(jnp.where(filled_rl, weights[name] * value_rl, 0.0), count_rl)
            for name, value_rl in policy_losses(policies, context).items()
            if weights[name]
        }


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit. Nothing says how much the contexts of speakers weigh."""
    parties = "rnn_parties.weight_ih_l0" in weights
    return {
        "width": len(weights["linear_a.bias"]),
        "graph_width": len(weights[f"{GRAPHS[0]}.fcs.0.bias"]),
        "layers": weights.count(rf"{GRAPHS[0]}\.convs\.\d+\.weight"),
        "text_width": len(weights["fc1.bias"]),
        "audio_width": len(weights["fc2.bias"]),
        "visual_width": len(weights["fc3.bias"]),
        "text_layers": len(NORMS),
        "policy_rows": len(weights["modal1_sample0_logits"]),
        "party_text": 1.5 * parties,
        "party_audio": 0.5 * parties,
        "party_visual": 0.5 * parties,
        "party_padding": parties,
    }


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters. There the modalities come in the order audio, visual, text."""

    def layers(name: str) -> Tree:
        kernels = [weights[f"{name}.convs.{layer}.weight"] for layer in range(options["layers"])]
        return {"input": weights.dense(f"{name}.fcs.0"), "kernel": np.stack(kernels)}

    def tables(kind: str) -> np.ndarray:
        return np.stack([weights[f"modal{'avt'.index(m) + 1}_{kind}0_logits"] for m in MODALITIES])

    classifier = weights.dense("smax_fc")
    width, graph_width = options["width"], options["graph_width"]
    sizes = [graph_width] * 3 + [width] * 2
    audio, visual, text, *nodes = np.split(classifier["kernel"], np.cumsum(sizes), axis=0)
    parties = {"party_context": weights.recurrent("rnn_parties")} if options["party_text"] else {}
    return {
        **{f"input_{m}": weights.dense(f"fc{i}") for i, m in enumerate("tav", start=1)},
        "norm_t": stacked([weights.norm(name) for name in NORMS]),
        "policies": {
            "sample_policy": tables("sample"),
            "context_policy": tables("context"),
            "mix_policy": weights["modal_logits"][0],
        },
        "graphs": {
            **{
                f"linear_{m}": stacked([weights.dense(f"linear_{letter}{ending}") for ending in ("", "1")])
                for m, letter in LETTERS.items()
            },
            "text_context": stacked([weights.recurrent(f"lstm_l{ending}") for ending in ("", "1")]),
            "layers": stacked([layers(name) for name in GRAPHS]),
            **parties,
        },
        "classifier": {**classifier, "kernel": np.concatenate([text, audio, visual, nodes[2], *nodes[:2]])},
    }


def released_constants(weights: Weights) -> dict[str, Any]:
    """Returns the policies that are 1 whatever the tables say, as vectors have them."""
    given = {}
    for kind, prefix in (("sample", "pos"), ("context", "pos_con")):
        for m in MODALITIES:
            if (forced_n := _joined(weights, f"{prefix}_{m}")) is not None:
                given[f"{kind}_{m}"] = np.where(forced_n, 1.0, np.nan)
    return {"given": given or None}


def released_variants(weights: Weights) -> dict[str, dict[str, Any]]:
    """Returns with which policies the vectors have other log-probabilities: those that are 0 or 1 throughout."""
    if "mix_p_hard" not in weights.extra:
        return {}
    names = [(f"{kind}_{m}", f"effhard_{kind}_{LETTERS[m]}") for kind in ("sample", "context") for m in MODALITIES]
    return {
        "logp_hard": {"given": {"mix": weights.extra["mix_p_hard"][0]} | {x: _joined(weights, y) for x, y in names}}
    }


def _joined(weights: Weights, prefix: str) -> np.ndarray | None:
    """Returns what vectors have of the utterances of all conversations under this name, or None where there is none."""
    names = [f"{prefix}_{k}" for k in range(len(weights.extra))]
    found = [weights.extra[name] for name in names if name in weights.extra]
    return np.concatenate(found) if found else None


LETTERS = {"t": "l", "a": "a", "v": "v"}
NORMS = ("normLNa", "normLNb", "normLNc", "normLNd")
GRAPHS = ("graph_model1.graph_net", "graph_model2.graph_net")
RELEASED = {
    "ADAIGN": Released(
        released_options,
        released_params,
        dead=r"modal\d_(sample|context)[1-9]\d*_logits",  # of other slots of a batch
        constants=released_constants,
        variants=released_variants,
    )
}
