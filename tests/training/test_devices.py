"""Where arrays lie, and what comes back of them."""

from typing import Any

import chex
import jax
import numpy as np
import pytest
from samples import tiny

from cmath_jax.errors import InputError
from cmath_jax.training.devices import BATCH, TRIAL, TRIAL_BATCH, TRIAL_STEPS, PmapDevices, make_devices


def test_too_many_devices_are_refused() -> None:
    with pytest.raises(InputError, match="but there are 8"):
        make_devices(tiny(parallel__devices=9).parallel, 3)


@pytest.mark.parametrize(
    ("devices", "batch", "trials", "mesh"),
    [
        (0, 16, 1, (1, 8)),
        (0, 3, 1, (1, 3)),  # a fourth would have nothing but padding
        (5, 3, 1, (1, 5)),  # as it was told
        (1, 16, 1, (1, 1)),
        (1, 16, 5, (1, 1)),
        (0, 16, 8, (8, 1)),
        (0, 16, 5, (5, 1)),
        (0, 16, 20, (8, 1)),
        (0, 16, 3, (3, 2)),
        (0, 16, 2, (2, 4)),
        (0, 3, 2, (2, 3)),
        (4, 16, 3, (3, 1)),
    ],
)
def test_trials_and_rows_are_dealt_out(devices: int, batch: int, trials: int, mesh: tuple[int, int]) -> None:
    made = make_devices(tiny(parallel__devices=devices).parallel, batch, trials)
    assert made.mesh.devices.shape == mesh
    assert made.places >= trials > made.places - mesh[0]


def test_pmap_is_for_one_trial() -> None:
    assert isinstance(make_devices(tiny(parallel__engine="pmap").parallel, 16), PmapDevices)
    assert not isinstance(make_devices(tiny(parallel__engine="pmap").parallel, 16, 2), PmapDevices)
    assert not isinstance(make_devices(tiny().parallel, 16), PmapDevices)


@pytest.mark.parametrize(("devices", "trials"), [(1, 1), (1, 3), (3, 3), (4, 2), (8, 5)])
def test_what_is_put_comes_back(devices: int, trials: int) -> None:
    """Of states and of what an evaluation gives; and a function sees one trial, with its share of the rows."""
    made = make_devices(tiny(parallel__devices=devices).parallel, 4, trials)
    trees = [{"x": np.full((2, 3), t, np.float32), "n": np.int32(t)} for t in range(trials)]
    back = made.get_trials(made.put_trials(trees))
    chex.assert_trees_all_equal(back, trees)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(back))

    if 8 % made.rows:
        return

    def double(tree: Any, x_rl: jax.Array) -> jax.Array:
        assert tree["x"].shape == (2, 3)
        assert x_rl.shape == (8 // made.rows, 5)
        return tree["n"] * x_rl

    x_rl = np.arange(40, dtype=np.int32).reshape(8, 5)
    compiled = made.compile(double, (TRIAL, BATCH), TRIAL_BATCH)
    found = compiled._function(made.put_trials(trees), made.put(x_rl, BATCH))
    np.testing.assert_array_equal(made.get(found, TRIAL_BATCH), [t * x_rl for t in range(trials)])


def test_pmap_puts_and_gets_the_same() -> None:
    made = make_devices(tiny(parallel__engine="pmap", parallel__devices=4).parallel, 4)
    tree = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int32(5)}
    chex.assert_trees_all_equal(made.get_trials(made.put_trials([tree])), [tree])
    plan_tsrl = np.arange(48, dtype=np.int32).reshape(1, 3, 8, 2)
    np.testing.assert_array_equal(made.get(made.put(plan_tsrl, TRIAL_STEPS), TRIAL_STEPS), plan_tsrl)
