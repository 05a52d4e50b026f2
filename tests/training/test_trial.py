"""One seed in training: when it stops, and what it counts."""

import math
from types import SimpleNamespace
from typing import Any

from samples import tiny

from cmath_jax.config import Config
from cmath_jax.training.trial import Trial


def trial(config: Config, *scores: float, folder: Any = None) -> Trial:
    history = [{"validation": {"weighted_f1": score}} for score in scores]
    return Trial(config, 0, folder, {}, history, {}, done=0, saved=0)


def test_early_stopping_and_the_first_of_equals() -> None:
    config = tiny(train__epochs=9, train__patience=2)
    assert trial(config).active
    assert trial(config, 1, 3, 3).active
    assert not trial(config, 1, 3, 3, 2).active
    assert not trial(config, *range(9)).active
    assert trial(tiny(train__epochs=9, train__patience=0), 5, 1, 1, 1, 1).active


def test_steps_are_summed_until_one_is_not_finite() -> None:
    at_work = trial(tiny())
    assert at_work.take({"loss": 1.0, "gradient_norm": 2.0}, lambda: [])
    assert at_work.take({"loss": 3.0, "gradient_norm": 4.0}, lambda: [])
    assert (at_work.done, at_work.sums) == (2, {"loss": 4.0, "gradient_norm": 6.0})
    assert not at_work.take({"loss": 1.0, "gradient_norm": math.inf}, lambda: ["dia7", "dia9"])
    assert "step 3" in str(at_work.failure) and "conversations dia7, dia9." in str(at_work.failure)
    assert not at_work.active
    assert at_work.sums["loss"] == 4.0


def test_nothing_is_saved_twice() -> None:
    """A request to terminate may come before the first step after a checkpoint."""
    saved: list[int] = []
    at_work = trial(tiny())
    at_work.checkpoints = SimpleNamespace(save=lambda step, *others: saved.append(step))  # type: ignore[assignment]
    at_work.save({})
    at_work.done = 3
    at_work.save({})
    at_work.save({})
    assert saved == [3]
