"""The context of each speaker: recurrent layers over the utterances of one speaker of a conversation alone.

Shapes: m modalities; r rows, l slots of a row, v speakers (or 1, where all of them lie in one row), d width.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from cmath_jax.models.layers import Context
from cmath_jax.models.recurrent import Recurrent


def party_context(
    recurrent: Recurrent, x_mrld: jax.Array, speaker_rl: jax.Array, context: Context, speakers: int, padding: bool
) -> jax.Array:
    """Returns what the same layers make of the utterances of each speaker, of each modality, [m, r, l, d].

    Args:
      speakers: how many speaker indices there are.
      padding: whether behind the utterances of a speaker there are as many zeros as the conversation has utterances of
        others, which a second direction reads first: released code has them. It costs as many rows as there are
        speakers.
    """
    segment_rvl, speaker_rvl = context.segment_rl[:, None], speaker_rl[:, None]
    if padding:  # A row for each speaker: in each conversation first the own utterances, then zeros.
        own_rvl = speaker_rvl == jnp.arange(speakers)[None, :, None]
        border_rvl = jnp.broadcast_to(segment_rvl, own_rvl.shape)
        rank_rvl = 2 * segment_rvl + ~own_rvl
    else:  # In each conversation the utterances of one speaker after those of another.
        own_rvl = jnp.ones_like(segment_rvl, bool)
        border_rvl = rank_rvl = segment_rvl * speakers + speaker_rvl
    order_rvl = jnp.argsort(rank_rvl, axis=-1, stable=True)
    back_rvl = jnp.argsort(order_rvl, axis=-1)

    x_mrvld = jnp.where(own_rvl[None, ..., None], x_mrld[:, :, None], jnp.zeros((), x_mrld.dtype))
    modalities, _, parties, slots, width = x_mrvld.shape
    lane_mrvl = jnp.arange(modalities * parties).reshape(modalities, 1, parties, 1)
    utterance_rvl, border_rvl = (
        jnp.take_along_axis(column_rvl, order_rvl, axis=-1)
        for column_rvl in (jnp.broadcast_to(context.utterance_rl[:, None], order_rvl.shape), border_rvl)
    )
    utterance_mrvl = utterance_rvl[None] * (modalities * parties) + lane_mrvl
    sorted_context = replace(
        context,
        utterance_rl=utterance_mrvl.reshape(-1, slots),
        segment_rl=jnp.broadcast_to(border_rvl[None], utterance_mrvl.shape).reshape(-1, slots),
    )
    h_rld = recurrent(_ordered(x_mrvld, order_rvl, back_rvl).reshape(-1, slots, width), sorted_context)
    h_mrvld = _ordered(h_rld.reshape(*x_mrvld.shape[:-1], h_rld.shape[-1]), back_rvl, order_rvl)
    return jnp.where(own_rvl[None, ..., None], h_mrvld, jnp.zeros((), h_mrvld.dtype)).sum(2)


@jax.custom_vjp
def _ordered(x_mrvld: jax.Array, order_rvl: jax.Array, back_rvl: jax.Array) -> jax.Array:
    """Moves the slots into this order, whose way back is known, so that its gradient looks up too and adds nothing."""
    del back_rvl
    return jnp.take_along_axis(x_mrvld, order_rvl[None, ..., None], axis=3)


_ordered.defvjp(
    lambda x_mrvld, order_rvl, back_rvl: (_ordered(x_mrvld, order_rvl, back_rvl), (order_rvl, back_rvl)),
    lambda orders, g_mrvld: (_ordered(g_mrvld, orders[1], orders[0]), None, None),
)
