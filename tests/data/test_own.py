"""A folder of one's own conversations: what is read of it, what is written, and every message about what is wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from own_samples import LINES, NAN, assert_equal, odd_corpus, put

from cmath_jax.data.corpus import SPLITS, UNLABELLED, Corpus
from cmath_jax.data.sources import arrays, own
from cmath_jax.data.sources.own import read_folder, read_own, write_own, write_transcripts
from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return put(tmp_path / "mine", LINES)


# What is read.


def test_what_a_folder_says(folder: Path) -> None:
    corpus = read_own(folder)
    assert (corpus.name, corpus.classes, corpus.speakers) == ("mine", ("anger", "joy"), 3)
    assert (corpus.license, corpus.extraction, corpus.dims) == ("", {}, {"t": 2})
    assert {split: [c.id for c in corpus.splits[split]] for split in SPLITS} == {
        "train": ["a", "c"],
        "validation": [],
        "test": ["b"],
    }
    a, c = corpus.splits["train"]
    b = corpus.splits["test"][0]
    assert [x.speakers.tolist() for x in (a, b, c)] == [[0, 1, 0], [2], [0, 1]]
    assert [x.labels.tolist() for x in (a, b, c)] == [[1, 0, UNLABELLED], [1], [1, UNLABELLED]]
    assert (a.sentences, b.sentences, c.sentences) == (("Hi.", "", ""), (), ())
    assert (a.utterance_ids, c.utterance_ids) == (("a0", "", ""), ())
    np.testing.assert_array_equal(c.features["t"], np.float32([[4, 4.1], [5, 5.1]]))


def test_corpus_json_says_more(tmp_path: Path) -> None:
    stated = {"name": "n", "classes": ["joy", "calm", "anger"], "speakers": 5, "license": "L", "source": "S"}
    corpus = read_own(put(tmp_path / "mine", LINES, **stated))
    assert (corpus.name, corpus.classes, corpus.speakers) == ("n", ("joy", "calm", "anger"), 5)
    assert (corpus.license, corpus.source) == ("L", "S")
    assert corpus.splits["train"][0].labels.tolist() == [0, 2, UNLABELLED]


def test_two_speakers_are_the_least(tmp_path: Path) -> None:
    lines = [{"id": "a", "split": "train", "utterances": [{"speaker": 0, "label": x} for x in ("joy", "anger")]}]
    assert read_own(put(tmp_path / "mine", lines)).speakers == 2
    assert read_own(put(tmp_path / "mine", lines, speakers=1)).speakers == 1


def test_what_is_missing_is_nan(folder: Path) -> None:
    np.savez(folder / "audio.npz", b=np.ones((1, 3)), c=np.float64([[1, 2, 3], [NAN] * 3]))
    corpus = read_own(folder)
    assert corpus.dims == {"t": 2, "a": 3}
    assert list(corpus.splits["train"][0].features) == ["t", "a"]
    np.testing.assert_array_equal(corpus.splits["train"][0].features["a"], np.full((3, 3), NAN))
    np.testing.assert_array_equal(corpus.splits["train"][1].features["a"], [[1, 2, 3], [NAN] * 3])


def test_the_settings_of_extraction_are_of_the_modalities_that_are_there(folder: Path) -> None:
    (folder / "features.json").write_text(json.dumps({"text": {"layer": -1}, "audio": {"set": "IS10"}}))
    assert read_own(folder).extraction == {"t": {"layer": -1}}


def test_a_folder_can_be_read_bit_by_bit(folder: Path) -> None:
    corpus = read_own(folder, lazy=True)
    assert corpus.lazy
    assert_equal(corpus, read_own(folder))
    assert [c.id for c in corpus.splits["train"][:1]] == ["a"] and corpus.splits["train"][-1].id == "c"


# What is wrong.


def line(i: int, **changes: Any) -> list[dict[str, Any]]:
    lines = json.loads(json.dumps(LINES))
    lines[i] |= changes
    return lines


def label(name: str) -> list[dict[str, Any]]:
    return line(2, utterances=[{"speaker": 0}, {"speaker": 0, "label": name}])


@pytest.mark.parametrize(
    ("lines", "stated", "message"),
    [
        (line(2, id="a"), {}, r"mine/conversations\.jsonl, line 3, conversation 'a': the same id is also in line 1$"),
        (
            line(1, split=None),
            {},
            r"conversations\.jsonl, line 2, conversation 'b': its split is missing; it is one of",
        ),
        (line(1, utterances=[]), {}, r"conversations\.jsonl, line 2, conversation 'b': it is empty"),
        (
            label("Joy"),
            {"classes": ["joy", "anger"]},
            r"line 3, conversation 'c', utterance 1: label 'Joy' is none of .*did you mean joy\?",
        ),
        (
            label("calm"),
            {"classes": ["joy", "anger"]},
            r"label 'calm' is none of the classes; corpus\.json has joy, anger$",
        ),
        (label(""), {}, "line 3, conversation 'c', utterance 1: label is empty; leave it out"),
        ([], {}, r"conversations\.jsonl: it holds no conversations"),
        (LINES[1:], {}, r"conversations\.jsonl: it has only one label, 'joy', and corpus\.json names no"),
        (
            line(0, utterances=[{"speaker": 0}])[:1],
            {},
            r"conversations\.jsonl: it has no labels, and corpus\.json names no classes",
        ),
        (LINES, {"classes": ["joy", "anger", "joy"]}, r"corpus\.json: classes are joy, anger, joy: .* all different"),
        (LINES, {"classes": ["joy", "anger", 3]}, r"corpus\.json: the class 3 is no name"),
        (LINES[1:2], {"classes": ["joy"]}, r"corpus\.json: classes are joy: they must be two at least"),
        (LINES, {"classes": "joy"}, r"corpus\.json: classes is 'joy', not a list of names"),
        (LINES, {"class": []}, r"corpus\.json: unknown field 'class'; did you mean \"classes\"\?"),
        (
            LINES,
            {"x": []},
            r"corpus\.json: unknown field 'x'; there are \"name\", \"classes\", \"speakers\", \"license\", \"source\"",
        ),
        (LINES, {"name": 3}, r"corpus\.json: name is 3, not text"),
        (LINES, {"speakers": True}, r"corpus\.json: speakers is True, not a number"),
        (LINES, {"speakers": 0}, r"corpus\.json: speakers is 0: one is the least"),
        (LINES, {"speakers": 2**31}, r"corpus\.json: speakers is 2147483648: there cannot be as many"),
        (LINES, {"source": None}, r"corpus\.json: source is None, not text"),
        (LINES, {"classes": []}, r"corpus\.json: classes is \[\], not a list of names"),
        (LINES, {"check_counts": "no"}, r"corpus\.json: \"check_counts\" is 'no'; it can be error or warn"),
        (
            LINES,
            {"speakers": 1},
            r"line 1, conversation 'a', utterance 1: speaker 'Ann' has the index 1; corpus\.json says that there are 1",
        ),
        (
            line(1, utterances=[{"speaker": 0}, {"speaker": 4711}]),
            {},
            r"line 2, conversation 'b', utterance 1: speaker 4711 .*write a name as text",
        ),
    ],
)
def test_conversations_that_are_wrong(
    tmp_path: Path, lines: list[dict[str, Any]], stated: dict[str, Any], message: str
) -> None:
    put(tmp_path / "mine", lines, features=False, **stated)
    for read in (read_own, read_folder):
        with pytest.raises(InputError, match=message):
            read(tmp_path / "mine")


def test_a_large_index_is_one_where_corpus_json_says_so(tmp_path: Path) -> None:
    lines = line(1, utterances=[{"speaker": 0}, {"speaker": 4711}])
    assert read_own(put(tmp_path / "mine", lines, speakers=5000)).speakers == 5000


@pytest.mark.parametrize("text", ["{", "[1]", '{"name": NaN}', '{"name": "\\ud800"}', "[" * 100_000])
@pytest.mark.parametrize("name", ["corpus.json", "features.json"])
def test_json_that_is_wrong(folder: Path, text: str, name: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(
        InputError, match=rf"mine/{name}: (not JSON|not Unicode text|not a JSON object: it holds \[1\]$)"
    ):
        read_own(folder)


@pytest.mark.parametrize("settings", [{"t": {}}, {"text": 3}, {"speech": {}}])
def test_settings_that_are_wrong(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "features.json").write_text(json.dumps(settings))
    with pytest.raises(
        InputError, match=rf"features\.json: '{next(iter(settings))}': it holds the settings, an object"
    ):
        read_own(folder)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"is a folder without conversations\.jsonl"):
        read_own(tmp_path)
    for name in ("none", "file"):
        with pytest.raises(InputError, match=rf"{name} is no folder with conversations\.jsonl"):
            read_own(tmp_path / name)


def test_no_features(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine: it has no features .* `python -m cmath_jax\.extract .*mine --text`"):
        read_own(put(tmp_path / "mine", LINES, features=False))


# What is written.


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    corpus = odd_corpus()
    assert write_own(corpus, tmp_path / "new") == tmp_path / "new"
    assert_equal(read_own(tmp_path / "new"), corpus)
    assert_equal(read_own(write_own(read_own(tmp_path / "new"), tmp_path / "again")), corpus)
    for name in ("conversations.jsonl", "corpus.json", "features.json", "text.npz", "audio.npz", "visual.npz"):
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_part_of_the_modalities_is_written(tmp_path: Path) -> None:
    corpus = odd_corpus()
    splits = {s: [replace(c, features={"v": c.features["v"]}) for c in corpus.splits[s]] for s in SPLITS}
    corpus = replace(corpus, splits=splits, extraction={})
    folder = write_own(corpus, tmp_path / "new")
    written = ["README.md", "conversations.jsonl", "corpus.json", "visual.npz"]
    assert sorted(path.name for path in folder.iterdir()) == written
    assert_equal(read_own(folder), corpus)


def test_numpy_reads_what_is_written(tmp_path: Path) -> None:
    corpus = odd_corpus()
    write_own(corpus, tmp_path / "new")
    with np.load(tmp_path / "new" / "audio.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["file"], corpus.splits["train"][0].features["a"])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_equal(read_own(write_own(odd_corpus(), tmp_path / "empty")), odd_corpus())
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for name in ("file", "full", "empty"):
        with pytest.raises(InputError, match=f"{name} is there already, and is not empty: name a new folder"):
            write_own(odd_corpus(), tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("target", ["/", ".", "", "./", "x/..", "../here"])
def test_a_folder_that_cannot_be_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    """The current folder could be replaced by another of its name, but not for who is in it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match=r"/\S* is there already: name a new folder"):
        write_own(odd_corpus(), target)
    assert [*tmp_path.rglob("*")] == [tmp_path / "here"]
    assert Path.cwd() == tmp_path / "here"


