"""Uncertainty of a score, and tests of whether two models differ: over seeds, and over conversations of a test split.

There are two kinds of chance. `t_interval` and `compare_seeds` ask what other seeds would give on the same test split.
`bootstrap_interval` and `compare_utterances` ask what other conversations would give to the same trained models; they
say nothing of whether another training would come out alike. `joint_test.compare_models` asks what other seeds on other
conversations would give, and is the test of whether one model is better than another. The utterances of a conversation
are not independent, so a conversation is always drawn, left out or swapped as a whole.

Scores and their differences are in percent.

Shapes: n utterances, b conversations, t trials (seeds), c classes, z draws.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.errors import InputError

DECIMALS = 9  # of a score in percent that mean something; what comes after them is float64 rounding
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


@dataclass(frozen=True)
class Utterances:
    """Test utterances, all of one split, on which models are scored; those without a label are left out.

    Attributes:
      label_n: int [n], classes; `UNLABELLED` where there is no label.
      conversation_n: int [n], which utterances belong together; any numbers.
      classes: how many there are.
    """

    label_n: np.ndarray
    conversation_n: np.ndarray
    classes: int

    def confusions(self, prediction_tn: np.ndarray) -> np.ndarray:
        """Counts the confusions of each conversation that has a label, for each seed: float64 [b, t, c, c].

        Args:
          prediction_tn: int [t, n], classes.

        Raises:
          InputError: there are no labels, or the predictions are not of these utterances.
        """
        n = len(self.label_n)
        if prediction_tn.shape[1] != n or len(self.conversation_n) != n:
            raise InputError(
                f"there are {n} labels, but predictions for {prediction_tn.shape[1]} utterances and conversations for "
                f"{len(self.conversation_n)}: compare runs on the same test split"
            )
        labelled_n = self.label_n != UNLABELLED
        if not labelled_n.any():
            raise InputError("no utterance has a label: there is nothing to score")
        ids_b, index_n = np.unique(self.conversation_n[labelled_n], return_inverse=True)
        seed_t1 = np.arange(len(prediction_tn))[:, np.newaxis]
        # float64 holds such counts exactly, and BLAS adds them up: the same result on any machine.
        count_btcc = np.zeros((len(ids_b), len(prediction_tn), self.classes, self.classes))
        np.add.at(count_btcc, (index_n, seed_t1, self.label_n[labelled_n], prediction_tn[:, labelled_n]), 1)
        return count_btcc


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
    utterances: Utterances,
    prediction_n: np.ndarray,
    score: str = "weighted_f1",
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Computes the percentile interval of one run's score by a bootstrap that draws conversations with replacement.

    A single conversation gives an interval without width.

    Args:
      prediction_n: int [n], classes.
      score: one of `SCORES`.

    Raises:
      InputError: as `Utterances.confusions`.
    """
    count_btcc = utterances.confusions(prediction_n[np.newaxis])
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
    utterances: Utterances,
    a_tn: np.ndarray,
    b_tn: np.ndarray,
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

    A single conversation says nothing of others: no interval and no p-value.

    Args:
      a_tn: int [t, n], predictions of the one.
      b_tn: int [t, n], those of the other; t may differ.
      score: one of `SCORES`.

    Raises:
      InputError: as `Utterances.confusions`.
    """
    a_btcc, b_btcc = map(utterances.confusions, (a_tn, b_tn))

    def difference(a_tcc: np.ndarray, b_tcc: np.ndarray) -> np.ndarray:
        return SCORES[score](a_tcc).mean(-1) - SCORES[score](b_tcc).mean(-1)

    observed = float(difference(a_btcc.sum(0), b_btcc.sum(0)))
    conversations = len(a_btcc)
    if conversations < 2:
        return Comparison(observed, None, None)
    rng = np.random.default_rng(seed)
    times = _times(conversations, draws, rng)
    bootstrap_z = np.concatenate([difference(_total(times_zb, a_btcc), _total(times_zb, b_btcc)) for times_zb in times])
    if len(a_tn) != len(b_tn):
        a_btcc, b_btcc = np.repeat(a_btcc, len(b_tn), axis=1), np.tile(b_btcc, (1, len(a_tn), 1, 1))
    a_tcc, b_tcc, change_btcc = a_btcc.sum(0), b_btcc.sum(0), b_btcc - a_btcc
    hits = 0
    for size in _chunks(draws):
        change_ztcc = _total(rng.integers(2, size=(size, conversations)), change_btcc)
        swapped_z = difference(a_tcc + change_ztcc, b_tcc - change_ztcc)
        hits += int((np.abs(swapped_z) >= abs(observed) - 10**-DECIMALS).sum())
    return Comparison(observed, _percentiles(bootstrap_z, level), (1 + hits) / (1 + draws))


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
