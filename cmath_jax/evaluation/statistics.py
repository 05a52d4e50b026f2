"""Uncertainty of a score, and tests of whether two models differ: over seeds, and over conversations of a test split.

There are two kinds of chance. `t_interval` and `compare_seeds` ask what other seeds would give on the same test split.
`bootstrap_interval` and `compare_utterances` ask what other conversations would give to the same trained models; they
say nothing of whether another training would come out alike. `compare_models` asks what other seeds on other
conversations would give, and is the test of whether one model is better than another. The utterances of a conversation
are not independent, so a conversation is always drawn, left out or swapped as a whole.

Scores and their differences are in percent.

Shapes: n utterances, b conversations, t trials (seeds), c classes, z draws.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.errors import InputError

DECIMALS = 9  # of a score in percent that mean something; what comes after them is float64 rounding
NOTHING = 10.0 ** (-2 * DECIMALS)  # a variance below this is rounding
SMALLEST_P = 1e-30  # a smaller one is given as this
DRAWS_AT_ONCE = 256  # bounds the memory of many draws of many conversations


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A comparison of model a with model b.

    Attributes:
      difference: the mean of a - b, in points of percent.
      interval: of the difference; None where it cannot be known.
      p_value: two-sided; None where it cannot be known.
    """

    difference: float
    interval: Interval | None
    p_value: float | None


def accuracy(confusion_cc: np.ndarray) -> np.ndarray:
    """Computes the accuracy in percent, [...], of confusion counts [..., c, c], with a label in each of them."""
    return 100 * np.trace(confusion_cc, axis1=-2, axis2=-1) / confusion_cc.sum((-2, -1))


def weighted_f1(confusion_cc: np.ndarray) -> np.ndarray:
    """Computes `metrics.Scores.weighted_f1`, [...], of confusion counts [..., c, c], with a label in each of them."""
    true_c, predicted_c = confusion_cc.sum(-1), confusion_cc.sum(-2)
    f1_c = 100 * 2 * np.diagonal(confusion_cc, axis1=-2, axis2=-1) / np.maximum(true_c + predicted_c, 1)
    return (f1_c * true_c).sum(-1) / true_c.sum(-1)


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"accuracy": accuracy, "weighted_f1": weighted_f1}


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Computes the interval of a mean over seeds by Student's t with n - 1 degrees of freedom; None for one seed."""
    n = len(values)
    if n < 2:
        return None
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(n)
    reach = stats.t.ppf((1 + level) / 2, n - 1) * error
    return Interval(float(mean - reach), float(mean + reach))


