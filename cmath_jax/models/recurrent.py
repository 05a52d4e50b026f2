"""Recurrent layers over the utterances of each conversation of a row: they begin anew where another one begins.

The cells are those of PyTorch, with its two biases, so that the models of others can be compared to the last digit.
What comes from the input is computed for all slots in one product, before the loop over them.

Shapes: g the directions; r rows, l slots of a row, d the width of the input, w the width of a state; x the gates, side
by side.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from cmath_jax.models.layers import Context, Dropout, uniform_by

State = tuple[jax.Array, ...]  # [..., w]: h of a GRU; h and c of an LSTM


def gru(from_input: jax.Array, from_state: jax.Array, state: State) -> State:
    """Takes a step of a GRU (Cho et al. 2014): gates r, z and the candidate n, in this order.

    Args:
      from_input: W x + b, [..., 3 w].
      from_state: U h + c, [..., 3 w].
    """
    input_r, input_z, input_n = jnp.split(from_input, 3, axis=-1)
    state_r, state_z, state_n = jnp.split(from_state, 3, axis=-1)
    r, z = nn.sigmoid(input_r + state_r), nn.sigmoid(input_z + state_z)
    n = jnp.tanh(input_n + r * state_n)
    return (n + z * (state[0] - n),)


def lstm(from_input: jax.Array, from_state: jax.Array, state: State) -> State:
    """Takes a step of an LSTM (Hochreiter and Schmidhuber 1997): gates i, f, candidate g, gate o, in this order.

    Args:
      from_input: W x + b, [..., 4 w].
      from_state: U h + c, [..., 4 w].
    """
    i, f, g, o = jnp.split(from_input + from_state, 4, axis=-1)
    c = nn.sigmoid(f) * state[1] + nn.sigmoid(i) * jnp.tanh(g)
    return nn.sigmoid(o) * jnp.tanh(c), c


CELLS: dict[str, tuple[Callable[[jax.Array, jax.Array, State], State], int, int]] = {
    "gru": (gru, 3, 1),
    "lstm": (lstm, 4, 2),
}  # the step, how many gates it has, and how many arrays its state


class Recurrent(nn.Module):
    """Layers of GRUs or LSTMs, each in one direction or both: [r, l, d] -> [r, l, directions * width].

    Dropout is between the layers. Parameters of a layer: `kernel_input` [d, g * x], `kernel_state` [g, w, x],
    `bias_input` and `bias_state` [g, x], from U(-1, 1) / sqrt(width).

    Attributes:
      cell: gru or lstm.
      width: of a state, for each direction.
      layers: how many, one above the other.
      directions: 1 from the first utterance on; 2 from the last one too.
      dtype: of the computation.
    """

    cell: str
    width: int
    layers: int
    directions: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_rld: jax.Array, context: Context) -> jax.Array:
        for layer in range(self.layers):
            x_rld = Dropout()(x_rld, context) if layer else x_rld
            x_rld = RecurrentLayer(self.cell, self.width, self.directions, self.dtype, name=f"layer_{layer}")(
                x_rld, context.segment_rl
            )
        return x_rld


class RecurrentLayer(nn.Module):
    """A layer of a `Recurrent`, with the same attributes. It begins anew where the segment changes."""

    cell: str
    width: int
    directions: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_rld: jax.Array, segment_rl: jax.Array) -> jax.Array:
        step, gates, arrays = CELLS[self.cell]
        rows, slots, width = x_rld.shape
        size, directions = gates * self.width, self.directions

        def parameter(name: str, *shape: int) -> jax.Array:
            return self.param(name, uniform_by(self.width), shape, jnp.float32).astype(self.dtype)

        kernel_input = parameter("kernel_input", width, directions * size)
        kernel_state_gwx = parameter("kernel_state", directions, self.width, size)
        bias_input_gx, bias_state_gx = (parameter(f"bias_{name}", directions, size) for name in ("input", "state"))

        input_nx = x_rld.astype(self.dtype).reshape(rows * slots, width) @ kernel_input
        input_rlgx = input_nx.reshape(rows, slots, directions, size) + bias_input_gx[None, None]
        input_lgrx = input_rlgx.transpose(1, 2, 0, 3)
        begins_lgr = begins(segment_rl, directions)

        def advance(state: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
            input_grx, begins_gr = now
            state = tuple(jnp.where(begins_gr[..., None], jnp.zeros((), self.dtype), x_grw) for x_grw in state)
            state_grx = jnp.matmul(state[0], kernel_state_gwx) + bias_state_gx[:, None]
            state = step(input_grx, state_grx, state)
            return state, state[0]

        start = (jnp.zeros((directions, rows, self.width), self.dtype),) * arrays
        _, h_lgrw = jax.lax.scan(advance, start, (flipped(input_lgrx), begins_lgr))
        return flipped(h_lgrw).transpose(2, 0, 1, 3).reshape(rows, slots, directions * self.width)


def flipped(x_lgr: jax.Array) -> jax.Array:
    """Returns [l, g, ...] with the slots of the second direction in reverse, which is where that one starts."""
    return jnp.stack([x_lgr[:, 0], *(x_lgr[::-1, g] for g in range(1, x_lgr.shape[1]))], axis=1)


def begins(segment_rl: jax.Array, directions: int) -> jax.Array:
    """Returns bool [l, g, r]: whether another conversation begins here, on the way of each direction."""
    changes_rl, edge_rl = segment_rl[:, :-1] != segment_rl[:, 1:], jnp.ones_like(segment_rl[:, :1], bool)
    first_rl = jnp.concatenate([edge_rl, changes_rl], axis=1)
    last_rl = jnp.concatenate([changes_rl, edge_rl], axis=1)
    return jnp.stack([first_rl.T, last_rl.T[::-1]][:directions], axis=1)
