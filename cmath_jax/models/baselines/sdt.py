"""SDT: a transformer-based model with self-distillation (Ma et al., 2024), in its equations; see docs/baselines.md.

Shapes and letters as in `models.cmath`; m the target modality, s the source that it attends to, k their fusion.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.config import Config
from cmath_jax.data.batches import Batch
from cmath_jax.data.conversations import MODALITIES, Corpus
from cmath_jax.models.cmath import Outputs
from cmath_jax.models.layers import Attention, Context, Convolution, Dropout, SpeakerEmbedding, sinusoids, softmax_gate


class GatedBlock(nn.Module):
    """What a target modality hears from a source (maybe itself): attention, feed-forward layer, unimodal gate.

    Only the feed-forward layer is normalized, and before it (pre-norm). The dropout of the attention's output is the
    one that `Attention` ends with. Its queries, keys and values have no bias. Of the three biases of the original only
    that of the queries matters, and a query can read it off P, whose slowest cosine is 1 up to 1e-4 all along.

    Attributes:
      heads: attention heads; they divide the width.
      dtype: of the computation.
    """

    heads: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_m_rld: jax.Array, x_s_rld: jax.Array, context: Context) -> jax.Array:
        width = x_m_rld.shape[-1]
        y_rld = x_m_rld + Attention(self.heads, self.dtype, name="attention")(x_m_rld, x_s_rld, context)
        f_rld = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=self.dtype, name="norm")(y_rld)
        f_rld = nn.gelu(nn.Dense(width, dtype=self.dtype, name="hidden")(f_rld), approximate=True)
        f_rld = nn.Dense(width, dtype=self.dtype, name="project")(Dropout()(f_rld, context))
        z_rld = y_rld + Dropout()(f_rld, context)
        return nn.sigmoid(nn.Dense(width, use_bias=False, dtype=self.dtype, name="gate")(z_rld)) * z_rld


class MultimodalGate(nn.Module):
    """H_k, the sum of the H_m weighted feature by feature: a softmax over m of W H_m, with one W for all."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, h: Mapping[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
        """H_k [r, l, d], and the weights by modality."""
        width = next(iter(h.values())).shape[-1]
        score = nn.Dense(width, use_bias=False, dtype=self.dtype, name="score")
        return softmax_gate(score, h)


class SDT(nn.Module):
    """The whole model. `SDT(...).apply(variables, batch, train=False)` returns `Outputs`.

    Its fusion has no noise: mean and sample are H_k, the deviation is 0. `augmented` holds the H_m, so that
    `loss.gamma1` means what it means elsewhere; SDT itself is trained with 0. `gates` holds the weights under "k".
    Training draws from the stream `dropout`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: d.
      heads: attention heads; they divide the width.
      dropout: rate, everywhere; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 1024
    heads: int = 8
    dropout: float = 0.5
    modalities: str = "tav"
    dtype: jnp.dtype = jnp.float32

    @classmethod
    def of(cls, config: Config, corpus: Corpus) -> "SDT":
        """As the config has it; the options of `model` that are not attributes here are CMATH's alone."""
        return cls(
            classes=len(corpus.classes),
            speakers=corpus.speakers,
            width=config.model.width,
            heads=config.model.heads,
            dropout=config.model.dropout,
            modalities=config.data.modalities,
            dtype=jnp.dtype(config.precision),
        )

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """With `dropout` as the rate of this call, which may be traced; None takes the attribute."""
        context = Context.of(batch, self.dropout if dropout is None else dropout, train)
        present = [m for m in MODALITIES if m in self.modalities]

        # X_m: what is said, by whom, and when.
        speaker_rld = SpeakerEmbedding(self.speakers, self.width, self.dtype, name="speaker")(batch.speaker_rl)
        position_rld = jnp.asarray(sinusoids(batch.position_rl.shape[1], self.width), self.dtype)[batch.position_rl]
        x = {}
        for m in present:
            u_rld = Convolution(self.width, 1, False, self.dtype, name=f"convolution_{m}")(batch.features[m], context)
            x[m] = Dropout()(u_rld + speaker_rld + position_rld, context)

        # H_m: what each modality hears from all of them, itself included.
        h = {}
        for m in present:
            heard = [GatedBlock(self.heads, self.dtype, name=f"block_{m}_{s}")(x[m], x[s], context) for s in present]
            h[m] = nn.Dense(self.width, dtype=self.dtype, name=f"merge_{m}")(jnp.concatenate(heard, axis=-1))

        # H_k, and the classifiers.
        alone = len(present) == 1
        h_k_rld, alpha = (h[present[0]], {}) if alone else MultimodalGate(self.dtype, name="gate")(h)
        fused_rld = h_k_rld.astype(jnp.float32)
        return Outputs(
            logits_rlc=self._classify("classifier", h_k_rld),
            modality_logits={m: self._classify(f"classifier_{m}", Dropout()(nn.relu(h[m]), context)) for m in present},
            mean_rld=fused_rld,
            deviation_rld=jnp.zeros_like(fused_rld),
            sample_rld=fused_rld,
            augmented=h,
            reconstructions={},
            gates={} if alone else {"k": alpha},
        )

    def _classify(self, name: str, h_rld: jax.Array) -> jax.Array:
        return nn.Dense(self.classes, dtype=self.dtype, name=name)(h_rld).astype(jnp.float32)
