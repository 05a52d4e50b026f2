"""DialogueRNN (Majumder et al., 2019), in the equations of its released code; see docs/baselines.md.

Shapes: g the directions, onwards and backwards; r rows, l slots of a row, n all slots of all rows; d width, x features,
or gates, side by side.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.baselines.matching import Matching
from cmath_jax.models.baselines.speaker_states import Arrays, Places, emotions
from cmath_jax.models.baselines.weights import Released, Tree, Weights, stacked
from cmath_jax.models.layers import Context, Dense, Dropout, context_of, product, uniform_by
from cmath_jax.models.outputs import Outputs, plain_outputs
from cmath_jax.models.recurrent import flipped

STATES = ("global", "party", "emotion")  # of the conversation, of who speaks, of the emotion
GATES = 3  # of a GRU


class SpeakerStates(nn.Module):
    """The emotion state of every utterance, from its conversation and its speakers: [r, l, x] -> [r, l, g d].

    Attributes:
      width, party_width, emotion_width: see `DialogueRNN`; here none is 0.
      speakers: number of speaker indices.
      directions: 1 from the first utterance on; 2 from the last one too.
      dtype: of the computation.
    """

    width: int
    party_width: int
    emotion_width: int
    speakers: int
    directions: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, u_rlx: jax.Array, batch: Batch, context: Context) -> jax.Array:
        rows, slots, dim = u_rlx.shape
        u_nx = u_rlx.astype(self.dtype).reshape(rows * slots, dim)
        width = dict(zip(STATES, (self.width, self.party_width, self.emotion_width), strict=True))
        heard = dict(zip(STATES, (self.party_width, self.width, self.party_width), strict=True))

        def parameter(name: str, fan: int, *shape: int) -> jax.Array:
            return self.param(name, uniform_by(fan), shape, jnp.float32).astype(self.dtype)

        def cell(name: str) -> Arrays:
            d, g, x = width[name], self.directions, GATES * width[name]
            shapes = {"heard": (g, heard[name], x), "state": (g, d, x), "heard_bias": (g, x), "state_bias": (g, x)}
            return {f"{name}_{each}": parameter(f"{name}_{each}", d, *shape) for each, shape in shapes.items()}

        def in_order(x_rlgx: jax.Array) -> jax.Array:
            return flipped(x_rlgx.transpose(1, 2, 0, 3))

        def of_features(name: str, fan: int, size: int) -> jax.Array:
            y_nx = product(u_nx, parameter(name, fan, dim, self.directions * size))
            return in_order(y_nx.reshape(rows, slots, self.directions, size))

        inputs = {name: of_features(f"{name}_input", width[name], GATES * width[name]) for name in ("global", "party")}
        inputs["query"] = of_features("query", dim, self.width)
        if context.drops:
            ones = {name: jnp.ones((self.directions, rows, slots, d), self.dtype) for name, d in width.items()}
            keep = {f"keep_{name}": Dropout()(x_grld, context) for name, x_grld in ones.items()}
            inputs |= {name: in_order(x_grld.transpose(1, 2, 0, 3)) for name, x_grld in keep.items()}
        weights = cell("global") | cell("party") | cell("emotion")
        places = Places.of(batch, self.speakers, self.directions)
        e_lgrd = emotions(weights, inputs, places)
        return flipped(e_lgrd).transpose(2, 0, 1, 3).reshape(rows, slots, self.directions * self.emotion_width)


class DialogueRNN(nn.Module):
    """The whole model. `DialogueRNN(...).apply(variables, batch, train=False)` returns `Outputs`.

    Training draws from the rng key `dropout`.

    Attributes:
      classes: number of emotions.
      speakers: number of speaker indices.
      width, party_width, emotion_width: of the states of the conversation, of its speakers, and of emotions, in each
        direction; 0 is as `width`.
      hidden_width: of the layer before the classifier; 0 is as `width`.
      attention: whether an utterance attends to the emotions of all of its conversation.
      dropout: rate; a call may give another one. That of the emotions is `emotion_rate` of it.
      modalities: which of t, a, v take part; a modality that is left out has no parameters.
      causal: True runs from the first utterance on alone, and tells an utterance from itself and what came before it.
      dtype: of the computation; parameters are float32.
    """

    classes: int
    speakers: int
    width: int = 500
    party_width: int = 0
    emotion_width: int = 0
    hidden_width: int = 0
    attention: bool = True
    dropout: float = 0.1
    modalities: str = "tav"
    causal: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool, dropout: jax.Array | None = None) -> Outputs:
        """Computes the outputs with `dropout` as the rate of this call, which may be traced; None is the attribute."""
        present, context = context_of(self, batch, train, dropout)
        party, emotion, hidden = (
            width or self.width for width in (self.party_width, self.emotion_width, self.hidden_width)
        )

        def dense(width: int, name: str) -> Dense:
            return Dense((width,), dtype=self.dtype, uniform=True, name=name)

        u_rlx = jnp.concatenate([batch.features[m] for m in present], axis=-1)
        states = SpeakerStates(
            self.width, party, emotion, self.speakers, 1 if self.causal else 2, self.dtype, name="states"
        )
        e_rld = states(u_rlx, batch, context)
        if context.drops:
            e_rld = Dropout()(e_rld, replace(context, dropout=emotion_rate(context.dropout)))
        if self.attention:
            e_rld = Matching(self.dtype, name="attention")(e_rld, context)
        mean_rld = nn.relu(dense(hidden, "hidden")(e_rld))
        logits_rlc = dense(self.classes, "classifier")(Dropout()(mean_rld, context))
        return plain_outputs(logits_rlc, mean_rld)


def emotion_rate(rate: jax.Array | float) -> jax.Array:
    """Returns the dropout rate of emotions: .15 more than elsewhere, as released, but nothing where that is 0."""
    return jnp.minimum(jnp.minimum(2.5 * rate, rate + 0.15), 0.99)


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit; each says a width."""
    cells = "dialog_rnn_f.dialogue_cell"
    width, party, emotion = (weights[f"{cells}.{name}_cell.weight_hh"].shape[1] for name in "gpe")
    hidden = len(weights["linear.weight"])
    return {
        "width": width,
        "party_width": party,
        "emotion_width": emotion,
        "hidden_width": hidden,
        "attention": True,
    }


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters. In a released kernel, what else a cell hears is behind the features."""

    def direction(letter: str) -> Tree:
        name, tree = f"dialog_rnn_{letter}.dialogue_cell", Tree()
        query = weights.dense(f"{name}.attention.transform", bias=False)["kernel"]
        for state in STATES:
            cell = weights.cell(f"{name}.{state[0]}_cell")
            features, heard = np.split(cell["kernel_input"], [0 if state == "emotion" else len(query)])
            tree |= {f"{state}_heard": heard, f"{state}_state": cell["kernel_state"]}
            tree |= {f"{state}_heard_bias": cell["bias_input"], f"{state}_state_bias": cell["bias_state"]}
            tree |= {f"{state}_input": features} if len(features) else {}
        return {**tree, "query": query}

    onwards, backwards = (direction(letter) for letter in "fr")
    of_features = {
        name: np.concatenate([onwards.pop(name), backwards.pop(name)], axis=1)
        for name in ("global_input", "party_input", "query")
    }
    return {
        "states": {**of_features, **stacked([onwards, backwards])},
        **({"attention": {"query": weights.dense("matchatt.transform")}} if options["attention"] else {}),
        "hidden": weights.dense("linear"),
        "classifier": weights.dense("smax_fc"),
    }


# The attention is dead if it is turned off.
RELEASED = {"DialogueRNN": Released(released_options, released_params, dead=r"matchatt\.transform\.\w+")}
