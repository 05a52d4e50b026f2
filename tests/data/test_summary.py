"""Corpora and conversations say what is in them, on a terminal and in a notebook."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cmath_jax.data.corpus import SPLITS, UNLABELLED, Conversation, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.sources.simulate import Simulation
from cmath_jax.data.tools.check import _summary


def talk(id: str, labels: Sequence[int], speakers: Sequence[int], sentences: tuple[str, ...] = ()) -> Conversation:
    n = len(labels)
    features = {"t": np.ones((n, 4), np.float32), "a": np.ones((n, 3), np.float32)}
    return Conversation(id, features, np.array(speakers, np.int32), np.array(labels, np.int32), (), sentences)


@pytest.fixture
def corpus() -> Corpus:
    long = talk("long", [0, 1, UNLABELLED, 1], [0, 1, 0, 2], ("<b>Hi</b>", "so & so", "", "no"))
    long.features["a"][1:3] = np.nan
    splits = {"train": [long, talk("two", [1, 1], [0, 0])], "validation": [], "test": [talk("three", [0], [0])]}
    return Corpus("tiny", ("joy", "anger"), splits, 3, "made up", "", {"t": {"encoder": "minilm", "weights_hash": "0"}})


def test_a_summary_counts(corpus: Corpus) -> None:
    summary = corpus.summary()
    rows = {row[0]: row[1:] for row in summary.rows}
    assert rows[""] == SPLITS
    assert rows["conversations"] == ("2", "-", "1")
    assert rows["utterances"] == ("6", "-", "1")
    assert rows["labelled"] == ("5", "-", "1")
    assert rows["length, most"] == ("4", "-", "1")
    assert rows["speakers of a conversation, most"] == ("3", "-", "1")
    assert rows["class joy"] == ("1 (20.0 %)", "-", "1 (100.0 %)")
    assert rows["class anger"] == ("4 (80.0 %)", "-", "0 (0.0 %)")
    assert rows["utterances without audio"] == ("2", "-", "0")
    assert rows["utterances without text"] == ("0", "-", "0")
    assert summary.facts["text"] == "4 features; encoder minilm"
    assert summary.facts["audio"] == "3 features; not known how extracted"


def test_text_and_html_say_the_same(corpus: Corpus) -> None:
    summary = corpus.summary()
    text, html = str(summary), summary._repr_html_()
    assert text.startswith("tiny: 3 conversations (2 train, 0 validation, 1 test), 2 classes, text 4, audio 3\n")
    for words in (*summary.facts, *summary.facts.values(), *(cell for row in summary.rows for cell in row)):
        assert words in text and words in html
    assert corpus._repr_html_() == html


def test_reprs_are_a_line(corpus: Corpus) -> None:
    long = corpus.splits["train"][0]
    assert repr(corpus) == (
        "<Corpus 'tiny': 3 conversations (2 train, 0 validation, 1 test), 2 classes, text 4, audio 3>"
    )
    assert repr(long) == "<Conversation 'long': 4 utterances of 3 speakers, 3 labelled, text 4, audio 3>"
    assert repr(corpus.splits["test"][0]).startswith("<Conversation 'three': 1 utterance of 1 speaker, 1 labelled")


def test_a_conversation_is_shown_line_by_line_and_escaped(corpus: Corpus) -> None:
    html = corpus.splits["train"][0]._repr_html_()
    assert html.count("<tr>") == 5
    assert "&lt;b&gt;Hi&lt;/b&gt;" in html and "<b>" not in html and "so &amp; so" in html
    assert html.count(">audio</td>") == 2  # missing
    bare = corpus.splits["train"][1]._repr_html_()
    assert "text</th>" not in bare and "missing</th>" not in bare
    hostile = replace(corpus.splits["test"][0], id="<img src=x>")
    assert "<img" not in hostile._repr_html_()


def test_a_lazy_corpus_is_not_read_for_its_repr() -> None:
    class Unread(list[Conversation]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: Any) -> Any:
            raise AssertionError

    lazy = Corpus("<big>", ("a", "b"), dict.fromkeys(SPLITS, Unread()), 2, lazy=True)
    assert repr(lazy) == "<Corpus '<big>': 9 conversations (3 train, 3 validation, 3 test), 2 classes>"
    assert "&lt;big&gt;" in lazy._repr_html_()


def test_every_source_can_be_summed_up() -> None:
    corpus = load_corpus("simulated", simulation=Simulation(train=4, validation=2, test=2))
    assert "8 conversations" in str(corpus.summary())
    assert corpus.splits["test"][0]._repr_html_()


def test_check_says_the_same_counts(corpus: Corpus) -> None:
    from cmath_jax.data.tools.check import _checked

    table = str(corpus.summary()).partition("\n\n")[2]
    assert table in _summary(_checked(corpus))
