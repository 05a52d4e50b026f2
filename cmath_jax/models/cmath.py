"""CMATH: Cross-Modality Augmented Transformer with Hierarchical Variational Distillation (Zhu et al.).

Shapes: r rows, l slots of a row, d width, c classes. A row holds several conversations; see `data.batches`.
Letters: t text, a audio, v visual; m any of them; k the fusion of all.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.models import fusion
from cmath_jax.models.cma_transformer import CMATransformer
from cmath_jax.models.layers import Context, Convolution, Dense, Dropout, SpeakerEmbedding, repeat_along, sinusoids
from cmath_jax.models.outputs import Outputs


class CMATH(nn.Module):
    """The whole model. `CMATH(...).apply(variables, batch, train=False)` returns `Outputs`.

    Training draws from two rng keys: `apply(..., train=True, rngs={"dropout": rng_key, "noise": rng_key})`.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: d of the paper.
      heads: attention heads; they divide the width.
      dropout: rate, everywhere; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      kernel: odd kernel size of the convolutions (eqs 1, 2).
      reconstruction: False is the paper's "w/o MR": a linear layer instead, and nothing is reconstructed.
      cross_attention: False is the paper's "w/o CMA-T": H'_m = H_m.
      inject, norm: see `CMATransformer`.
      noise: False fuses the means alone: no deviation is learned, nothing is drawn.
      causal: True tells an utterance from itself and what came before it alone.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 400
    heads: int = 10
    dropout: float = 0.5
    modalities: str = "tav"
    kernel: int = 1
    reconstruction: bool = True
    cross_attention: bool = True
    inject: str = "attention"
    norm: str = "post"
    noise: bool = True
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present = [m for m in MODALITIES if m in self.modalities]
        rate = self.dropout if dropout is None else dropout
        context = Context.of(batch, present, dropout=rate, train=train, causal=self.causal)

        # Modality reconstruction: compress and restore (eqs 1, 2).
        compressed, reconstructions = {}, {}
        with jax.named_scope("reconstruction"):
            for m in present:
                u_rld = batch.features[m]
                if self.reconstruction:
                    compressed[m] = self._convolution(self.width, False, f"down_{m}")(u_rld, context)
                    restored_rld = self._convolution(u_rld.shape[-1], True, f"up_{m}")(compressed[m], context)
                    reconstructions[m] = restored_rld.astype(jnp.float32)
                else:
                    compressed[m] = Dense((self.width,), dtype=self.dtype, name=f"linear_{m}")(u_rld)

        # Who speaks, and when (eqs 4-8): the same for all modalities, which from here on lie in one array.
        with jax.named_scope("embeddings"):
            speaker_rld = SpeakerEmbedding(self.speakers, self.width, self.dtype, name="speaker")(batch.speaker_rl)
            positions_ld = jnp.asarray(sinusoids(batch.position_rl.shape[1], self.width), self.dtype)
            place_mrld = repeat_along(speaker_rld + positions_ld[batch.position_rl], 0, len(present))
            h_mrld = Dropout()(jnp.stack([compressed[m] for m in present]) + place_mrld, context)

        # Cross-modality augmented transformers, one per central modality (eqs 9-14).
        gates = {}
        if self.cross_attention:
            transformers = CMATransformer(self.heads, self.inject, self.norm, self.dtype, name="cma")
            h_mrld, alpha_mmrld = transformers(h_mrld, context)
            if len(present) > 1:
                gates = {
                    c: dict(zip(present, alpha, strict=True)) for c, alpha in zip(present, alpha_mmrld, strict=True)
                }

        # Variational fusion (eqs 15-17).
        mean_mrld, deviation_mrld = fusion.Gaussians(self.noise, self.dtype, name="fusion")(h_mrld)
        with jax.named_scope("fusion"):
            mean_rld, deviation_rld = (fusion.average(x_mrld, context) for x_mrld in (mean_mrld, deviation_mrld))
            noisy = train and self.noise
            sample_rld = fusion.sample(mean_rld, deviation_rld, self.make_rng("noise"), context) if noisy else mean_rld

        # Classifiers (eqs 19, 20): that of the fusion, and one of each modality.
        with jax.named_scope("classifiers"):
            logits_rlc = self._classify("classifier", (), sample_rld, context)
            logits_mrlc = self._classify("classifiers", (len(present),), h_mrld, context)
        return Outputs(
            logits_rlc=logits_rlc,
            modality_logits=dict(zip(present, logits_mrlc, strict=True)),
            mean_rld=mean_rld,
            deviation_rld=deviation_rld,
            sample_rld=sample_rld,
            augmented=dict(zip(present, h_mrld, strict=True)),
            reconstructions=reconstructions,
            gates=gates,
        )

    def _classify(self, name: str, stack: tuple[int, ...], h_grld: jax.Array, context: Context) -> jax.Array:
        classifier = Dense((self.classes,), stack, dtype=self.dtype, name=name)
        return classifier(Dropout()(h_grld, context)).astype(jnp.float32)

    def _convolution(self, features: int, use_bias: bool, name: str) -> Convolution:
        return Convolution(features, self.kernel, use_bias, self.dtype, name=name)