def test_a_corpus_without_a_name_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the corpus has no name"):
        write_own(replace(odd_corpus(), name=""), tmp_path / "new")
    assert not [*tmp_path.iterdir()]


def unwritable(change: Callable[[Corpus], Corpus]) -> Corpus:
    return change(odd_corpus())


def renamed(corpus: Corpus, id: str) -> Corpus:
    test = [replace(corpus.splits["test"][0], id=id), *corpus.splits["test"][1:]]
    return replace(corpus, splits={**corpus.splits, "test": test})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: renamed(c, "a\0b"), "the id cannot be a key of an .npz archive"),
        (lambda c: renamed(c, ""), "the conversation has no id"),
        (lambda c: renamed(c, "file"), "the same id is also in 'train'"),
        (lambda c: replace(c, classes=("x",) * len(c.classes)), "odd one: classes are x, x, .* all different"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, change: Callable[[Corpus], Corpus], message: str
) -> None:
    corpus = replace(odd_corpus(), lazy=True)
    with pytest.raises(InputError, match=message):
        write_own(change(corpus), tmp_path / "new")
    assert not [*tmp_path.iterdir()]


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def failing(archive: ZipFile, id: str, x_nd: np.ndarray) -> None:
        written.append(id)
        if len(written) > 5:
            raise KeyboardInterrupt
        arrays.append_array(archive, id, x_nd)

    monkeypatch.setattr(own, "append_array", failing)
    with pytest.raises(KeyboardInterrupt):
        write_own(odd_corpus(), tmp_path / "new")
    assert len(written) == 6 and not [*tmp_path.iterdir()]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/new: cannot be written: Not a directory"):
        write_own(odd_corpus(), tmp_path / "file" / "new")


def test_transcripts_are_written_without_features(tmp_path: Path) -> None:
    talk = Transcript("a", (Utterance("Ann", "Hi", "joy", "u", 1.0, 2.0, "a.wav", "v.mp4"), Utterance("Bob")), "train")
    write_transcripts([talk], tmp_path / "new", {"name": "n", "classes": ["joy", "anger"]})
    found = read_folder(tmp_path / "new")
    assert (found.transcripts, found.name, found.classes) == ((talk,), "n", ("joy", "anger"))
