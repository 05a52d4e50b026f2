"""Random numbers with an address: a pure function of an rng key and of coordinates.

A draw belongs to an utterance, and to a place in the model (a block, a head, a position, a feature), not to a place in
the batch: a conversation is dropped out and sampled alike in any row, beside any other, on any number of devices. Each
number is computed where it is needed, from integers alone, and so is never stored and the same on every device.
"""

import math

import jax
import jax.numpy as jnp

GOLDEN = 0x9E3779B9  # odd, and far from any pattern: neighbouring coordinates are far apart after a product with it


def random_bits(rng_key: jax.Array, *coordinates: jax.Array) -> jax.Array:
    """Draws 32 bits for each address: uint32 in the shape that the coordinates broadcast to.

    Coordinates of small shape come first: all but the last steps are then computed for few addresses.
    """
    state, salt = start(rng_key)
    for coordinate in coordinates:
        state = advance(state, salt, coordinate)
    return state


def start(rng_key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the bits before the first coordinate, and the salt of every coordinate: uint32, uint32."""
    state, salt = jax.random.bits(rng_key, (2,), jnp.uint32)
    return state, salt


def advance(state: jax.Array, salt: jax.Array, coordinate: jax.Array) -> jax.Array:
    """Returns the bits after one more coordinate: uint32 in the shape that state and coordinate broadcast to."""
    return _scramble(state + coordinate.astype(jnp.uint32) * jnp.uint32(GOLDEN), salt)


def standard_normal(bits: jax.Array) -> jax.Array:
    """Turns 32 random bits each into standard normal float32: the quantile of a number in (-1, 1) that has 23 bits."""
    uniform = ((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-22 - 1.0
    normal: jax.Array = jnp.float32(math.sqrt(2.0)) * jax.lax.erf_inv(uniform)
    return normal


def standard_logistic(bits: jax.Array) -> jax.Array:
    """Turns 32 random bits each into a standard logistic float32, which the difference of two Gumbel numbers is too."""
    uniform = ((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-23
    return jnp.log(uniform) - jnp.log1p(-uniform)


def _scramble(x: jax.Array, salt: jax.Array) -> jax.Array:
    # The integer hash "lowbias32" (C. Wellons, hash-prospector), keyed in its middle: any input bit changes each output
    # bit with a probability of almost exactly 1/2.
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15) ^ salt) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
