"""Classes that look misspelled are doubted, in one sentence each; classes that are merely others are not."""

from collections.abc import Sequence

import numpy as np
import pytest

from cmath_jax.data.corpus import CLASSES, SPLITS, UNLABELLED
from cmath_jax.data.sources.class_names import doubtful_classes

# Classes of data sets in use (GoEmotions, EmpatheticDialogues, DailyDialog, CREMA-D, RAVDESS).
APART = [
    "admiration",
    "amusement",
    "anger",
    "annoyance",
    "approval",
    "caring",
    "confusion",
    "curiosity",
    "desire",
    "disappointment",
    "disapproval",
    "disgust",
    "embarrassment",
    "excitement",
    "fear",
    "gratitude",
    "grief",
    "joy",
    "love",
    "nervousness",
    "optimism",
    "pride",
    "realization",
    "relief",
    "remorse",
    "sadness",
    "surprise",
    "neutral",
    "trust",
    "anticipation",
    "boredom",
    "calm",
    "shame",
    "guilt",
    "hope",
    "hatred",
    "envy",
    "jealousy",
    "awe",
    "tender",
    "lonely",
    "terrified",
]


def doubts(classes: Sequence[str], counts: Sequence[int] | None = None) -> list[str]:
    label_n = np.repeat(np.arange(len(classes)), counts or [5] * len(classes)).astype(np.int32)
    parts = np.array_split(np.append(label_n, UNLABELLED), len(SPLITS))
    return doubtful_classes(classes, {split: [part] for split, part in zip(SPLITS, parts, strict=True)})


def test_classes_that_are_others_are_not_doubted() -> None:
    assert doubts(APART) == []
    for classes in CLASSES.values():
        assert doubts(classes) == []
        assert doubts([name.title() for name in classes]) == []  # written so throughout
    assert doubts(["class 1", "class 2", "class 10"]) == []
    assert doubts(["1", "2", "3"]) == []
    opposites = [
        "pleasant",
        "unpleasant",
        "satisfied",
        "dissatisfied",
        "motivated",
        "demotivated",
        "active",
        "inactive",
    ]
    assert doubts(opposites) == []
    assert doubts(["sad", "mad", "joy", "coy"]) == []


@pytest.mark.parametrize("name", ["nan", "None", "N/A", " ", "-", "-1", "?", "xxx"])
def test_what_stands_for_no_label(name: str) -> None:
    (doubt,) = doubts(["joy", "fear", name])
    assert doubt == f"the class {name!r} looks like no label: leave it out, or write null, where there is none"


@pytest.mark.parametrize("slip", ["jyo", "joyy", "JOY", "ojy"])
def test_slips_of_a_short_name(slip: str) -> None:
    (doubt,) = doubts(["joy", slip], [5, 2])
    assert f"{slip!r} (2 times) and 'joy' (5 times)" in doubt
    assert doubts(["yes", "no"]) == []


@pytest.mark.parametrize("name", ["neutral", "surprise", "frustrated", "disgust", "happy", "sadness"])
def test_a_slip_is_found_beside_the_right_name_and_alone(name: str) -> None:
    half = len(name) // 2
    slips = {
        name[:half] + name[half + 1] + name[half] + name[half + 2 :],
        name[:half] + name[half + 1 :],
        name[:half] + "q" + name[half:],
        name[:half] + "q" + name[half + 1 :],
        name.upper(),
        f"{name} ",
        f" {name}",
        f"{name}\u200b",
        f"{name[:half]}-{name[half:]}",
    } - {name}
    for slip in slips:
        (beside,) = doubts([name, slip, "awe"], [5, 2, 5])
        assert beside.startswith(f"the classes {slip!r} (2 times) and {name!r} (5 times) ")
        (alone,) = doubts([slip, "fear", "awe"])
        assert alone.startswith(f"the class {slip!r} and {name!r}, as MELD or IEMOCAP have it, ")


def test_names_of_one_emotion() -> None:
    for one, other in (("anger", "angry"), ("sad", "Sadness"), ("joy", "happy"), ("excited", "excitement")):
        assert "name one emotion" in doubts([one, other])[0]


def test_labels_that_are_no_names() -> None:
    assert doubts([f"text {i}" for i in range(5000)]) == [
        "there are 5000 classes; perhaps the labels are no names of emotions"
    ]


def test_every_pair_is_looked_at() -> None:
    assert [
        sum(name in line for name in ("'joy'", "'Joy'", "'joy '")) for line in doubts(["joy", "Joy", "joy ", "fear"])
    ] == [2] * 3


def test_classes_that_are_rare() -> None:
    assert doubts(["fear", "awe", "calm"], [1, 0, 2]) == [
        "the class 'fear' occurs once, from which nothing can be learned",
        "the class 'awe' never occurs, from which nothing can be learned",
    ]
    assert doubts(["fear ", "awe"])[0].startswith("the class 'fear ' and 'fear'")
    assert doubts(["calm ", "awe"]) == ["the class 'calm ' begins or ends with white space"]
