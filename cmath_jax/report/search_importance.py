"""Finds out which hyper-parameters mattered in a search: shares of variance, by functional ANOVA."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cmath_jax.report.search import Dimension, ModelSearch, Option

FEWEST_TRIALS = 4
ALIKE = "the options do not tell the trials apart"


@dataclass(frozen=True)
class Importance:
    """The share of each hyper-parameter in the variance of the score, in percent, or why there is none."""

    shares: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


def can_compute() -> bool:
    """Whether Optuna, which the page does without, is installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        return False
    return True


def importance(model: ModelSearch, first_rung: int) -> Importance:
    """Computes the shares of the space of a model from the score at the first rung, which all trials have.

    Failed trials are left out: a score of 0 would drown what sets the others apart.

    Source: Hutter, Hoos and Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014, as
    Optuna computes it.
    """
    scored = [trial for trial in model.trials if trial.state != "failed"]
    scores = [trial.score(first_rung) for trial in scored]
    if len(scored) < FEWEST_TRIALS:
        return Importance(reason=f"fewer than {FEWEST_TRIALS} trials have a score")
    if len(set(scores)) == 1:
        return Importance(reason="all trials have the same score")
    if len({tuple(trial.options[dimension.name] for dimension in model.space) for trial in scored}) == 1:
        return Importance(reason=ALIKE)  # or else rounding would decide
    import optuna

    distributions = {dimension.name: _distribution(dimension) for dimension in model.space}
    with _silent():
        study = optuna.create_study(direction="maximize")
        for trial, score in zip(scored, scores, strict=True):
            params = {dimension.name: _inside(dimension, trial.options[dimension.name]) for dimension in model.space}
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        try:
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        except RuntimeError:  # no tree of the forest found a difference between the trials
            return Importance(reason=ALIKE)
    return Importance({dimension.name: 100 * float(shares.get(dimension.name, 0.0)) for dimension in model.space})


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps Optuna from writing to the terminal for a while."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if dimension.scale == "choice":
        return CategoricalDistribution(dimension.values)
    return FloatDistribution(*dimension.bounds, log=dimension.scale == "log")


def _inside(dimension: Dimension, value: Any) -> Option:
    """Returns the value, without what rounding has taken it out of its bounds by."""
    if dimension.scale == "choice":
        return value
    low, high = dimension.bounds
    return min(max(float(value), low), high)
