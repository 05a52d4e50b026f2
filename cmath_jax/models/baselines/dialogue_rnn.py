"""DialogueRNN (Majumder et al., 2019), in the equations of its released code; see docs/baselines.md.

Shapes: g the directions, onwards and backwards; r rows, l slots of a row, k those that a direction has been at; v
speakers, d width, x gates or features side by side. Slots of arrays that begin with l are in the order of each direction.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import MODALITIES
from cmath_jax.models.attention import MASKED
from cmath_jax.models.baselines.weights import Released, Tree, Weights, stacked
from cmath_jax.models.layers import Context, Dense, Dropout, accurate, product, uniform_by, visible
from cmath_jax.models.outputs import Outputs
from cmath_jax.models.recurrent import begins, flipped, gru

Arrays = dict[str, jax.Array]
Cells = dict[str, Arrays]
STATES = ("global", "party", "emotion")  # of the conversation, of who speaks, of the emotion
GATES = 3  # of a GRU


@flax.struct.dataclass
class Places:
    """The place of every slot, or of one, without the axis of slots.

    Attributes:
      begins: bool [l, g, r], whether a conversation begins here.
      speaks: bool [l, g, r, v, 1], who speaks.
      seen: bool [l, g, r, k], what was said before in this conversation.
    """

    begins: jax.Array
    speaks: jax.Array
    seen: jax.Array

    @classmethod
    def of(cls, batch: Batch, speakers: int, directions: int) -> "Places":
        """Returns the places of a batch."""

        def in_order(x_rl: jax.Array) -> jax.Array:
            return flipped(jnp.stack([x_rl.T] * directions, axis=1))

        segment_lgr = in_order(batch.segment_rl)
        slot_l = jnp.arange(len(segment_lgr))
        before_lk = slot_l[:, None] > slot_l[None]
        same_lgrk = segment_lgr[..., None] == jnp.moveaxis(segment_lgr, 0, -1)[None]
        return cls(
            begins=begins(batch.segment_rl, directions),
            speaks=jax.nn.one_hot(in_order(batch.speaker_rl), speakers, dtype=bool)[..., None],
            seen=same_lgrk & before_lk[:, None, None],
        )


def advance(weights: Cells, history_grkd: jax.Array, before: Arrays, now: Arrays, seen_grk: jax.Array) -> Arrays:
    """Takes in one utterance, and returns the three states after it.

    Args:
      weights: of the cell of each state: `heard` and `state` [g, d, x], `bias_input` and `bias_state` [g, x].
      history_grkd: the global states after each slot.
      before: the states before it, [g, r, d]; the party is who speaks.
      now: what comes from its features: W u of `global` and `party`, [g, r, x], and `query`, [g, r, d]; if states are
        dropped out, what they are multiplied by, `keep_global`, `keep_party`, `keep_emotion`.
      seen_grk: which slots of the history it attends to.
    """

    def cell(name: str, heard_grd: jax.Array) -> jax.Array:
        own = weights[name]
        input_grx = jnp.matmul(heard_grd, own["heard"]) + own["bias_input"][:, None]
        state_grx = jnp.matmul(before[name], own["state"]) + own["bias_state"][:, None]
        (after_grd,) = gru(input_grx + now[name] if name in now else input_grx, state_grx, (before[name],))
        return after_grd * now[f"keep_{name}"] if f"keep_{name}" in now else after_grd

    score_grk = accurate(jnp.einsum("grkd,grd->grk", history_grkd, now["query"]))
    # The first one sees nothing, and hears 0.
    weight_grk = nn.softmax(jnp.where(seen_grk, score_grk, MASKED)) * seen_grk
    context_grd = jnp.einsum("grk,grkd->grd", weight_grk.astype(history_grkd.dtype), history_grkd)
    party_grd = cell("party", context_grd)
    return {"global": cell("global", before["party"]), "party": party_grd, "emotion": cell("emotion", party_grd)}


@jax.custom_vjp
def emotions(weights: Cells, inputs: Arrays, places: Places) -> jax.Array:
    """Returns the emotion state after every slot, [l, g, r, d]; `inputs` are those of `advance`, for all slots.

    The gradient of a scan would keep the history as it was at every slot, and add to the gradients of all weights at
    each. This one keeps the states alone, of which the last history is one: it goes back over the slots only for the
    gradients of the states, and the equations of all slots at once then give those of weights and inputs.
    """
    return _states(weights, inputs, places)[0]


def _states(weights: Cells, inputs: Arrays, places: Places) -> tuple[jax.Array, jax.Array, Arrays]:
    """Computes the emotion after every slot, the history, and the states before every slot."""
    slots, directions, rows, speakers, _ = places.speaks.shape
    width = {name: weights[name]["state"].shape[1] for name in STATES}

    def zeros(*shape: int) -> jax.Array:
        return jnp.zeros((directions, rows, *shape), weights["global"]["state"].dtype)

    Carry = tuple[jax.Array, jax.Array, Arrays]

    def forwards(carry: Carry, now: tuple[jax.Array, Arrays, Places]) -> tuple[Carry, tuple[jax.Array, Arrays]]:
        history_grkd, party_grvd, last = carry
        slot, inputs, place = now
        party_grvd = jnp.where(place.begins[..., None, None], 0, party_grvd)
        before = {name: jnp.where(place.begins[..., None], 0, x_grd) for name, x_grd in last.items()}
        before["party"] = jnp.where(place.speaks, party_grvd, 0).sum(2)
        after = advance(weights, history_grkd, before, inputs, place.seen)
        history_grkd = jax.lax.dynamic_update_index_in_dim(history_grkd, after["global"], slot, 2)
        party_grvd = jnp.where(place.speaks, after["party"][:, :, None], party_grvd)
        last = {name: after[name] for name in last}
        return (history_grkd, party_grvd, last), (after["emotion"], before)

    last = {name: zeros(width[name]) for name in ("global", "emotion")}
    start = (zeros(slots, width["global"]), zeros(speakers, width["party"]), last)
    (history_grkd, *_), (emotion_lgrd, before) = jax.lax.scan(forwards, start, (jnp.arange(slots), inputs, places))
    return emotion_lgrd, history_grkd, before


def _kept(weights: Cells, inputs: Arrays, places: Places) -> tuple[jax.Array, tuple[Any, ...]]:
    emotion_lgrd, *states = _states(weights, inputs, places)
    return emotion_lgrd, (weights, inputs, places, *states)


def _gradients(kept: tuple[Any, ...], g_emotion_lgrd: jax.Array) -> tuple[Cells, Arrays, None]:
    weights, inputs, places, history_grkd, before = kept
    slots, _, _, speakers, _ = places.speaks.shape
    Carry = tuple[jax.Array, jax.Array, Arrays]
    Now = tuple[jax.Array, jax.Array, Arrays, Arrays, Places]

    def backwards(carry: Carry, now: Now) -> tuple[Carry, Arrays]:
        g_history_grkd, g_party_grvd, g_last = carry
        slot, g_emotion_grd, before, inputs, place = now
        g_after = {
            "global": g_last["global"] + jax.lax.dynamic_index_in_dim(g_history_grkd, slot, 2, keepdims=False),
            "party": jnp.where(place.speaks, g_party_grvd, 0).sum(2),
            "emotion": g_last["emotion"] + g_emotion_grd,
        }
        _, pull = jax.vjp(lambda h_grkd, x: advance(weights, h_grkd, x, inputs, place.seen), history_grkd, before)
        more_grkd, g_before = pull(g_after)
        g_party_grvd = jnp.where(place.speaks, g_before.pop("party")[:, :, None], g_party_grvd)
        g_party_grvd = jnp.where(place.begins[..., None, None], 0, g_party_grvd)
        g_last = {name: jnp.where(place.begins[..., None], 0, x_grd) for name, x_grd in g_before.items()}
        return (g_history_grkd + more_grkd, g_party_grvd, g_last), g_after

    g_last = {name: jnp.zeros_like(before[name][0]) for name in ("global", "emotion")}
    g_party_grvd = jnp.stack([jnp.zeros_like(before["party"][0])] * speakers, axis=2)
    start = (jnp.zeros_like(history_grkd), g_party_grvd, g_last)
    slot_l = jnp.arange(slots)
    _, g_after = jax.lax.scan(backwards, start, (slot_l, g_emotion_lgrd, before, inputs, places), reverse=True)

    at_all_slots = jax.vmap(advance, in_axes=(None, None, 0, 0, 0))
    _, pull = jax.vjp(lambda w, x: at_all_slots(w, history_grkd, before, x, places.seen), weights, inputs)
    return *pull(g_after), None


emotions.defvjp(_kept, _gradients)


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
            shapes = {"heard": (g, heard[name], x), "state": (g, d, x), "bias_input": (g, x), "bias_state": (g, x)}
            return {each: parameter(f"{name}_{each}", d, *shape) for each, shape in shapes.items()}

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
        places = Places.of(batch, self.speakers, self.directions)
        e_lgrd = emotions({name: cell(name) for name in STATES}, inputs, places)
        return flipped(e_lgrd).transpose(2, 0, 1, 3).reshape(rows, slots, self.directions * self.emotion_width)


class Matching(nn.Module):
    """Attention of every utterance to all of its conversation, [r, l, d] -> [r, l, d]: sum of softmax(x_k . (W x_q + b)) x_k.

    Attributes:
      dtype: of the computation.
      bounded: True takes the tanh of what goes into the softmax.
    """

    dtype: jnp.dtype
    bounded: bool = False

    @nn.compact
    def __call__(self, x_rld: jax.Array, context: Context) -> jax.Array:
        query_rqd = Dense((x_rld.shape[-1],), dtype=self.dtype, uniform=True, name="query")(x_rld)
        score_rqk = accurate(jnp.einsum("rqd,rkd->rqk", query_rqd, x_rld))
        score_rqk = jnp.tanh(score_rqk) if self.bounded else score_rqk
        # What an utterance lacks is 0 in it; the utterance is there.
        whole = replace(context, present_mrl=None)
        weight_rqk = nn.softmax(jnp.where(visible(whole, whole)[0], score_rqk, MASKED))
        return jnp.matmul(weight_rqk.astype(self.dtype), x_rld)


class DialogueRNN(nn.Module):
    """The whole model. `DialogueRNN(...).apply(variables, batch, train=False)` returns `Outputs`.

    Training draws from the rng key `dropout`.

    Attributes:
      classes: number of emotions.
      speakers: number of speaker indices.
      width, party_width, emotion_width, hidden_width: of the states of the conversation, of speakers and of emotions, for
        each direction, and of the layer before the classifier; 0 is as `width`.
      attention: whether an utterance attends to the emotion states of the others.
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
        present = [m for m in MODALITIES if m in self.modalities]
        rate = self.dropout if dropout is None else dropout
        context = Context.of(batch, present, dropout=rate, train=train, causal=self.causal)
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
            e_rld = Dropout()(e_rld, replace(context, dropout=emotion_rate(rate)))
        if self.attention:
            e_rld = Matching(self.dtype, name="attention")(e_rld, context)
        mean_rld = nn.relu(dense(hidden, "hidden")(e_rld))
        logits_rlc = dense(self.classes, "classifier")(Dropout()(mean_rld, context))
        mean_rld = accurate(mean_rld)
        return Outputs(
            logits_rlc=accurate(logits_rlc),
            modality_logits={},
            mean_rld=mean_rld,
            deviation_rld=jnp.zeros_like(mean_rld),
            sample_rld=mean_rld,
            augmented={},
            reconstructions={},
            gates={},
        )


