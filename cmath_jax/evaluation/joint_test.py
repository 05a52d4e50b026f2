"""Whether one model is better than another: a test over seeds and conversations together.

Scores and their differences are in percent. k is a conversation, s a seed.
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
    a_sn: np.ndarray,
    b_sn: np.ndarray,
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
      a_sn, b_sn: int [S, N], predictions; S may differ.
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
    a, b = (_spread(utterances.confusions(x_sn), score, name in fixed) for name, x_sn in (("a", a_sn), ("b", b_sn)))
    observed = round(a.mean - b.mean, DECIMALS)
    conversations = len(a.influence_k)
    if conversations < 2 or 1 in (a.seeds, b.seeds):
        return Comparison(observed, None, None)
    seeds = _seed_part(a, b)
    jackknife = float(np.var(a.influence_k - b.influence_k, ddof=1)) / conversations
    shared = min(a.interaction + b.interaction, seeds.variance)
    parts = [seeds, _Part(max(0.0, jackknife - shared), conversations - 1)]
    return Comparison(observed, *_interval_and_p(observed, [p for p in parts if p.variance > NOTHING], level))


@dataclass(frozen=True)
class _Part:
    """A part of the variance of a difference, and its degrees of freedom."""

    variance: float
    freedom: float


def _interval_and_p(observed: float, parts: Sequence[_Part], level: float) -> tuple[Interval, float]:
    """The interval and the two-sided p-value of a difference whose variance has these parts, by Banerjee."""

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


def _seed_part(a: "_Spread", b: "_Spread") -> _Part:
    """What the seeds of both models add to the variance of the difference of their means."""
    drawn = [model for model in (a, b) if model.seeds]
    each = [model.variance / model.seeds for model in drawn]
    total = sum(each)
    if total <= NOTHING:
        return _Part(0.0, 1.0)
    freedom = total**2 / sum(part**2 / (model.seeds - 1) for part, model in zip(each, drawn, strict=True))
    if len(drawn) == 2 and a.seeds != b.seeds:
        pooled = sum(model.variance * (model.seeds - 1) for model in drawn) / (a.seeds + b.seeds - 2)
        total = max(total, pooled / a.seeds + pooled / b.seeds)
    return _Part(total, freedom)


@dataclass(frozen=True)
class _Spread:
    """How the mean score of a model over its seeds could have come out otherwise.

    Attributes:
      influence_k: float64 [K]: K - 1 times what the mean score loses when a conversation is left out.
      seeds: how many there are; 0 for a model that has none.
      variance: of the scores of single seeds.
      interaction: the variance of the mean score that is due to seeds that err on different conversations.
    """

    mean: float
    influence_k: np.ndarray
    seeds: int
    variance: float = 0.0
    interaction: float = 0.0


def _spread(count_kscc: np.ndarray, score: str, fixed: bool) -> _Spread:
    total_scc = count_kscc.sum(0)
    score_s = SCORES[score](total_scc)
    conversations, seeds = len(count_kscc), len(score_s)
    mean = float(score_s.mean())
    if conversations < 2:
        return _Spread(mean, np.zeros(conversations), 0 if fixed else seeds)
    influence_ks = (conversations - 1) * (score_s - SCORES[score](total_scc - count_kscc))
    influence_k = influence_ks.mean(1)
    if fixed or seeds < 2:
        return _Spread(mean, influence_k, 0 if fixed else seeds)
    apart_ks = influence_ks - influence_ks.mean(0) - influence_k[:, np.newaxis] + influence_k.mean()
    square = float((apart_ks**2).sum()) / ((seeds - 1) * (conversations - 1))
    return _Spread(mean, influence_k, seeds, float(score_s.var(ddof=1)), square / (seeds * conversations))
