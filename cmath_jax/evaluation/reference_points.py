"""Reference points that any model has to beat: the most frequent emotion, and a linear model of single utterances."""

from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from cmath_jax.data.corpus import SPLITS, UNLABELLED, Corpus
from cmath_jax.data.moments import Moments
from cmath_jax.data.standardize import Standardizer
from cmath_jax.errors import InputError

INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regression, chosen on the validation split
TOLERANCE = 1e-3  # largest gradient; a smaller one moves the scores on MELD by less than 0.1
MOST_ITERATIONS = 5000


def majority(corpus: Corpus) -> dict[str, float]:
    """Scores the prediction of training's most frequent emotion on the test split: `accuracy`, `weighted_f1` in
    percent.

    Raises:
      InputError: for a training or test split without labels.
    """
    _, train_n = _labelled(corpus, "train", "")
    _, test_n = _labelled(corpus, "test", "")
    return _scores(test_n, np.full_like(test_n, np.bincount(train_n).argmax()))


def fit_linear(corpus: Corpus, modalities: str) -> tuple[dict[str, float], np.ndarray]:
    """Fits a logistic regression on the features of one utterance; returns test scores with its `C`, and predictions.

    Features of `modalities` (letters, as in "tav") are standardized by the training split, as those of the model are
    (`Standardizer`), and concatenated. C is the one with the best weighted F1 on the validation split, the smallest
    among equals. Unlabelled utterances are left out everywhere.

    Raises:
      InputError: for modalities that the corpus lacks, a split without labels, or a single emotion in training.
    """
    if not modalities or not set(modalities) <= set(corpus.dims):
        raise InputError(f"{corpus.name} has the modalities {''.join(corpus.dims)}, not {modalities!r}")
    features, labels = zip(*(_labelled(corpus, split, modalities) for split in SPLITS), strict=True)
    train_n, validation_n, test_n = labels
    if len(np.unique(train_n)) < 2:
        raise InputError(f"{corpus.name} train: a linear model needs two emotions, and there is one")
    standardizer = Standardizer.by(Moments.of(features[:1], {m: corpus.dims[m] for m in modalities}))

    def scaled(features: Mapping[str, np.ndarray]) -> np.ndarray:
        x = standardizer.features(features)
        return np.nan_to_num(np.concatenate([x[m] for m in modalities], axis=1))  # what is missing gets the mean

    x_train_nd, x_validation_nd, x_test_nd = map(scaled, features)

    best_f1, best = -1.0, {}
    for c in INVERSE_PENALTIES:
        model = LogisticRegression(C=c, tol=TOLERANCE, max_iter=MOST_ITERATIONS)
        # One thread: the products are too small to share, and the result is the same on any number of cores.
        with threadpool_limits(limits=1, user_api="blas"):
            model.fit(x_train_nd, train_n)
        f1 = _scores(validation_n, model.predict(x_validation_nd))["weighted_f1"]
        if f1 > best_f1:
            best_f1, best = f1, {**_scores(test_n, model.predict(x_test_nd)), "C": c}
            prediction_n = model.predict(x_test_nd)
    return best, prediction_n


def linear(corpus: Corpus, modalities: str) -> dict[str, float]:
    """Returns the scores of `fit_linear` alone."""
    return fit_linear(corpus, modalities)[0]


def _labelled(corpus: Corpus, split: str, modalities: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the features m -> float32 [n, d_m] and the labels int32 [n] of the labelled utterances of a split."""
    label_n = corpus.labels(split)
    known_n = label_n != UNLABELLED
    if not known_n.any():
        raise InputError(f"{corpus.name} {split}: it has no labelled utterances")
    features = {m: np.concatenate([c.features[m] for c in corpus.splits[split]])[known_n] for m in modalities}
    return features, label_n[known_n]


def _scores(label_n: np.ndarray, prediction_n: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": 100 * float((label_n == prediction_n).mean()),
        "weighted_f1": 100 * float(f1_score(label_n, prediction_n, average="weighted")),
    }
