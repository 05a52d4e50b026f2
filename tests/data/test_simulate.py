"""The simulated corpus: is it what it says it is, and is there something in it for every part of the model?"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score

from cmath_jax.data.corpus import CLASSES, SPLITS, Conversation, Corpus
from cmath_jax.data.sources.simulate import Simulation, _world, conversation, conversations, simulate
from cmath_jax.errors import InputError
from cmath_jax.evaluation.reference_points import majority

SMALL = Simulation(train=6, validation=2, test=3)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return simulate(Simulation())


@pytest.fixture(scope="module")
def long() -> list[Conversation]:
    """Many labels, few features: for statistics of who speaks and feels what."""
    return list(conversations(Simulation(train=3000, text_dim=1, audio_dim=1, visual_dim=1), "train"))


@pytest.fixture(scope="module")
def text_alone(corpus: Corpus) -> float:
    return _linear(corpus, _features("t"))


def _features(modalities: str) -> Callable[[Conversation], np.ndarray]:
    return lambda c: np.concatenate([c.features[m] for m in modalities], axis=1)


def _linear(corpus: Corpus, of: Callable[[Conversation], np.ndarray]) -> float:
    """Weighted F1 on the test split of a linear model of what `of` makes of a conversation, [n, d]."""
    x = {split: np.concatenate([of(c) for c in corpus.splits[split]]) for split in ("train", "test")}
    model = LogisticRegression(C=0.01, tol=1e-2, max_iter=1000).fit(x["train"], corpus.labels("train"))
    return 100 * f1_score(corpus.labels("test"), model.predict(x["test"]), average="weighted")


def _same(one: Conversation, other: Conversation) -> bool:
    arrays = ((one.labels, other.labels), (one.speakers, other.speakers))
    features = tuple((one.features[m], other.features[m]) for m in "tav")
    return one.id == other.id and all(np.array_equal(a, b) for a, b in arrays + features)


def test_the_corpus_has_the_sizes_asked_for() -> None:
    corpus = simulate(replace(SMALL, text_dim=11, audio_dim=7, visual_dim=3, max_length=4))
    assert [len(corpus.splits[split]) for split in SPLITS] == [6, 2, 3]
    assert corpus.dims == {"t": 11, "a": 7, "v": 3}
    assert corpus.name == "simulated" and corpus.classes == CLASSES["meld"] and corpus.speakers == 6
    assert max(len(c) for c in corpus.splits["train"]) <= 4
    first = corpus.splits["train"][0]
    assert first.id == "train-0" and first.labels.dtype == first.speakers.dtype == np.int32
    assert all(x_nd.dtype == np.float32 for x_nd in first.features.values())


def test_it_is_a_pure_function_of_its_options() -> None:
    assert simulate(SMALL).fingerprint() == simulate(SMALL).fingerprint()
    assert simulate(SMALL).fingerprint() != simulate(replace(SMALL, seed=1)).fingerprint()


def test_growing_a_corpus_keeps_its_earlier_conversations() -> None:
    small, large = simulate(SMALL), simulate(replace(SMALL, train=9, validation=5, test=4))
    assert all(_same(a, b) for split in SPLITS for a, b in zip(small.splits[split], large.splits[split], strict=False))


def test_a_conversation_can_be_made_by_itself() -> None:
    far = conversation(Simulation(train=200_000), "train", 199_999)
    assert far.id == "train-199999" and len(far) > 0
    assert _same(conversation(SMALL, "test", 2), simulate(SMALL).splits["test"][2])
    assert not np.array_equal(
        conversation(SMALL, "train", 0).features["t"], conversation(SMALL, "test", 0).features["t"]
    )


def test_emotions_are_as_unbalanced_as_in_meld(long: list[Conversation]) -> None:
    labels = np.concatenate([c.labels for c in long])
    share = dict(zip(CLASSES["meld"], np.bincount(labels, minlength=7) / len(labels), strict=True))
    assert share["neutral"] == pytest.approx(0.472, abs=0.02) and share["joy"] == pytest.approx(0.174, abs=0.02)
    assert share["fear"] == pytest.approx(0.027, abs=0.01) and share["disgust"] == pytest.approx(0.027, abs=0.01)


def test_lengths_are_spread_as_in_meld(long: list[Conversation]) -> None:
    lengths = np.array([len(c) for c in long])
    assert lengths.mean() == pytest.approx(10, abs=0.5) and lengths.std() == pytest.approx(6.5, abs=1)
    assert lengths.min() == 1 and lengths.max() == 33


def test_speakers_take_turns(long: list[Conversation]) -> None:
    cast = np.bincount([c.speakers.max() + 1 for c in long if len(c) > 5], minlength=7)
    assert cast[2] > cast[3] > cast[4] > 0 and cast[6] > 0
    stays = np.concatenate([c.speakers[1:] == c.speakers[:-1] for c in long])
    assert stays.mean() == pytest.approx(0.22, abs=0.02)
    turns = [c.speakers for c in long if c.speakers.max() > 1]
    back = np.concatenate([s[2:][s[1:-1] != s[2:]] == s[:-2][s[1:-1] != s[2:]] for s in turns])
    assert back.mean() > 0.6  # among three and more, the one who was answered mostly speaks next


def test_a_speaker_keeps_an_emotion_more_than_others_catch_it(long: list[Conversation]) -> None:
    def repeats(of: Callable[[Conversation], np.ndarray]) -> float:
        return float(np.concatenate([(c.labels[1:] == c.labels[:-1])[of(c)] for c in long]).mean())

    chance = np.square(np.bincount(np.concatenate([c.labels for c in long])) / sum(map(len, long))).sum()
    own = repeats(lambda c: c.speakers[1:] == c.speakers[:-1])
    caught = repeats(lambda c: c.speakers[1:] != c.speakers[:-1])
    assert own > caught + 0.04 and caught > chance + 0.04
    assert 0.34 < repeats(lambda c: np.ones(len(c) - 1, bool)) < 0.44  # MELD: 0.40


def test_features_are_of_order_one(corpus: Corpus) -> None:
    for m in "tav":
        deviation_d = np.concatenate([c.features[m] for c in corpus.splits["train"]]).std(axis=0)
        assert deviation_d.min() > 0.9 and deviation_d.max() < 2.5


def test_text_is_strong_audio_middling_video_weak(corpus: Corpus, text_alone: float) -> None:
    always, audio, visual = majority(corpus), _linear(corpus, _features("a")), _linear(corpus, _features("v"))
    assert 25 < always["weighted_f1"] < 36
    assert 50 < text_alone < 64
    assert text_alone - 5 > audio > visual + 3 > always["weighted_f1"] + 6


def test_a_little_is_gained_by_concatenation_and_much_by_context(corpus: Corpus, text_alone: float) -> None:
    """The echo of an utterance stands in the text of the next one, if that is another speaker's."""
    basis_ld = _world(Simulation()).bases["t"]

    def with_next(c: Conversation) -> np.ndarray:
        latent_nl = c.features["t"] @ basis_ld.T
        return np.concatenate([latent_nl, np.vstack([latent_nl[1:], 0 * latent_nl[:1]])], axis=1)

    assert text_alone + 1 < _linear(corpus, _features("tav")) < text_alone + 10
    assert _linear(corpus, with_next) > text_alone + 15


