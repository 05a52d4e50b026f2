"""The test over seeds and conversations together: against plain loops, and on models of which the truth is known."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from test_statistics import CLASSES, corpus, ends, model, plain_score

from benchmarks.joint_test import Setting, rejected
from cmath_jax.errors import InputError
from cmath_jax.evaluation import statistics
from cmath_jax.evaluation.joint_test import compare_models
from cmath_jax.evaluation.statistics import Comparison, Interval, Utterances, compare_utterances

TRIALS = 400


def scores(score: str, label_n: np.ndarray, prediction_sn: np.ndarray) -> np.ndarray:
    return np.array([plain_score(score, label_n, n) for n in prediction_sn])


def half_width(parts: list[tuple[float, float]], p: float) -> float:
    return math.sqrt(sum(stats.t.ppf(1 - p / 2, freedom) ** 2 * variance for variance, freedom in parts))


@pytest.mark.parametrize("score", statistics.SCORES)
def test_it_is_a_plain_loop_over_seeds_and_conversations(score: str) -> None:
    label_n, conversation_n = corpus(15)
    a_sn, b_sn = model(label_n, 0.6, 3, 1), model(label_n, 0.5, 3, 2)
    ids = np.unique(conversation_n[label_n >= 0])
    k = len(ids)
    influence = {}  # of each conversation on the score of each seed
    for name, prediction_sn in (("a", a_sn), ("b", b_sn)):
        without = [scores(score, *(x[..., conversation_n != id] for x in (label_n, prediction_sn))) for id in ids]
        influence[name] = (k - 1) * (scores(score, label_n, prediction_sn) - np.array(without))
    of_seeds, interaction = {}, 0.0
    for name, prediction_sn in (("a", a_sn), ("b", b_sn)):
        of_seeds[name] = np.var(scores(score, label_n, prediction_sn), ddof=1) / 3
        x = influence[name]
        residual = x - x.mean(0, keepdims=True) - x.mean(1, keepdims=True) + x.mean()
        interaction += (residual**2).sum() / (2 * (k - 1)) / (3 * k)
    seeds = of_seeds["a"] + of_seeds["b"]
    welch = seeds**2 / (of_seeds["a"] ** 2 / 2 + of_seeds["b"] ** 2 / 2)
    jackknife = np.var(influence["a"].mean(1) - influence["b"].mean(1), ddof=1) / k
    parts = [(seeds, welch), (jackknife - min(interaction, seeds), k - 1)]
    result = compare_models(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn, score, level=0.9)
    difference = scores(score, label_n, a_sn).mean() - scores(score, label_n, b_sn).mean()
    assert result.difference == pytest.approx(difference)
    np.testing.assert_allclose(
        ends(result.interval), [difference - half_width(parts, 0.1), difference + half_width(parts, 0.1)]
    )
    assert result.p_value is not None and 0 < result.p_value < 1
    assert half_width(parts, result.p_value) == pytest.approx(abs(difference))


def test_without_seeds_it_is_the_jackknife_over_conversations() -> None:
    """With conversations of one length the accuracy is a mean, whose jackknife is the plain paired t-test."""
    label_n = np.random.default_rng(0).integers(CLASSES, size=120)
    conversation_n = np.repeat(np.arange(20), 6)
    a_sn, b_sn = model(label_n, 0.7, 1, 1), model(label_n, 0.6, 1, 2)
    result = compare_models(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn, "accuracy", fixed="ab")
    right_k = [100 * (sn[0] == label_n).reshape(20, 6).mean(1) for sn in (a_sn, b_sn)]
    expected = stats.ttest_rel(*right_k)
    assert result.p_value == pytest.approx(expected.pvalue)
    np.testing.assert_allclose(ends(result.interval), expected.confidence_interval(0.95))


def test_one_conversation_of_each_seed_and_no_noise_of_conversations_is_welch() -> None:
    """Where all conversations are the same, only the seeds are left."""
    a_sn, b_sn = (np.tile(np.random.default_rng(seed).integers(2, size=(4, 8)), 30) for seed in (1, 5))
    label_n, conversation_n = np.zeros(240, int), np.repeat(np.arange(30), 8)
    result = compare_models(Utterances(label_n, conversation_n, 2), a_sn, b_sn, "accuracy")
    expected = stats.ttest_ind(*(100 * (sn == 0).mean(1) for sn in (a_sn, b_sn)), equal_var=False)
    assert result.p_value == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("setting", [Setting((3, 3)), Setting((5, 5), 30), Setting((3, 10), 30)], ids=str)
def test_equal_recipes_whose_seeds_differ_by_two_points_are_seldom_told_apart(setting: Setting) -> None:
    assert rejected(setting, TRIALS)["joint"] <= 0.06


def test_the_test_over_utterances_alone_is_too_bold_there() -> None:
    share = rejected(Setting((3, 3), 280, alike=0.8), 60, others=True)
    assert share["utterances"] > 0.2 > 0.1 > share["joint"]


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.8])
@pytest.mark.parametrize("deviations", [(0.0, 0.0), (2.0, 2.0), (2.0, 0.2), (4.0, 4.0)])
@pytest.mark.parametrize("conversations", [30, 280])
@pytest.mark.parametrize("seeds", [(3, 3), (5, 5), (10, 10), (3, 10)])
def test_in_no_setting_it_is_too_bold(
    seeds: tuple[int, int], conversations: int, deviations: tuple[float, float], alike: float
) -> None:
    share = rejected(Setting(seeds, conversations, deviations, alike=alike), TRIALS)["joint"]
    assert share <= 0.06 + 2 * math.sqrt(0.06 * 0.94 / TRIALS)


def test_what_is_there_is_found() -> None:
    assert rejected(Setting((3, 3), 280, (0.3, 0.3), better=4.0, alike=0.8), 50)["joint"] > 0.9
    assert rejected(Setting((5, 5), 280, (1.0, 1.0), better=4.0, alike=0.8), 50)["joint"] > 0.9


def test_a_clear_difference_and_its_mirror_image() -> None:
    label_n, conversation_n = corpus(60)
    a_sn, b_sn = model(label_n, 0.8, 3, 1), model(label_n, 0.5, 4, 2)
    result = compare_models(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn)
    assert result.p_value is not None and result.p_value < 0.01
    low, high = ends(result.interval)
    assert 0 < low < result.difference < high
    other_way = compare_models(Utterances(label_n, conversation_n, CLASSES), b_sn, a_sn)
    assert (other_way.difference, other_way.p_value) == (-result.difference, pytest.approx(result.p_value))
    np.testing.assert_allclose(ends(other_way.interval), [-high, -low])


def test_the_noise_of_one_seed_cannot_be_known() -> None:
    label_n, conversation_n = corpus(20)
    a_sn, b_sn = model(label_n, 0.7, 3, 1), model(label_n, 0.5, 1, 2)
    for one, other in ((a_sn, b_sn), (b_sn, a_sn), (b_sn, b_sn)):
        result = compare_models(Utterances(label_n, conversation_n, CLASSES), one, other)
        assert (result.interval, result.p_value) == (None, None)
    known = compare_models(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn, fixed="b")
    assert known.interval is not None and known.p_value is not None
    assert compare_models(Utterances(label_n, conversation_n, CLASSES), b_sn, a_sn, fixed="a").p_value == known.p_value
    assert compare_models(Utterances(label_n, conversation_n, CLASSES), b_sn, a_sn, fixed="b").p_value is None


def test_one_conversation_says_nothing_of_others() -> None:
    label_n, conversation_n = corpus(1, length=40)
    a_sn, b_sn = model(label_n, 0.8, 2, 1), model(label_n, 0.4, 2, 2)
    result = compare_models(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn)
    assert result.difference > 0 and (result.interval, result.p_value) == (None, None)


def test_models_that_say_the_same() -> None:
    label_n, conversation_n = corpus(20)
    one_sn = model(label_n, 0.6, 1, 1)
    same = compare_models(Utterances(label_n, conversation_n, CLASSES), one_sn.repeat(3, axis=0), one_sn, fixed="b")
    assert same == Comparison(0.0, Interval(0.0, 0.0), 1.0)
    seeds_sn = model(label_n, 0.6, 3, 1)
    assert compare_models(Utterances(label_n, conversation_n, CLASSES), seeds_sn, seeds_sn).p_value == 1
    always, never = np.zeros((2, 40), int), np.ones((2, 40), int)
    sure = compare_models(Utterances(np.zeros(40, int), np.repeat(np.arange(8), 5), 2), always, never, "accuracy")
    assert (sure.difference, sure.interval, sure.p_value) == (100.0, Interval(100.0, 100.0), 0.0)


def test_unlabelled_utterances_and_the_order_of_conversations_do_not_count() -> None:
    label_n, conversation_n = corpus(15)
    label_n[np.isin(conversation_n, np.unique(conversation_n)[:5])] = -1
    a_sn, b_sn = model(label_n, 0.7, 2, 1), model(label_n, 0.5, 3, 2)
    whole = compare_models(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn)
    n = np.random.default_rng(0).permutation(np.flatnonzero(label_n >= 0))
    part = compare_models(Utterances(label_n[n], conversation_n[n], CLASSES), a_sn[:, n], b_sn[:, n])
    assert part.difference == whole.difference
    assert part.p_value == pytest.approx(whole.p_value)
    assert compare_models(Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn) == whole


def test_it_is_not_the_test_over_utterances() -> None:
    """Seeds that scatter: the permutation, which sees only these seeds, is sure of a difference that may be luck."""
    label_n, conversation_n = corpus(100)
    rates = {"a": (0.6, 0.62, 0.8), "b": (0.5, 0.62, 0.6)}
    a_sn, b_sn = (
        np.concatenate([model(label_n, right, 1, 10 * m + s) for s, right in enumerate(r)])
        for m, r in enumerate(rates.values())
    )
    args: Any = (Utterances(label_n, conversation_n, CLASSES), a_sn, b_sn)
    alone, joint = compare_utterances(*args).p_value, compare_models(*args).p_value
    assert alone is not None and joint is not None and alone < 0.05 < 0.2 < joint


@pytest.mark.parametrize(
    ("labels", "conversations", "message"),
    [([-1, -1], [0, 1], "no utterance has a label"), ([0, 1, 0], [0, 1, 1], "same test split")],
)
def test_what_cannot_be_scored(labels: list[int], conversations: list[int], message: str) -> None:
    prediction_sn = np.zeros((2, 2), int)
    with pytest.raises(InputError, match=message):
        compare_models(Utterances(np.array(labels), np.array(conversations), 2), prediction_sn, prediction_sn)