def bootstrap_interval(
    label_n: np.ndarray,
    prediction_n: np.ndarray,
    conversation_n: np.ndarray,
    classes: int,
    score: str = "weighted_f1",
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Computes the percentile interval of one run's score by a bootstrap that draws conversations with replacement.

    Unlabelled utterances are left out. A single conversation gives an interval without width.

    Args:
      label_n, prediction_n: int [n], classes; `UNLABELLED` where there is no label.
      conversation_n: int [n], which utterances belong together; any numbers.
      score: one of `SCORES`.

    Raises:
      InputError: without labels, or where not all are of the same utterances.
    """
    count_btcc = _counts(label_n, prediction_n[np.newaxis], conversation_n, classes)
    rng = np.random.default_rng(seed)
    score_z = [SCORES[score](_total(times_zb, count_btcc))[:, 0] for times_zb in _times(len(count_btcc), draws, rng)]
    return _percentiles(np.concatenate(score_z), level)


def compare_seeds(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Comparison:
    """Compares two models' scores with the same seeds, in the same order, by the paired t-test.

    A single seed gives neither interval nor p-value. Where all differences are equal, the interval has no width and
    the p-value is what t comes to in the limit: 1 without a difference, 0 with one.

    Raises:
      InputError: without seeds, or for different numbers of them.
    """
    if len(a) != len(b) or not len(a):
        raise InputError(f"a paired test needs the scores of the same seeds, not of {len(a)} and {len(b)}")
    difference_t = np.round(np.subtract(a, b), DECIMALS)
    mean, n = float(difference_t.mean()), len(difference_t)
    if n < 2:
        return Comparison(mean, None, None)
    if np.ptp(difference_t) == 0:
        p_value = float(mean == 0)
    else:
        t = mean / (difference_t.std(ddof=1) / np.sqrt(n))
        p_value = float(2 * stats.t.sf(abs(t), n - 1))
    return Comparison(mean, t_interval(difference_t.tolist(), level), p_value)


def compare_utterances(
    label_n: np.ndarray,
    a_tn: np.ndarray,
    b_tn: np.ndarray,
    conversation_n: np.ndarray,
    classes: int,
    score: str = "weighted_f1",
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Comparison:
    """Compares two models on the same test utterances: the mean over seeds of the score of a minus that of b.

    The interval is of a bootstrap over conversations, which all seeds of both models share. The p-value is of a
    permutation test, (1 + hits) / (1 + draws): if the models are alike, either of them could have said what was said
    in a conversation. A draw swaps them in each conversation by the toss of a coin, each seed of a with the same seed
    of b. Models with different numbers of seeds are paired in all ways: the mean over all pairs is the same difference,
    and every seed counts. For accuracy this is the sign-flip test of the conversations' differences. It is exact where
    the seeds are as many, and close to it with tens of conversations where they are not.

    Unlabelled utterances are left out. A single conversation says nothing of others: no interval and no p-value.

    Args:
      label_n: int [n], classes; `UNLABELLED` where there is no label.
      a_tn, b_tn: int [t, n], predictions; t may differ.
      conversation_n: int [n], which utterances belong together; any numbers.
      score: one of `SCORES`.

    Raises:
      InputError: without labels, or where not all are of the same utterances.
    """
    a_btcc = _counts(label_n, a_tn, conversation_n, classes)
    b_btcc = _counts(label_n, b_tn, conversation_n, classes)

    def difference(a_tcc: np.ndarray, b_tcc: np.ndarray) -> np.ndarray:
        return SCORES[score](a_tcc).mean(-1) - SCORES[score](b_tcc).mean(-1)

    observed = float(difference(a_btcc.sum(0), b_btcc.sum(0)))
    conversations = len(a_btcc)
    if conversations < 2:
        return Comparison(observed, None, None)
    rng = np.random.default_rng(seed)
    bootstrap_z = np.concatenate(
        [
            difference(_total(times_zb, a_btcc), _total(times_zb, b_btcc))
            for times_zb in _times(conversations, draws, rng)
        ]
    )
    if len(a_tn) != len(b_tn):
        a_btcc, b_btcc = np.repeat(a_btcc, len(b_tn), axis=1), np.tile(b_btcc, (1, len(a_tn), 1, 1))
    a_tcc, b_tcc, change_btcc = a_btcc.sum(0), b_btcc.sum(0), b_btcc - a_btcc
    hits = 0
    for size in _chunks(draws):
        change_ztcc = _total(rng.integers(2, size=(size, conversations)), change_btcc)
        swapped_z = difference(a_tcc + change_ztcc, b_tcc - change_ztcc)
        hits += int((np.abs(swapped_z) >= abs(observed) - 10**-DECIMALS).sum())
    return Comparison(observed, _percentiles(bootstrap_z, level), (1 + hits) / (1 + draws))


def compare_models(
    label_n: np.ndarray,
    a_tn: np.ndarray,
    b_tn: np.ndarray,
    conversation_n: np.ndarray,
    classes: int,
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

    Unlabelled utterances are left out. With a single conversation, or a single seed of a model that could have had
    others, the noise cannot be known: no interval and no p-value.

    Args:
      label_n: int [n], classes; `UNLABELLED` where there is no label.
      a_tn, b_tn: int [t, n], predictions; t may differ.
      conversation_n: int [n], which utterances belong together; any numbers.
      score: one of `SCORES`.
      fixed: "a", "b" or "ab": which of the models has no seeds, as a linear model has none. Such a model has one row.

    Raises:
      InputError: without labels, or where not all are of the same utterances.

    Sources: Banerjee, On confidence interval for two-means problem based on separate estimates of variances and
    tabulated values of t-table, Sankhya A 23, 1961. Welch, The generalization of Student's problem when several
    different population variances are involved, Biometrika 34, 1947. Owen, The pigeonhole bootstrap, Annals of Applied
    Statistics 1, 2007, on two crossed factors. Cameron, Gelbach and Miller, Robust inference with multiway clustering,
    Journal of Business and Economic Statistics 29, 2011, on what both factors hold.
    """
    a = _variation(_counts(label_n, a_tn, conversation_n, classes), score, "a" in fixed)
    b = _variation(_counts(label_n, b_tn, conversation_n, classes), score, "b" in fixed)
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


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Computes Holm's step-down adjusted p-values, in the order given; None stays None and does not count.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = largest
    return adjusted


def _counts(label_n: np.ndarray, prediction_tn: np.ndarray, conversation_n: np.ndarray, classes: int) -> np.ndarray:
    """Counts the confusions of each conversation that has a label, for each seed: float64 [b, t, c, c]."""
    n = len(label_n)
    if prediction_tn.shape[1] != n or len(conversation_n) != n:
        raise InputError(
            f"there are {n} labels, but predictions for {prediction_tn.shape[1]} utterances and conversations for "
            f"{len(conversation_n)}: compare runs on the same test split"
        )
    labelled_n = label_n != UNLABELLED
    if not labelled_n.any():
        raise InputError("no utterance has a label: there is nothing to score")
    ids_b, index_n = np.unique(conversation_n[labelled_n], return_inverse=True)
    seeds = len(prediction_tn)
    # float64 holds such counts exactly, and BLAS adds them up: the same result on any machine.
    count_btcc = np.zeros((len(ids_b), seeds, classes, classes))
    np.add.at(
        count_btcc,
        (index_n, np.arange(seeds)[:, np.newaxis], label_n[labelled_n], prediction_tn[:, labelled_n]),
        1,
    )
    return count_btcc


def _chunks(draws: int) -> Iterator[int]:
    for start in range(0, draws, DRAWS_AT_ONCE):
        yield min(DRAWS_AT_ONCE, draws - start)


def _times(conversations: int, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields int64 [z, b] in chunks: how many times each conversation is in each resample."""
    for size in _chunks(draws):
        yield rng.multinomial(conversations, np.full(conversations, 1 / conversations), size=size)


def _total(times_zb: np.ndarray, count_btcc: np.ndarray) -> np.ndarray:
    """Sums the confusion counts of each resample: float64 [z, t, c, c]."""
    return np.tensordot(times_zb.astype(np.float64), count_btcc, axes=1)


def _percentiles(value_z: np.ndarray, level: float) -> Interval:
    low, high = np.quantile(value_z, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
