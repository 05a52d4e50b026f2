"""The reference points against scikit-learn used directly, and the published ones of the all-neutral predictor."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from cmath_jax.data.corpus import CLASSES, SPLITS, UNLABELLED, Conversation, Corpus
from cmath_jax.data.sources.simulate import Simulation, simulate
from cmath_jax.errors import InputError
from cmath_jax.evaluation.reference_points import INVERSE_PENALTIES, TOLERANCE, linear, majority


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return simulate(Simulation(train=20, validation=10, test=10, text_dim=6, audio_dim=5, visual_dim=4))


def _conversation(name: str, labels: list[int]) -> Conversation:
    features = {"t": np.eye(7, dtype=np.float32)[labels]}
    return Conversation(name, features, np.zeros(len(labels), np.int32), np.array(labels, np.int32))


def _corpus(train: list[int], validation: list[int], test: list[int]) -> Corpus:
    labels = dict(zip(SPLITS, (train, validation, test), strict=True))
    return Corpus("own", CLASSES["meld"], {s: [_conversation(s, labels[s])] for s in SPLITS}, 1)


def _stacked(corpus: Corpus, split: str, modalities: str) -> np.ndarray:
    return np.concatenate([np.concatenate([c.features[m] for m in modalities], axis=1) for c in corpus.splits[split]])


def test_always_neutral_on_the_test_labels_of_meld() -> None:
    counts = (1256, 281, 50, 208, 402, 68, 345)
    test = np.repeat(np.arange(7), counts).tolist()
    scores = majority(_corpus([0, 0, 1], [0], test))
    assert scores == pytest.approx({"accuracy": 48.12, "weighted_f1": 31.27}, abs=0.005)


def test_majority_is_that_of_training() -> None:
    assert majority(_corpus([2, 2, 1], [1, 1], [1, 1, 1, 2])) == pytest.approx({"accuracy": 25.0, "weighted_f1": 10.0})


@pytest.mark.parametrize("modalities", ["t", "av", "tav"])
def test_linear_is_the_best_of_the_grid_on_validation(corpus: Corpus, modalities: str) -> None:
    x = {split: _stacked(corpus, split, modalities) for split in SPLITS}
    x = {split: (x_nd - x["train"].mean(axis=0)) / x["train"].std(axis=0) for split, x_nd in x.items()}
    models = [
        LogisticRegression(C=c, tol=TOLERANCE, max_iter=5000).fit(x["train"], corpus.labels("train"))
        for c in INVERSE_PENALTIES
    ]
    f1 = [f1_score(corpus.labels("validation"), m.predict(x["validation"]), average="weighted") for m in models]
    best = int(np.argmax(f1))
    truth, prediction = corpus.labels("test"), models[best].predict(x["test"])
    expected = {
        "accuracy": 100 * accuracy_score(truth, prediction),
        "weighted_f1": 100 * f1_score(truth, prediction, average="weighted"),
        "C": INVERSE_PENALTIES[best],
    }
    assert linear(corpus, modalities) == pytest.approx(expected, abs=0.5)
    assert linear(corpus, modalities) == linear(corpus, modalities)


def test_a_separable_corpus_with_a_constant_feature_raises_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = linear(_corpus([0, 0, 1, 1, 4], [0, 1, 4], [4, 1, 0]), "t")
    assert scores["weighted_f1"] == scores["accuracy"] == 100


def test_unlabelled_utterances_do_not_count(corpus: Corpus) -> None:
    def with_strangers(c: Conversation) -> Conversation:
        far = {
            m: np.concatenate([x_nd, np.full((3, x_nd.shape[1]), 1e3, np.float32)]) for m, x_nd in c.features.items()
        }
        labels = np.concatenate([c.labels, np.full(3, UNLABELLED, np.int32)])
        return replace(c, features=far, labels=labels, speakers=np.concatenate([c.speakers, np.zeros(3, np.int32)]))

    splits = {split: [with_strangers(c) for c in corpus.splits[split]] for split in SPLITS}
    stranger = replace(corpus, splits=splits)
    assert majority(stranger) == majority(corpus)
    assert linear(stranger, "tav") == linear(corpus, "tav")


@pytest.mark.parametrize("modalities", ["", "a", "tx"])
def test_modalities_that_are_not_there(modalities: str) -> None:
    with pytest.raises(InputError, match="modalities"):
        linear(_corpus([0, 1], [0], [1]), modalities)


def test_splits_that_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="test"):
        majority(_corpus([0, 1], [0], [UNLABELLED]))
    with pytest.raises(InputError, match="validation"):
        linear(_corpus([0, 1], [UNLABELLED], [0]), "t")
    with pytest.raises(InputError, match="two emotions"):
        linear(_corpus([1, 1], [1], [1]), "t")
