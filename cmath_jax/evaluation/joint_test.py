"""Tests whether one model is better than another, over seeds and conversations together.

Scores and their differences are in percent.

Shapes: n utterances, b conversations, t trials (seeds), c classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from cmath_jax.evaluation.statistics import DECIMALS, SCORES, Comparison, Interval, Utterances

NOTHING = 10.0 ** (-2 * DECIMALS)  # a variance below this is rounding
SMALLEST_P = 1e-30  # a smaller one is given as this


def compare_models(
    utterances: Utterances,
    a_tn: np.ndarray,
    b_tn: np.ndarray,
    score: str = "weighted_f1",
    level: float = 0.95,
    fixed: str = "",
) -> Comparison:
    """Compares two models over seeds and conversations together: the mean score over seeds of a minus that of b.

    Both are resampled. What the conversations add to the variance of the difference is its jackknife variance: each
    conversation is left out in turn, for all seeds of both models. What the seeds add is the sample variance of each
    model's scores over their number, with Welch's degrees of freedom; where the numbers differ, the pooled variance if
    that is larger. Both parts hold the interaction, seeds that err on different conversations, and so its mean square
    is taken out of the first, but never more than the second: their sum is at least the jackknife's variance. The
    half-width of the interval is that of Banerjee,

        sqrt(t_seeds^2 * V_seeds + t_conversations^2 * V_conversations),

    with a quantile of Student's t for each part, and the p-value is the level at which it ends at zero. A common t with
    Satterthwaite's degrees of freedom would reject in 8 % at 5 % with three seeds, when those of one model differ more.
    No random number is drawn.

    The seeds are not paired: that runs of two models have the number of their seed in common makes them no more alike
    than two runs of one model, once the shapes or the order of the parameters differ. Where they are alike all the same
    the test is careful, not bold. The numbers of seeds may differ.

    On equal recipes `benchmarks/joint_test.py` finds at most 6 % of rejections at 5 %, for 3 to 10 seeds, 30 to 280
    conversations, and seeds that deviate by up to 2 points.

    With a single conversation, or a single seed of a model that could have had others, the noise cannot be known: no
    interval and no p-value.

    Args:
      a_tn: int [t, n], predictions of the one.
      b_tn: int [t, n], those of the other; t may differ.
      score: one of `SCORES`.
      fixed: "a", "b" or "ab": which of the models has no seeds, as a linear model has none. Such a model has one row.

    Raises:
      InputError: as `Utterances.confusions`.

    Sources: Banerjee, On confidence interval for two-means problem based on separate estimates of variances and
    tabulated values of t-table, Sankhya A 23, 1961. Welch, The generalization of Student's problem when several
    different population variances are involved, Biometrika 34, 1947. Owen, The pigeonhole bootstrap, Annals of Applied
    Statistics 1, 2007, on two crossed factors. Cameron, Gelbach and Miller, Robust inference with multiway clustering,
    Journal of Business and Economic Statistics 29, 2011, on what both factors hold.
    """
    a, b = (_variation(utterances.confusions(x_tn), score, name in fixed) for name, x_tn in (("a", a_tn), ("b", b_tn)))
    observed = round(a.mean - b.mean, DECIMALS)
    conversations = len(a.influence_b)
    if conversations < 2 or 1 in (a.seeds, b.seeds):
        return Comparison(observed, None, None)
    seeds = _seed_part(a, b)
    jackknife = float(np.var(a.influence_b - b.influence_b, ddof=1)) / conversations
    shared = min(a.interaction + b.interaction, seeds.variance)
    parts = [seeds, _Variance(max(0.0, jackknife - shared), conversations - 1)]
    return Comparison(observed, *_interval_and_p(observed, [p for p in parts if p.variance > NOTHING], level))


@dataclass(frozen=True)
class _Variance:
    """A part of the variance of a difference, and its degrees of freedom."""

    variance: float
    freedom: float


def _interval_and_p(observed: float, parts: Sequence[_Variance], level: float) -> tuple[Interval, float]:
    """Returns the interval and the two-sided p-value of a difference whose variance has these parts, by Banerjee."""

    def half_width(p: float) -> float:
        return math.sqrt(sum(float(stats.t.isf(p / 2, part.freedom)) ** 2 * part.variance for part in parts))

    reach = half_width(1 - level)
    interval = Interval(observed - reach, observed + reach)
    if not parts or observed == 0:
        return interval, float(observed == 0)
    if half_width(SMALLEST_P) <= abs(observed):
        return interval, SMALLEST_P
    log_p = optimize.brentq(lambda x: half_width(math.exp(x)) - abs(observed), math.log(SMALLEST_P), 0.0)
    return interval, math.exp(log_p)


def _seed_part(a: "_Variation", b: "_Variation") -> _Variance:
    """Returns what the seeds of both models add to the variance of the difference of their means."""
    drawn = [model for model in (a, b) if model.seeds]
    each = [model.variance / model.seeds for model in drawn]
    total = sum(each)
    if total <= NOTHING:
        return _Variance(0.0, 1.0)
    freedom = total**2 / sum(part**2 / (model.seeds - 1) for part, model in zip(each, drawn, strict=True))
    if len(drawn) == 2 and a.seeds != b.seeds:
        pooled = sum(model.variance * (model.seeds - 1) for model in drawn) / (a.seeds + b.seeds - 2)
        total = max(total, pooled / a.seeds + pooled / b.seeds)
    return _Variance(total, freedom)


@dataclass(frozen=True)
class _Variation:
    """The ways in which the mean score of a model over its seeds could have come out otherwise.

    Attributes:
      influence_b: float64 [b]: b - 1 times what the mean score loses when a conversation is left out.
      seeds: how many there are; 0 for a model that has none.
      variance: of the scores of single seeds.
      interaction: the variance of the mean score that is due to seeds that err on different conversations.
    """

    mean: float
    influence_b: np.ndarray
    seeds: int
    variance: float = 0.0
    interaction: float = 0.0


def _variation(count_btcc: np.ndarray, score: str, fixed: bool) -> _Variation:
    total_tcc = count_btcc.sum(0)
    score_t = SCORES[score](total_tcc)
    conversations, seeds = len(count_btcc), len(score_t)
    mean = float(score_t.mean())
    if conversations < 2:
        return _Variation(mean, np.zeros(conversations), 0 if fixed else seeds)
    influence_bt = (conversations - 1) * (score_t - SCORES[score](total_tcc - count_btcc))
    influence_b = influence_bt.mean(1)
    if fixed or seeds < 2:
        return _Variation(mean, influence_b, 0 if fixed else seeds)
    apart_bt = influence_bt - influence_bt.mean(0) - influence_b[:, np.newaxis] + influence_b.mean()
    square = float((apart_bt**2).sum()) / ((seeds - 1) * (conversations - 1))
    return _Variation(mean, influence_b, seeds, float(score_t.var(ddof=1)), square / (seeds * conversations))
