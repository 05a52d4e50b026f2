"""How often the tests of a difference reject where there is none, and find one that is there, on simulated models.

    python -m benchmarks.joint_test [--trials 1000]

Two models of one recipe are trained with several seeds each, whose accuracies deviate, and are tested on the same
conversations, some harder than others. An utterance has the outcome that all seeds share with the probability
`alike`, as seeds of one architecture fail on the same utterances. Each trial draws models and conversations anew.
Prints, for each setting, the share of trials with a p-value of 0.05 at most: of the joint test (seeds and
conversations), of the permutation of utterances and of the paired t-test over seeds; then the joint test's power.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from cmath_jax.evaluation.joint_test import compare_models
from cmath_jax.evaluation.statistics import SCORES, Utterances, compare_seeds, compare_utterances

SHARES = (0.48, 0.11, 0.02, 0.08, 0.15, 0.03, 0.13)  # of the emotions, about those of MELD
CLASSES = len(SHARES)


@dataclass(frozen=True)
class Setting:
    """Two models and a test split.

    Attributes:
      seeds: of the first and of the second model.
      deviations: of the seeds' probabilities of being right, in points.
      better: how much better the second model is, in points.
      harder: the deviation of the conversations' difficulty, in points.
      alike: the probability that an utterance has one outcome for all seeds of both models.
    """

    seeds: tuple[int, int] = (3, 3)
    conversations: int = 100
    deviations: tuple[float, float] = (2.0, 2.0)
    better: float = 0.0
    harder: float = 15.0
    alike: float = 0.5


def draw(setting: Setting, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels int [N], predictions of both models int [S, N], and conversations int [N]."""
    length_k = np.clip(rng.gamma(2.0, 5.0, setting.conversations).astype(int), 1, 33)
    k_n = np.repeat(np.arange(setting.conversations), length_k)
    utterances = len(k_n)
    label_n = rng.choice(CLASSES, utterances, p=SHARES)
    harder_n = rng.normal(0, setting.harder, setting.conversations)[k_n]
    shared_n, luck_n, guess_n = rng.random(utterances) < setting.alike, rng.random(utterances), _guess(rng, utterances)

    def model(seeds: int, deviation: float, better: float) -> np.ndarray:
        right_sn = (62 + better + rng.normal(0, deviation, (seeds, 1)) + harder_n) / 100
        luck_sn = np.where(shared_n, luck_n, rng.random((seeds, utterances)))
        guess_sn = np.where(shared_n, guess_n, _guess(rng, (seeds, utterances)))
        return np.where(luck_sn < right_sn, label_n, guess_sn)

    a_sn, b_sn = (
        model(seeds, deviation, better)
        for seeds, deviation, better in zip(setting.seeds, setting.deviations, (0.0, setting.better), strict=True)
    )
    return label_n, a_sn, b_sn, k_n


def _guess(rng: np.random.Generator, shape: int | tuple[int, ...]) -> np.ndarray:
    return rng.choice(CLASSES, shape, p=SHARES)


def rejected(setting: Setting, trials: int, others: bool = False, seed: int = 0) -> dict[str, float]:
    """The share of trials in which a test has a p-value of 0.05 at most, by the name of the test."""
    rng = np.random.default_rng(seed)
    p_values: dict[str, list[float]] = {"joint": [], "utterances": [], "seeds": []}
    for _ in range(trials):
        label_n, a_sn, b_sn, k_n = draw(setting, rng)
        compared = {"joint": compare_models(Utterances(label_n, k_n, CLASSES), a_sn, b_sn)}
        if others:
            compared["utterances"] = compare_utterances(Utterances(label_n, k_n, CLASSES), a_sn, b_sn, draws=199)
            if len(a_sn) == len(b_sn):
                compared["seeds"] = compare_seeds(_scores(label_n, a_sn), _scores(label_n, b_sn))
        for name, comparison in compared.items():
            assert comparison.p_value is not None
            p_values[name].append(comparison.p_value)
    return {name: float(np.mean(np.array(values) <= 0.05)) for name, values in p_values.items() if values}


def _scores(label_n: np.ndarray, prediction_sn: np.ndarray) -> list[float]:
    confusion_scc = np.zeros((len(prediction_sn), CLASSES, CLASSES))
    np.add.at(confusion_scc, (np.arange(len(prediction_sn))[:, np.newaxis], label_n, prediction_sn), 1)
    return SCORES["weighted_f1"](confusion_scc).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    print("| seeds | conversations | deviations of seeds | alike | joint | utterances | seeds only |")
    print("|---|---|---|---|---|---|---|")
    for seeds in ((3, 3), (5, 5), (10, 10), (3, 10)):
        for conversations in (30, 280):
            for deviations in ((0.0, 0.0), (2.0, 2.0), (2.0, 0.2)):
                for alike in (0.0, 0.8):
                    setting = Setting(seeds, conversations, deviations, alike=alike)
                    share = rejected(setting, trials, others=True)
                    cells = [f"{100 * share[k]:.1f} %" if k in share else "-" for k in ("joint", "utterances", "seeds")]
                    points = " and ".join(f"{deviation:g}" for deviation in deviations)
                    print(f"| {seeds[0]}, {seeds[1]} | {conversations} | {points} | {alike:g} | {' | '.join(cells)} |")
    print("\n| seeds | conversations | better by, points | deviations of seeds | found by the joint test |")
    print("|---|---|---|---|---|")
    for seeds in ((3, 3), (5, 5), (10, 10)):
        for better, deviation in ((1.5, 0.3), (3.0, 0.3), (3.0, 1.0), (6.0, 2.0)):
            setting = Setting(seeds, 280, (deviation, deviation), better, alike=0.8)
            share = rejected(setting, trials)
            print(f"| {seeds[0]}, {seeds[1]} | 280 | {better:g} | {deviation:g} | {100 * share['joint']:.1f} % |")


if __name__ == "__main__":
    main()
