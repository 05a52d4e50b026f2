"""Published pickles are written as all loaders read them, and what they cannot hold is said; NaN is refused in them."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import MELD_IDS, content, dump
from layouts import corpus as sample

from cmath_jax.data.corpus import CLASSES, SPLITS, UNLABELLED, Conversation, Corpus
from cmath_jax.data.sources import counts
from cmath_jax.data.sources.layouts import describe
from cmath_jax.data.sources.published import read_published
from cmath_jax.data.tools.publish import write_published
from cmath_jax.errors import InputError


@pytest.fixture(autouse=True)
def no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "COUNTS", dict.fromkeys(counts.COUNTS, ()))


def change(corpus: Corpus, split: str, edit: Callable[[Conversation], Conversation]) -> Corpus:
    """With the last conversation of a split changed."""
    *others, last = corpus.splits[split]
    return replace(corpus, splits={**corpus.splits, split: [*others, edit(last)]})


def without(c: Conversation, m: str, row: int) -> Conversation:
    x_nd = c.features[m].copy()
    x_nd[row] = np.nan
    return replace(c, features={**c.features, m: x_nd})


@pytest.mark.parametrize(("name", "letter"), [("meld", "D"), ("iemocap", "A")])
def test_what_is_written_is_read_again(tmp_path: Path, name: str, letter: str) -> None:
    corpus = sample(name)
    path = write_published(corpus, tmp_path / "new" / "features.pkl")
    read = read_published(path)
    assert describe(path).name == letter
    assert read.fingerprint() == corpus.fingerprint()
    for split in SPLITS:
        for x, y in zip(read.splits[split], corpus.splits[split], strict=True):
            assert (x.id, x.utterance_ids, x.sentences) == (y.id, y.utterance_ids, y.sentences)
    assert [entry.name for entry in path.parent.iterdir()] == ["features.pkl"]


@pytest.mark.parametrize(("name", "letter"), [("meld", "D"), ("iemocap", "A")])
def test_the_tuple_is_that_of_the_published_files(tmp_path: Path, name: str, letter: str) -> None:
    corpus = sample(name)
    with open(write_published(corpus, tmp_path / "features.pkl"), "rb") as file:
        written = pickle.load(file, encoding="latin1")  # as loaders of others do
    expected = content(letter, corpus)
    assert len(written) == len(expected)
    for k in (0, 2, 6):  # names, labels, sentences
        assert written[k] == expected[k]
    for k in (3, 4, 5):
        for id, x_nd in expected[k].items():
            assert written[k][id].dtype == np.float32
            np.testing.assert_array_equal(written[k][id], x_nd)
    np.testing.assert_equal(written[1], {id: np.asarray(x).tolist() for id, x in expected[1].items()})
    assert [sorted(written[k]) for k in (7, 8)] == [sorted(expected[k]) for k in (7, 8)]


def test_old_and_new_numpy_read_it(tmp_path: Path) -> None:
    data = write_published(sample("meld"), tmp_path / "features.pkl").read_bytes()
    assert b"numpy._core" not in data and data.count(b"cnumpy.core.multiarray\n") == 1


def test_words_and_names_that_are_not_there(tmp_path: Path) -> None:
    corpus = sample("meld")
    bare = {s: [replace(c, utterance_ids=(), sentences=()) for c in corpus.splits[s]] for s in SPLITS}
    read = read_published(write_published(replace(corpus, splits=bare), tmp_path / "features.pkl"))
    assert read.fingerprint() == corpus.fingerprint()
    assert read.splits["test"][0].utterance_ids[:2] == ("dia1153_utt0", "dia1153_utt1")
    assert set(read.splits["test"][0].sentences) == {""}


def test_the_order_is_that_of_the_ids(tmp_path: Path) -> None:
    corpus = sample("meld")
    turned = replace(corpus, splits={split: [*reversed(corpus.splits[split])] for split in SPLITS})
    assert read_published(write_published(turned, tmp_path / "x.pkl")).fingerprint() == corpus.fingerprint()


@pytest.mark.parametrize("name", ["meld", "of my own"])
def test_a_part_of_a_data_set_is_written_if_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.undo()  # with the published counts
    path = tmp_path / "features.pkl"
    corpus = replace(sample("meld"), name=name)  # in a published file it is called meld
    with pytest.raises(InputError, match="the counts are not those of meld: train conversations: expected 1038"):
        write_published(corpus, path)
    assert not path.exists()
    assert write_published(corpus, path, check_counts="warn") == path
    with pytest.raises(InputError, match="the counts are not those of meld"):
        read_published(path)


MELD = [
    (lambda c: replace(c, classes=tuple(sorted(c.classes))), r"meld: its classes are anger, disgust.* in their order"),
    (
        lambda c: replace(
            c, splits={s: [replace(x, features={"t": x.features["t"]}) for x in c.splits[s]] for s in SPLITS}
        ),
        "it has no audio and no visual features, but the layout of meld in published files has all three",
    ),
    (
        lambda c: change(c, "test", lambda x: without(x, "v", 1)),
        "meld test, conversation '1432', utterance 1: its visual is missing, for which the layout",
    ),
    (
        lambda c: change(c, "train", lambda x: replace(x, labels=np.append(x.labels[:-1], UNLABELLED))),
        "meld train, conversation '1038', utterance . it has no label, but the layout",
    ),
    (lambda c: change(c, "train", lambda x: replace(x, id="x")), "conversation 'x': the id is no number"),
    (lambda c: change(c, "train", lambda x: replace(x, id="07")), "conversation '07': the id is no number"),
    (lambda c: change(c, "train", lambda x: replace(x, id="1040")), "'1040': .* by the ids, 1039 to 1152 for validat"),
    (lambda c: change(c, "validation", lambda x: replace(x, id="7")), "'7': published files tell validation from"),
]
IEMOCAP = [
    (lambda c: replace(c, classes=CLASSES["iemocap4"], lazy=True), "its classes are happy, sad, neutral, angry, but"),
    (lambda c: replace(c, speakers=3), "it has 3 speaker indices, but the layout of iemocap .* has two, M and F"),
    (lambda c: change(c, "test", lambda x: replace(x, id="12")), "conversation '12': the id is a number"),
    (
        lambda c: replace(c, splits={**c.splits, "train": c.splits["train"][1:], "validation": c.splits["train"][:1]}),
        "it has 1 validation conversations, for which the layout of iemocap in published files has no place",
    ),
]


@pytest.mark.parametrize(
    ("name", "edit", "message"), [*(("meld", *x) for x in MELD), *(("iemocap", *x) for x in IEMOCAP)]
)
def test_what_a_file_cannot_hold(tmp_path: Path, name: str, edit: Callable[[Corpus], Corpus], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("utterance . ", r"utterance \d: ")):
        write_published(edit(sample(name)), tmp_path / "features.pkl")
    assert not [*tmp_path.iterdir()]


def test_a_file_that_would_be_read_as_something_else(tmp_path: Path) -> None:
    corpus = sample("iemocap", dims=(1024, 100, 512))  # the dimensions by which iemocap4 is known
    splits = {s: [replace(c, labels=c.labels % 4) for c in corpus.splits[s]] for s in SPLITS}
    with pytest.raises(InputError, match="would be read as another corpus, GraphSmile IEMOCAP4"):
        write_published(replace(corpus, splits=splits), tmp_path / "features.pkl")
    assert not [*tmp_path.iterdir()]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "features.pkl").write_text("mine")
    with pytest.raises(InputError, match=r"features\.pkl is there already: name a new file"):
        write_published(sample("meld"), tmp_path / "features.pkl")
    with pytest.raises(InputError, match=r"x\.pkl: cannot be written"):
        write_published(sample("meld"), tmp_path / "features.pkl" / "x.pkl")
    assert (tmp_path / "features.pkl").read_text() == "mine"


@pytest.mark.parametrize("rows", [slice(1, 2), slice(None)])
def test_a_row_of_nan_in_a_published_file_is_refused(tmp_path: Path, rows: slice) -> None:
    def vectors(x_nd: np.ndarray) -> Any:
        x_nd = x_nd.copy()
        x_nd[rows] = np.nan
        return x_nd

    path = dump(tmp_path / "meld.pkl", content("D", sample("meld"), vectors))
    first = MELD_IDS["train"][0]
    place = rf"meld\.pkl: meld train, conversation '{first}', utterance {rows.start or 0}: text feature 0 is nan$"
    with pytest.raises(InputError, match=place):
        read_published(path)
