"""The optimizer against a plain Adam, and the schedule step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cmath_jax.config import OptimConfig
from cmath_jax.training.optim import make_optimizer, newest_share, schedule


def ten_an_epoch(epoch: float) -> int:
    return round(10 * epoch)


def rates(steps: int, **options: float | str) -> np.ndarray:
    share = schedule(OptimConfig(**options), ten_an_epoch, epochs=4)  # type: ignore[arg-type]
    return np.array([0.1 * share(step) for step in range(steps)])


def test_schedules() -> None:
    np.testing.assert_allclose(rates(40), 0.1)
    linear = rates(41, schedule="linear")
    np.testing.assert_allclose(linear, 0.1 * (1 - np.arange(41) / 40), atol=1e-7)
    cosine = rates(41, schedule="cosine")
    np.testing.assert_allclose(cosine, 0.05 * (1 + np.cos(np.pi * np.arange(41) / 40)), atol=1e-7)
    warm = rates(41, schedule="cosine", warmup_epochs=0.5)
    np.testing.assert_allclose(warm[:6], [0.02, 0.036, 0.052, 0.068, 0.084, 0.1], rtol=1e-5)
    assert warm[40] == pytest.approx(0, abs=1e-7)
    assert (np.diff(warm[5:]) < 0).all()


def test_adam_with_coupled_decay_and_clipping() -> None:
    """Clip, then add L2, then Adam's moments: by hand, for three steps."""
    config = OptimConfig(weight_decay=0.3, clip_norm=1.0)
    tx = make_optimizer(config, ten_an_epoch, epochs=4)
    x = np.array([1.0, -2.0])
    params = jnp.asarray(x, jnp.float32)
    state = tx.init(params)
    first, second = np.zeros(2), np.zeros(2)
    for step in range(1, 4):
        gradient = np.array([3.0, 4.0]) * step
        updates, state = tx.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, 0.1 * updates)
        clipped = gradient / np.linalg.norm(gradient) + 0.3 * x
        first, second = 0.9 * first + 0.1 * clipped, 0.999 * second + 0.001 * clipped**2
        x = x - 0.1 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(params, x, rtol=1e-4)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_decoupled_decay_and_the_largest_moment(amsgrad: bool) -> None:
    """AdamW and AMSGrad by hand: the decay is no part of the moments, and a large gradient is not forgotten."""
    tx = make_optimizer(OptimConfig(weight_decay=0.3, decoupled=True, amsgrad=amsgrad), ten_an_epoch, epochs=4)
    x = np.array([1.0, -2.0])
    params = jnp.asarray(x, jnp.float32)
    state = tx.init(params)
    first, second, largest = np.zeros(2), np.zeros(2), np.zeros(2)
    for step, size in enumerate((100.0, 0.1, 0.1), start=1):
        gradient = np.array([3.0, 4.0]) * size
        updates, state = tx.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = optax.apply_updates(params, 0.1 * updates)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        unbiased = second / (1 - 0.999**step)
        largest = np.maximum(largest, unbiased) if amsgrad else unbiased
        x = x - 0.1 * (first / (1 - 0.9**step) / (np.sqrt(largest) + 1e-8) + 0.3 * x)
        np.testing.assert_allclose(params, x, rtol=1e-4)


def test_a_small_gradient_is_not_clipped() -> None:
    config = OptimConfig(clip_norm=10.0)
    params = jnp.ones(2)
    clipped, plain = (make_optimizer(each, ten_an_epoch, 1) for each in (config, OptimConfig()))
    gradient = jnp.array([3.0, 4.0])
    for tx in (clipped, plain):
        assert len(jax.tree.leaves(tx.init(params))) == 4  # two moments, two counts
    np.testing.assert_array_equal(
        clipped.update(gradient, clipped.init(params), params)[0], plain.update(gradient, plain.init(params), params)[0]
    )


def averages(decay: float, values: np.ndarray) -> list[float]:
    """The average after each of the values."""
    found, average = [], 100.0  # of what was there before the first one nothing is kept
    for count, value in enumerate(values, start=1):
        share = float(newest_share(decay, jnp.int32(count)))
        average = (1 - share) * average + share * value
        found.append(average)
    return found


@pytest.mark.parametrize("decay", [1e-3, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 - 1e-6])
def test_the_weights_of_the_average(decay: float) -> None:
    """decay^i of i steps before, divided by their sum, at any step."""
    values = np.random.default_rng(0).normal(size=3000)
    found = averages(decay, values)
    for count in (1, 2, 3, 10, 100, 3000):
        weights = decay ** np.arange(count)[::-1].astype(np.float64)
        assert found[count - 1] == pytest.approx(weights @ values[:count] / weights.sum(), abs=2e-5)


@pytest.mark.parametrize("steps", [2, 10, 260, 2080])
def test_every_value_of_the_average_means_something(steps: int) -> None:
    """However few the steps are, a larger value reaches farther back."""
    decays = (0.1, 0.5, 0.9, 0.99, 0.995, 0.999, 0.9999)
    ages = np.arange(steps, 0, -1.0)
    mean_ages = [averages(decay, ages)[-1] for decay in decays]
    assert (np.diff(mean_ages) > 0).all() and mean_ages[-1] < (steps + 1) / 2
