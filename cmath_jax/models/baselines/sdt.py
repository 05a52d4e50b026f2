"""SDT: a transformer-based model with self-distillation (Ma et al., 2024), in its equations; see docs/baselines.md.

Shapes and letters as in `models.cmath`; m the target modality, then the source that it attends to; k their fusion.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.models.attention import MASKED, Attention
from cmath_jax.models.layers import (
    Context,
    Convolution,
    Dense,
    Dropout,
    LayerNorm,
    SpeakerEmbedding,
    repeat_along,
    sinusoids,
    softmax_gate,
)
from cmath_jax.models.outputs import Outputs


class GatedBlocks(nn.Module):
    """The blocks by which every modality attends to each (itself too): attention, feed-forward layer, unimodal gate.

    Only the feed-forward layer is normalized, and before it (pre-norm). The dropout of the attention's output is the
    one that `Attention` ends with. Its queries, keys and values have no bias. Of the three biases of the original only
    that of the queries matters, and a query can read it off P, whose slowest cosine is 1 up to 1e-4 all along.
    The stack of all layers is [m, m].

    Attributes:
      heads: attention heads; they divide the width.
      dtype: of the computation.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_mrld: jax.Array, context: Context) -> jax.Array:
        """Computes [m, m, r, l, d]: what each target modality hears from each source."""
        modalities, *_, width = x_mrld.shape
        stack = (modalities, modalities)

        def dense(name: str, use_bias: bool = True) -> Dense:
            return Dense((width,), stack, use_bias, self.dtype, name=name)

        heard = Attention(self.heads, self.dtype, name="attention")(x_mrld, x_mrld, context)
        y = repeat_along(x_mrld, 1, modalities) + heard
        f = LayerNorm(stack, self.dtype, name="norm")(y)
        f = nn.gelu(dense("hidden")(f), approximate=True)
        f = dense("project")(Dropout()(f, context))
        z = y + Dropout()(f, context)
        return nn.sigmoid(dense("gate", use_bias=False)(z)) * z


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
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: True tells an utterance from itself and what came before it alone.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 1024
    heads: int = 8
    dropout: float = 0.5
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present = [m for m in MODALITIES if m in self.modalities]
        rate = self.dropout if dropout is None else dropout
        context = Context.of(batch, present, dropout=rate, train=train, causal=self.causal)

        # X_m: what is said, by whom, and when.
        speaker_rld = SpeakerEmbedding(self.speakers, self.width, self.dtype, name="speaker")(batch.speaker_rl)
        position_rld = jnp.asarray(sinusoids(batch.position_rl.shape[1], self.width), self.dtype)[batch.position_rl]
        u = []
        for m in present:
            convolution = Convolution(self.width, 1, False, self.dtype, name=f"convolution_{m}")
            u.append(convolution(batch.features[m], context))
        x_mrld = Dropout()(jnp.stack(u) + repeat_along(speaker_rld + position_rld, 0, len(present)), context)

        # H_m: what each modality hears from all of them, itself included.
        heard_mmrld = GatedBlocks(self.heads, self.dtype, name="blocks")(x_mrld, context)
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
        fused_rld = h_k_rld.astype(jnp.float32)
        classifier = Dense((self.classes,), dtype=self.dtype, name="classifier")
        classifiers = Dense((self.classes,), (len(present),), dtype=self.dtype, name="classifiers")
        logits_mrlc = classifiers(Dropout()(nn.relu(h_mrld), context)).astype(jnp.float32)
        return Outputs(
            logits_rlc=classifier(h_k_rld).astype(jnp.float32),
            modality_logits=dict(zip(present, logits_mrlc, strict=True)),
            mean_rld=fused_rld,
            deviation_rld=jnp.zeros_like(fused_rld),
            sample_rld=fused_rld,
            augmented=dict(zip(present, h_mrld, strict=True)),
            reconstructions={},
            gates=gates,
        )