def test_much_is_gained_by_fusion(corpus: Corpus, text_alone: float) -> None:
    bases = _world(Simulation()).bases

    def with_product(c: Conversation) -> np.ndarray:
        text_nl, audio_nl = (c.features[m] @ bases[m].T for m in "ta")
        product_nl = text_nl * audio_nl[:, -1:]  # the sign in the audio times all that is in the text
        return np.concatenate([text_nl, audio_nl, product_nl], axis=1)

    assert _linear(corpus, with_product) > text_alone + 8


def test_the_joint_code_is_in_no_modality_alone() -> None:
    """Where nothing else tells partners apart, a linear model of all features guesses, and the product knows."""
    simulation = Simulation(train=600, confusion=1.0, echo_strength=0.0, inertia=0.0, contagion=0.0)
    corpus, world = simulate(simulation), _world(simulation)

    def told_apart(of: Callable[[Conversation], np.ndarray]) -> float:
        x = {split: np.concatenate([of(c) for c in corpus.splits[split]]) for split in ("train", "test")}
        side = {split: world.side[corpus.labels(split)] for split in x}
        model = LogisticRegression(C=1e-3, tol=1e-2, class_weight="balanced", max_iter=1000)
        model.fit(x["train"][side["train"] != 0], side["train"][side["train"] != 0])
        known = side["test"] != 0
        return balanced_accuracy_score(side["test"][known], model.predict(x["test"][known]))

    for modalities in ("t", "a", "tav"):
        assert told_apart(_features(modalities)) < 0.58
    signs = [world.bases[m][-1:].T for m in "ta"]
    assert told_apart(lambda c: (c.features["t"] @ signs[0]) * (c.features["a"] @ signs[1])) > 0.95


@pytest.mark.parametrize("classes", [2, 3, 6, 10])
def test_any_number_of_classes_the_first_the_most_frequent(classes: int) -> None:
    corpus = simulate(Simulation(train=60, classes=classes, text_dim=5, audio_dim=5, visual_dim=5))
    counts = corpus.class_counts("train")
    assert len(corpus.classes) == classes and counts.argmax() == 0 and counts.min() > 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("train", 0),
        ("test", -1),
        ("classes", 1),
        ("max_speakers", 1),
        ("max_length", 0),
        ("mean_length", 0.5),
        ("mean_length", float("inf")),
        ("text_dim", 0),
        ("audio_dim", 2.5),
        ("visual_strength", -1.0),
        ("echo_strength", float("nan")),
        ("confusion", 1.5),
        ("inertia", 0.9),  # more than 1 together with contagion, here 0.2
        ("seed", -1),
        ("seed", True),
    ],
)
def test_a_bad_option_is_named(option: str, value: Any) -> None:
    with pytest.raises(InputError, match=option):
        replace(SMALL, contagion=0.2, **{option: value})
