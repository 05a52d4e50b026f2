"""The recurrence of DialogueRNN over all utterances, in both directions at once, with a gradient of its own.

Shapes: g the directions, onwards and backwards; r rows, l slots of a row in the order of each direction, k those of its
history; v speakers, d width, x gates side by side.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.data.batches import Batch
from cmath_jax.models.attention import MASKED
from cmath_jax.models.layers import accurate
from cmath_jax.models.recurrent import begins, flipped, gru

Arrays = dict[str, jax.Array]
Carry = tuple[jax.Array, jax.Array, Arrays]  # the history, the states of all speakers, the other states


@flax.struct.dataclass
class Places:
    """The place of every slot, or of one, without the axis of slots.

    Attributes:
      begins: bool [l, g, r], whether a conversation begins here.
      speaks: bool [l, g, r, v, 1], who speaks.
      seen: bool [l, g, r, k], what was said before it in its conversation, in this direction.
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
        slot_l = jnp.arange(segment_lgr.shape[0])
        before_lk = slot_l[:, None] > slot_l[None]
        same_lgrk = segment_lgr[..., None] == jnp.moveaxis(segment_lgr, 0, -1)[None]
        return cls(
            begins=begins(batch.segment_rl, directions),
            speaks=jax.nn.one_hot(in_order(batch.speaker_rl), speakers, dtype=bool)[..., None],
            seen=same_lgrk & before_lk[:, None, None],
        )


def advance(
    weights: Arrays, history_grkd: jax.Array, before: Arrays, now: Arrays, seen_grk: jax.Array, known: Arrays | None
) -> tuple[Arrays, Arrays, Arrays]:
    """Takes in one utterance: returns the three states after it, and factor and result of each product with a kernel.

    Args:
      weights: kernel [g, d, x] and bias [g, x] of what the cell of each state hears, and of itself.
      history_grkd: the global states after each slot.
      before: the states before it, [g, r, d]; the party is who speaks.
      now: what comes from its features: W u of `global` and `party`, [g, r, x], and `query`, [g, r, d]; if states are
        dropped out, what they are multiplied by, `keep_global`, `keep_party`, `keep_emotion`.
      seen_grk: which slots of the history it attends to.
      known: the results of the products, if they are; they only pass gradients on.
    """
    factors, results = {}, {}

    def linear(name: str, x_grd: jax.Array, more_grx: jax.Array | None = None) -> jax.Array:
        if known is None:
            y_grx = jnp.matmul(x_grd, weights[name]) + weights[f"{name}_bias"][:, None]
            results[name] = y_grx if more_grx is None else y_grx + more_grx
        else:
            results[name] = known_product(x_grd, weights[name], known[name])
        factors[name] = x_grd
        return results[name]

    def cell(name: str, heard_grd: jax.Array) -> jax.Array:
        heard_grx = linear(f"{name}_heard", heard_grd, now.get(name))
        (after_grd,) = gru(heard_grx, linear(f"{name}_state", before[name]), (before[name],))
        return after_grd * now[f"keep_{name}"] if f"keep_{name}" in now else after_grd

    score_grk = accurate(jnp.einsum("grkd,grd->grk", history_grkd, now["query"]))
    # The first one sees nothing, and hears 0.
    weight_grk = nn.softmax(jnp.where(seen_grk, score_grk, MASKED)) * seen_grk
    context_grd = jnp.einsum("grk,grkd->grd", weight_grk.astype(history_grkd.dtype), history_grkd)
    party_grd = cell("party", context_grd)
    after = {"global": cell("global", before["party"]), "party": party_grd, "emotion": cell("emotion", party_grd)}
    return after, factors, results


@jax.custom_vjp
def known_product(x_grd: jax.Array, kernel_gdx: jax.Array, y_grx: jax.Array) -> jax.Array:
    """Returns y, which is x W and more. The gradient goes to x, and to y, but not to W."""
    del x_grd, kernel_gdx
    return y_grx


known_product.defvjp(
    lambda x_grd, kernel_gdx, y_grx: (y_grx, kernel_gdx),
    lambda kernel_gdx, g_grx: (jnp.einsum("grx,gdx->grd", g_grx, kernel_gdx), None, g_grx),
)


@jax.custom_vjp
def emotions(weights: Arrays, inputs: Arrays, places: Places) -> jax.Array:
    """Returns the emotion state after every slot, [l, g, r, d]; `inputs` are those of `advance`, for all slots.

    The gradient of a scan would keep the history as it was at every slot, compute all products again or keep what they
    make, and add to the gradients of all kernels at each. This one keeps the last history, and what products make;
    those of kernels are computed for all slots at once.
    """
    return _states(weights, inputs, places)[0]


