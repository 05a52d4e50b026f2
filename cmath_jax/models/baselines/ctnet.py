"""CTNet-style: cross-modal transformers under a BiGRU with attention, after Lian et al., 2021; see docs/baselines.md.

Its authors published no code, and of the paper only the abstract was at hand. Of it are: transformers inside a modality
and across modalities; a bidirectional GRU with multi-head attention over them; embeddings of speakers, which are a
further input of that GRU, as in the authors' model of 2019. All else is a choice of ours: that the sequence of the
transformers is the conversation (the paper's is inside of an utterance, which has one vector here), sinusoids of the
place, one layer of each kind, its form, all ordered pairs of modalities, a linear layer and ReLU as fusion, a residual
and a norm after the attention, where something is dropped, and every size.

Shapes and letters as in `models.cmath`; m the modality that asks, then the one that it attends to.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.attention import Attention
from cmath_jax.models.baselines.encoder import PostNorm, UtteranceInputs
from cmath_jax.models.layers import Dense, Dropout, LayerNorm, SpeakerEmbedding, context_of, repeat_along
from cmath_jax.models.outputs import Outputs, plain_outputs
from cmath_jax.models.recurrent import Recurrent


class CTNet(nn.Module):
    """The whole model. `CTNet(...).apply(variables, batch, train=False)` returns `Outputs`.

    Training draws from the rng key `dropout`. The GRU hears the whole conversation: the model cannot be causal.

    Attributes:
      classes: number of emotions C.
      speakers: number of speaker indices.
      width: d, even.
      speaker_width: of the embedding of a speaker.
      heads: attention heads, everywhere; they divide the width.
      dropout: rate, everywhere; a call may give another one.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: False.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 200
    speaker_width: int = 50
    heads: int = 4
    dropout: float = 0.3
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)

        # S_m where a modality attends to itself, C_mn where it attends to another: the same layer for all pairs.
        x_mrld = UtteranceInputs(present, self.width, 0, self.dtype, name="inputs")(batch)
        a_mmrld = Attention(self.heads, self.dtype, name="attention")(x_mrld, x_mrld, context)
        x_mmrld = repeat_along(x_mrld, 1, len(present))
        s_mmrld = PostNorm((len(present),) * 2, self.dtype, name="layer")(x_mmrld, a_mmrld, context)
        if context.present_mrl is not None:
            known_mmrl = context.told_mrl[:, None] & context.heard_mrl[None]
            s_mmrld = jnp.where(known_mmrl[..., None], s_mmrld, jnp.zeros((), self.dtype))

        # f: the fusion of an utterance; g: and who says it.
        s_rlx = jnp.concatenate([*s_mmrld.reshape(-1, *s_mmrld.shape[2:])], axis=-1)
        f_rld = Dropout()(nn.relu(Dense((self.width,), dtype=self.dtype, name="fusion")(s_rlx)), context)
        speaker_rlx = SpeakerEmbedding(self.speakers, self.speaker_width, self.dtype, name="speaker")(batch.speaker_rl)
        g_rlx = jnp.concatenate([f_rld, speaker_rlx], axis=-1)

        # H, R, O: the context, which an utterance has whatever modalities it lacks.
        everybody = replace(context, present_mrl=None)
        h_rld = Recurrent("gru", self.width // 2, 1, 2, self.dtype, name="gru")(g_rlx, context)
        r_rld = Attention(self.heads, self.dtype, name="context_attention")(h_rld[None], h_rld[None], everybody)[0, 0]
        o_rld = LayerNorm((), self.dtype, name="context_norm")(h_rld + r_rld)

        return plain_outputs(Dense((self.classes,), dtype=self.dtype, name="classifier")(o_rld), o_rld)
