"""A corpus refuses what no model should see, and says where it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from samples import CLASSES, SPEAKERS, conversations

from cmath_jax.data.corpus import Conversation, Corpus
from cmath_jax.data.standardize import Standardizer
from cmath_jax.errors import InputError

NAMES = tuple("wxyz")


def corpus(talks: list[Conversation], **changes: Any) -> Corpus:
    splits = {"train": talks[:2], "validation": talks[2:3], "test": talks[3:]}
    return Corpus(**({"name": "mine", "classes": NAMES, "splits": splits, "speakers": SPEAKERS} | changes))


def feature(talk: Conversation, m: str, place: tuple[int, int], value: float) -> Conversation:
    x_nd = talk.features[m].copy()
    x_nd[place] = value
    return replace(talk, features={**talk.features, m: x_nd})


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (lambda c: feature(c, "a", (2, 1), np.nan), ["'c1'", "utterance 2", "audio", "nan"]),
        (lambda c: feature(c, "v", (0, 2), np.inf), ["'c1'", "utterance 0", "visual", "inf"]),
        (lambda c: replace(c, labels=np.array([0, 1, CLASSES, 0])), ["'c1'", "utterance 2", "label 4", "0..3"]),
        (lambda c: replace(c, labels=np.array([0, 1, 0, -2])), ["'c1'", "utterance 3", "label -2"]),
        (lambda c: replace(c, speakers=np.array([0, SPEAKERS, 0, 0])), ["'c1'", "utterance 1", "speaker index 3"]),
        (lambda c: replace(c, labels=c.labels[:0]), ["'c1'", "empty"]),
        (lambda c: replace(c, features={**c.features, "t": c.features["t"][:3]}), ["'c1'", "text", "(3, 5)", "4 utt"]),
        (
            lambda c: replace(c, features={**c.features, "t": c.features["t"][:, :4]}),
            ["'c1'", "text", "4 features", "5"],
        ),
        (lambda c: replace(c, features={"t": c.features["t"]}), ["'c1'", "modalities"]),
        (lambda c: replace(c, features={**c.features, "x": c.features["t"]}), ["'c1'", "modalities", "x"]),
        (lambda c: replace(c, id="c0"), ["'c0'", "train"]),
        (lambda c: replace(c, sentences=("one",)), ["'c1'", "1 sentences", "4 utterances"]),
    ],
)
def test_what_is_wrong_is_named(breaks: Any, words: list[str]) -> None:
    talks = conversations((3, 4, 2, 5))
    corpus(talks)
    with pytest.raises(InputError) as error:
        corpus([talks[0], breaks(talks[1]), *talks[2:]])
    for word in ["mine train", *words]:
        assert word in str(error.value)


def test_a_corpus_needs_its_splits_and_some_conversations() -> None:
    talks = conversations((3, 4))
    with pytest.raises(InputError, match="no split 'test'"):
        corpus(talks, splits={"train": talks, "validation": []})
    with pytest.raises(InputError, match="no conversations"):
        corpus(talks, splits={"train": [], "validation": [], "test": []})


def test_the_fingerprint_sees_what_training_sees() -> None:
    talks = conversations((3, 4, 2, 5))
    same = corpus(conversations((3, 4, 2, 5)), source="elsewhere")
    assert corpus(talks).fingerprint() == same.fingerprint()
    for changed in (feature(talks[1], "a", (2, 1), 9.0), replace(talks[1], labels=(talks[1].labels + 1) % CLASSES)):
        assert corpus([talks[0], changed, *talks[2:]]).fingerprint() != same.fingerprint()
    assert corpus([talks[1], talks[0], *talks[2:]]).fingerprint() != same.fingerprint()


def test_scaling_is_by_the_training_split_alone() -> None:
    talks = conversations((30, 40, 20, 50))
    constant = [replace(c, features={**c.features, "v": np.full_like(c.features["v"], 7.0)}) for c in talks]
    data = corpus(constant)
    scaling = Standardizer.of(data, standardize=True)
    scaled = {split: scaling.apply(c) for split, c in data.splits.items()}
    x_nd = np.concatenate([c.features["t"] for c in scaled["train"]])
    np.testing.assert_allclose(x_nd.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x_nd.std(0), 1, rtol=1e-5)
    assert abs(np.concatenate([c.features["t"] for c in scaled["test"]]).mean(0)).max() > 1e-3
    np.testing.assert_array_equal(scaled["test"][0].features["v"], 0.0)  # a constant is centred, not blown up
    untouched = Standardizer.of(data, standardize=False).apply(data.splits["train"])
    np.testing.assert_array_equal(untouched[0].features["t"], talks[0].features["t"])