def emotion_rate(rate: jax.Array | float) -> jax.Array:
    """Returns the dropout rate of emotions: .15 more than elsewhere, as released, but nothing where that is 0."""
    return jnp.minimum(jnp.minimum(2.5 * rate, rate + 0.15), 0.99)


def released_options(weights: Weights) -> dict[str, Any]:
    """Returns the options that released parameters fit; each says a width."""
    cells = "dialog_rnn_f.dialogue_cell"
    width, party, emotion = (weights[f"{cells}.{name}_cell.weight_hh"].shape[1] for name in "gpe")
    hidden = len(weights["linear.weight"])
    return {"width": width, "party_width": party, "emotion_width": emotion, "hidden_width": hidden}


def released_params(weights: Weights, options: Mapping[str, Any]) -> Tree:
    """Returns our parameters. In a released kernel, what else a cell hears is behind the features."""
    del options

    def direction(letter: str) -> Tree:
        name, tree = f"dialog_rnn_{letter}.dialogue_cell", {}
        query = weights.dense(f"{name}.attention.transform", bias=False)["kernel"]
        for state in STATES:
            cell = weights.cell(f"{name}.{state[0]}_cell")
            features, heard = np.split(cell["kernel_input"], [0 if state == "emotion" else len(query)])
            tree |= {f"{state}_heard": heard, f"{state}_state": cell["kernel_state"]}
            tree |= {f"{state}_{each}": cell[each] for each in ("bias_input", "bias_state")}
            tree |= {f"{state}_input": features} if len(features) else {}
        return {**tree, "query": query}

    onwards, backwards = (direction(letter) for letter in "fr")
    of_features = {
        name: np.concatenate([onwards.pop(name), backwards.pop(name)], axis=1)
        for name in ("global_input", "party_input", "query")
    }
    return {
        "states": {**of_features, **stacked([onwards, backwards])},
        "attention": {"query": weights.dense("matchatt.transform")},
        "hidden": weights.dense("linear"),
        "classifier": weights.dense("smax_fc"),
    }


RELEASED = {"DialogueRNN": Released(released_options, released_params)}