def _states(weights: Arrays, inputs: Arrays, places: Places) -> tuple[jax.Array, jax.Array, tuple[Arrays, ...]]:
    """Computes the emotion after every slot, the last history; and of every slot the states before it, and products."""
    slots, directions, rows, speakers, _ = places.speaks.shape

    def zeros(name: str, *shape: int) -> jax.Array:
        kernel_gdx = weights[f"{name}_state"]
        return jnp.zeros((directions, rows, *shape, kernel_gdx.shape[1]), kernel_gdx.dtype)

    def forwards(carry: Carry, now: tuple[jax.Array, Arrays, Places]) -> tuple[Carry, tuple[jax.Array, Any]]:
        history_grkd, party_grvd, last = carry
        slot, inputs, place = now
        party_grvd = jnp.where(place.begins[..., None, None], 0, party_grvd)
        before = {name: jnp.where(place.begins[..., None], 0, x_grd) for name, x_grd in last.items()}
        before["party"] = _of_speaker(party_grvd, place)
        after, *products = advance(weights, history_grkd, before, inputs, place.seen, None)
        history_grkd = jax.lax.dynamic_update_index_in_dim(history_grkd, after["global"], slot, 2)
        party_grvd = jnp.where(place.speaks, after["party"][:, :, None], party_grvd)
        last = {name: after[name] for name in last}
        return (history_grkd, party_grvd, last), (after["emotion"], (before, *products))

    last = {name: zeros(name) for name in ("global", "emotion")}
    start = (zeros("global", slots), zeros("party", speakers), last)
    (history_grkd, *_), (emotion_lgrd, made) = jax.lax.scan(forwards, start, (jnp.arange(slots), inputs, places))
    return emotion_lgrd, history_grkd, made


def _of_speaker(party_grvd: jax.Array, place: Places) -> jax.Array:
    return jnp.where(place.speaks, party_grvd, 0).sum(2)


def _kept(weights: Arrays, inputs: Arrays, places: Places) -> tuple[jax.Array, tuple[Any, ...]]:
    emotion_lgrd, history_grkd, made = _states(weights, inputs, places)
    return emotion_lgrd, (weights, inputs, places, history_grkd, *made)


def _gradients(kept: tuple[Any, ...], g_emotion_lgrd: jax.Array) -> tuple[Arrays, dict[str, jax.Array | None], None]:
    weights, inputs, places, history_grkd, before, factors, results = kept
    slots, _, _, speakers, _ = places.speaks.shape

    def backwards(carry: Carry, now: tuple[Any, ...]) -> tuple[Carry, tuple[jax.Array, Arrays]]:
        g_history_grkd, g_party_grvd, g_last = carry
        slot, g_emotion_grd, before, inputs, results, place = now
        g_after = {
            "global": g_last["global"] + jax.lax.dynamic_index_in_dim(g_history_grkd, slot, 2, keepdims=False),
            "party": _of_speaker(g_party_grvd, place),
            "emotion": g_last["emotion"] + g_emotion_grd,
        }
        g_after = {name: x_grd.astype(g_emotion_grd.dtype) for name, x_grd in g_after.items()}

        def again(history_grkd: jax.Array, before: Arrays, query_grd: jax.Array, known: Arrays) -> Arrays:
            return advance(weights, history_grkd, before, {**inputs, "query": query_grd}, place.seen, known)[0]

        # The history holds later slots too, which this one does not see.
        _, pull = jax.vjp(again, history_grkd, before, inputs["query"], results)
        more_grkd, g_before, g_query_grd, g_results = pull(g_after)
        g_party_grvd = jnp.where(place.speaks, g_before.pop("party")[:, :, None], g_party_grvd)
        g_party_grvd = jnp.where(place.begins[..., None, None], 0, g_party_grvd)
        g_last = {name: jnp.where(place.begins[..., None], 0, x_grd) for name, x_grd in g_before.items()}
        return (g_history_grkd + more_grkd, g_party_grvd, g_last), (g_query_grd, g_results)

    g_last = {name: jnp.zeros_like(before[name][0]) for name in ("global", "emotion")}
    g_party_grvd = jnp.stack([jnp.zeros_like(before["party"][0])] * speakers, axis=2)
    start = (jnp.zeros_like(accurate(history_grkd)), g_party_grvd, g_last)
    at_slots = (jnp.arange(slots), g_emotion_lgrd, before, inputs, results, places)
    _, (g_query_lgrd, g_results) = jax.lax.scan(backwards, start, at_slots, reverse=True)
    # What comes from features was added to results; dropout has no gradient.
    of_features = {name: g_results[f"{name}_heard"] for name in ("global", "party")}
    g_inputs = dict.fromkeys(inputs) | of_features | {"query": g_query_lgrd}
    g_kernels = {name: jnp.einsum("lgrd,lgrx->gdx", factors[name], g_lgrx) for name, g_lgrx in g_results.items()}
    g_biases = {f"{name}_bias": g_lgrx.sum((0, 2)) for name, g_lgrx in g_results.items()}
    return g_kernels | g_biases, g_inputs, None


emotions.defvjp(_kept, _gradients)
