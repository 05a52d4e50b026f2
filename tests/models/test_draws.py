"""Draws are a function of their address alone, and as good as random."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from cmath_jax.models.draws import random_bits, standard_logistic, standard_normal

UTTERANCES, FEATURES = 2000, 400


def draw(key: int, first: int = 0) -> np.ndarray:
    utterance = jnp.arange(first, first + UTTERANCES)[:, None]
    return np.asarray(random_bits(jax.random.key(key), utterance, jnp.arange(FEATURES)[None, :]))


def test_a_draw_depends_on_its_address_alone() -> None:
    np.testing.assert_array_equal(draw(0)[1000:], draw(0, first=1000)[:1000])
    one = random_bits(jax.random.key(0), jnp.array(1234), jnp.array(56))
    assert int(one) == int(draw(0)[1234, 56])
    assert np.mean(draw(0) == draw(1)) < 1e-4


def test_every_bit_is_fair_and_tells_nothing_of_its_neighbours() -> None:
    """Within 5 standard deviations: of each bit, between neighbours along both axes, between places (keys)."""
    bits, other = draw(0), draw(1)
    deviation = 0.5 / math.sqrt(bits.size)
    for bit in range(32):
        one, two = ((x >> bit & 1).astype(bool) for x in (bits, other))
        assert abs(one.mean() - 0.5) < 5 * deviation
        for left, right in ((one[1:], one[:-1]), (one[:, 1:], one[:, :-1]), (one, two)):
            assert abs((left ^ right).mean() - 0.5) < 5.1 * deviation
    # Rows and columns as wholes: sums of uniform numbers.
    uniform = bits / 2.0**32
    for axis, terms in ((0, UTTERANCES), (1, FEATURES)):
        score = (uniform.mean(axis) - 0.5) * math.sqrt(12 * terms)
        assert abs(score.std() - 1) < 0.15
        assert np.abs(score).max() < 5


def test_neighbouring_masks_are_independent() -> None:
    """Of dropout at 0.5: any two utterances agree in half of their features, give or take what chance allows."""
    kept = np.where(draw(3)[:300] >= 2**31, 1.0, -1.0)
    agreement = kept @ kept.T / math.sqrt(FEATURES)
    others = agreement[~np.eye(len(kept), dtype=bool)]
    assert abs(others.std() - 1) < 0.02
    assert np.abs(others).max() < 6


def test_normal_numbers() -> None:
    """Moments of N(0, 1), quantiles, and no infinity at either end."""
    eps = np.asarray(standard_normal(jnp.asarray(draw(2))))
    moments = [(eps**power).mean() for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.03)
    for quantile, share in ((-1.0, 0.158655), (0.5, 0.691462), (2.0, 0.977250)):
        assert abs((eps < quantile).mean() - share) < 0.003
    ends = np.asarray(standard_normal(jnp.array([0, 2**32 - 1], jnp.uint32)))
    assert np.isfinite(ends).all()
    np.testing.assert_allclose(ends[0], -ends[1], rtol=1e-5)
    assert ends[1] > 5


def test_logistic_numbers() -> None:
    """Mean and variance, quantiles, and no infinity at either end."""
    noise = np.asarray(standard_logistic(jnp.asarray(draw(2))))
    np.testing.assert_allclose([noise.mean(), noise.var()], [0, math.pi**2 / 3], atol=0.03)
    for quantile in (-2.0, 0.5, 3.0):
        assert abs((noise < quantile).mean() - 1 / (1 + math.exp(-quantile))) < 0.003
    ends = np.asarray(standard_logistic(jnp.array([0, 2**32 - 1], jnp.uint32)))
    assert np.isfinite(ends).all()
    np.testing.assert_allclose(ends[0], -ends[1], rtol=1e-6)
