"""SDT: a transformer-based model with self-distillation (Ma et al., 2024), in its equations; see docs/baselines.md.

Shapes and letters as in `models.cmath`; m the target modality, then the source that it attends to; k their fusion.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.models.attention import MASKED, Attention
from cmath_jax.models.baselines.weights import Released, Tree, Weights, stacked
from cmath_jax.models.layers import (
    Context,
    Convolution,
    Dense,
    Dropout,
    LayerNorm,
    SpeakerEmbedding,
    accurate,
    context_of,
    repeat_along,
    sinusoids,
    softmax_gate,
)
from cmath_jax.models.outputs import Outputs


class GatedBlocks(nn.Module):
    """The blocks by which every modality attends to each (itself too): attention, feed-forward layer, unimodal gate.

    Only the feed-forward layer is normalized, and before it (pre-norm). The dropout of the attention's output is the
    one that `Attention` ends with. The stack of all layers is [m, m].

    Attributes:
      heads: attention heads; they divide the width.
      biases, gates: see `SDT`.
      dtype: of the computation.
    """

    heads: int
    biases: bool
    gates: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_mrld: jax.Array, context: Context) -> jax.Array:
        """Computes [m, m, r, l, d]: what each target modality hears from each source."""
        modalities, *_, width = x_mrld.shape
        stack = (modalities, modalities)

        def dense(name: str, use_bias: bool = True) -> Dense:
            return Dense((width,), stack, use_bias, self.dtype, name=name)

        heard = Attention(self.heads, self.dtype, self.biases, name="attention")(x_mrld, x_mrld, context)
        y = repeat_along(x_mrld, 1, modalities) + heard
        f = LayerNorm(stack, self.dtype, name="norm")(y)
        f = nn.gelu(dense("hidden")(f), approximate=True)
        f = dense("project")(Dropout()(f, context))
        z = y + Dropout()(f, context)
        return nn.sigmoid(dense("gate", use_bias=False)(z) if self.gates == "learned" else z) * z


class SDT(nn.Module):
    """The whole model. `SDT(...).apply(variables, batch, train=False)` returns `Outputs`.

    Its fusion has no noise: mean and sample are H_k, the deviation is 0. `augmented` holds the H_m, so that
    `loss.gamma1` means what it means elsewhere; SDT itself is trained with 0. `gates` holds the weights under "k".
    Training draws from the rng key `dropout`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: d.
      heads: attention heads; they divide the width.
      dropout: rate, everywhere; a call may give another one.
      biases: of queries, keys and values, which the released code has. Of the three only that of the queries matters,
        and a query can read it off P, whose slowest cosine is 1 up to 1e-4 all along.
      gates: learned, or identity: the unimodal gate is then z sigmoid(z).
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: True tells an utterance from itself and what came before it alone.
      dtype: of the computation; parameters are float32.
      first_positions_ld: rows that stand in for the first of P: released code has them in float32, rounded its own way.
    """

    classes: int
    speakers: int
    width: int = 1024
    heads: int = 8
    dropout: float = 0.5
    biases: bool = False
    gates: str = "learned"
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32
    first_positions_ld: np.ndarray | None = None

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)

        # X_m: what is said, by whom, and when.
        speaker_rld = SpeakerEmbedding(self.speakers, self.width, self.dtype, name="speaker")(batch.speaker_rl)
        positions_ld = sinusoids(batch.position_rl.shape[1], self.width)
        if self.first_positions_ld is not None:
            known = min(len(self.first_positions_ld), len(positions_ld))
            positions_ld[:known] = self.first_positions_ld[:known]
        position_rld = jnp.asarray(positions_ld, self.dtype)[batch.position_rl]
        u = []
        for m in present:
            convolution = Convolution(self.width, 1, False, self.dtype, name=f"convolution_{m}")
            u.append(convolution(batch.features[m], context))
        x_mrld = Dropout()(jnp.stack(u) + repeat_along(speaker_rld + position_rld, 0, len(present)), context)

        # H_m: what each modality hears from all of them, itself included.
        heard_mmrld = GatedBlocks(self.heads, self.biases, self.gates, self.dtype, name="blocks")(x_mrld, context)
        if context.present_mrl is not None:
            heard_mmrld = jnp.where(context.heard_mrl[None, ..., None], heard_mmrld, jnp.zeros((), self.dtype))
        heard_mrlx = jnp.concatenate([heard_mmrld[:, s] for s in range(len(present))], axis=-1)
        h_mrld = Dense((self.width,), (len(present),), dtype=self.dtype, name="merge")(heard_mrlx)

        # H_k: the sum of the H_m weighted feature by feature, by a softmax over m of W H_m; and the classifiers.
        h_k_rld, gates = h_mrld[0], {}
        if len(present) > 1:
            score_mrld = Dense((self.width,), use_bias=False, dtype=self.dtype, name="gate")(h_mrld)
            if context.present_mrl is not None:
                score_mrld = jnp.where(context.told_mrl[..., None], score_mrld, MASKED)
            h_k_rld, alpha_mrld = softmax_gate(score_mrld, h_mrld, axis=0)
            gates = {"k": dict(zip(present, alpha_mrld, strict=True))}
        fused_rld = accurate(h_k_rld)
        classifier = Dense((self.classes,), dtype=self.dtype, name="classifier")
        classifiers = Dense((self.classes,), (len(present),), dtype=self.dtype, name="classifiers")
        logits_mrlc = accurate(classifiers(Dropout()(nn.relu(h_mrld), context)))
        return Outputs(
            logits_rlc=accurate(classifier(h_k_rld)),
            modality_logits=dict(zip(present, logits_mrlc, strict=True)),
            mean_rld=fused_rld,
            deviation_rld=jnp.zeros_like(fused_rld),
            sample_rld=fused_rld,
            augmented=dict(zip(present, h_mrld, strict=True)),
            reconstructions={},
            gates=gates,
        )


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit.

    Nothing says how many heads there are: 8, as the authors have them, where they divide the width, and else 4.
    """
    width = len(weights["all_output_layer.weight"][0])
    frozen = all(
        np.array_equal(weights[f"{s}_{m}_gate.fc.weight"], np.eye(width)) for m in MODALITIES for s in MODALITIES
    )
    heads, gates = 8 if width % 8 == 0 else 4, "identity" if frozen else "learned"
    return {"width": width, "heads": heads, "biases": True, "gates": gates}


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters. The released names have the source first: in a_t, text hears audio."""

    def over_blocks(make: Callable[[str], Tree]) -> Tree:
        """Returns a stack of [target, source]."""
        return stacked([stacked([make(f"{s}_{m}") for s in MODALITIES]) for m in MODALITIES])

    def projections(name: str, ours: str) -> Tree:
        """Returns those of each modality to all its partners: [m, d, m, d]."""
        blocks = [[f"{s}_{m}" if ours == "query" else f"{m}_{s}" for s in MODALITIES] for m in MODALITIES]
        trees = [stacked([weights.dense(f"{each}{BLOCK}.self_attn.{name}") for each in row]) for row in blocks]
        tree = stacked(trees)
        return {"kernel": tree["kernel"].swapaxes(1, 2), "bias": tree["bias"]}

    def merged(m: str) -> Tree:
        """Returns the merge of what a modality hears: there it comes first, here the order is t, a, v."""
        tree, order = weights.dense(f"features_reduce_{m}"), [m, *(s for s in MODALITIES if s != m)]
        parts = dict(zip(order, np.split(tree["kernel"], 3), strict=True))
        return {**tree, "kernel": np.concatenate([parts[s] for s in MODALITIES])}

    blocks = {
        "attention": {
            **{ours: projections(f"linear_{ours[0]}", ours) for ours in ("query", "key", "value")},
            "output": over_blocks(lambda each: weights.dense(f"{each}{BLOCK}.self_attn.linear")),
        },
        "norm": over_blocks(lambda each: weights.norm(f"{each}{BLOCK}.feed_forward.layer_norm")),
        "hidden": over_blocks(lambda each: weights.dense(f"{each}{BLOCK}.feed_forward.w_1")),
        "project": over_blocks(lambda each: weights.dense(f"{each}{BLOCK}.feed_forward.w_2")),
    }
    if options["gates"] == "learned":
        blocks["gate"] = over_blocks(lambda each: weights.dense(f"{each}_gate.fc", bias=False))
    return {
        # Released code has one row more, of zeros, for padding.
        "speaker": {"embedding": weights["speaker_embeddings.weight"][: weights.speakers]},
        **{
            f"convolution_{m}": {"kernel": weights.dense(f"{name}_input", bias=False)["kernel"][None]}
            for m, name in zip(MODALITIES, ("textf", "acouf", "visuf"), strict=True)
        },
        "blocks": blocks,
        "merge": stacked([merged(m) for m in MODALITIES]),
        "gate": weights.dense("last_gate.fc", bias=False),
        "classifier": weights.dense("all_output_layer"),
        "classifiers": stacked([weights.dense(f"{m}_output_layer.2") for m in MODALITIES]),
    }


def released_constants(weights: Weights) -> dict[str, Any]:
    """Returns the first positions as vectors have them."""
    return {"first_positions_ld": weights.extra.get("pe_first16")}


BLOCK = ".transformer_inter.0"
RELEASED = {
    "SDT": Released(
        released_options,
        released_params,
        dead=r"\w_\w\.transformer_inter\.0\.layer_norm\.\w+",  # which a first layer does not use
        constants=released_constants,
    )
}
