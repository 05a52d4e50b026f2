"""Every form in which files hold ids, words and vectors is read, and every defect is an `InputError` with its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import content, corpus, dump

from cmath_jax.data.sources import values
from cmath_jax.data.sources.published import read_published
from cmath_jax.errors import InputError

VECTORS: dict[str, Callable[[np.ndarray], Any]] = {
    "list of arrays": list,
    "tuple of arrays": tuple,
    "list of lists": np.ndarray.tolist,
    "array": np.asarray,
    "fortran array": np.asfortranarray,
    "list of lists of numpy numbers": lambda x_nd: [list(x_d) for x_d in x_nd],
    "float16": lambda x_nd: list(x_nd.astype(np.float16)),
    "float64": lambda x_nd: x_nd.astype(np.float64),
    "big-endian": lambda x_nd: x_nd.astype(">f4"),
}


@pytest.mark.parametrize("form", VECTORS)
def test_forms_of_features(form: str) -> None:
    x_nd = np.arange(-6, 6, dtype=np.float32).reshape(3, 4) / 8
    read = values.features(VECTORS[form](x_nd), "here", "text")
    assert read.dtype == np.float32 and read.flags.c_contiguous
    np.testing.assert_array_equal(read, x_nd)


def test_forms_of_ids() -> None:
    for id in (7, np.int32(7), np.int64(7), "7", b"7", np.str_("7")):
        assert values.conversation_id(id, "here") == 7
    for id in ("Ses01", b"Ses01", np.str_("Ses01")):
        assert values.conversation_id(id, "here") == "Ses01"
    for id in ("-7", "7.0", "\u00b2", "9" * 5000):
        assert values.conversation_id(id, "here") == id
    for wrong in (True, 1.5, None, (7,)):
        with pytest.raises(InputError, match=r"^here: the conversation id .* is not an integer or a string"):
            values.conversation_id(wrong, "here")


def test_forms_of_words() -> None:
    caf = "caf\u00e9"
    stored = [caf.encode(), caf.encode("cp1252")]  # UTF-8 first, and else cp1252
    for form in ([caf], (caf,), np.array([caf]), *([data] for data in stored), *(np.array([data]) for data in stored)):
        (word,) = values.words(form, "here", "sentences")
        assert word == caf and type(word) is str
    assert values.words([b"it\x92s", b"\x81"], "here", "sentences") == ("it\u2019s", "\x81")
    assert values.conversation_id(b"caf\xc3\xa9", "here") == values.conversation_id(b"caf\xe9", "here") == "caf\u00e9"
    assert values.words(["a\ud800"], "here", "sentences") == ("a?",)  # no file and no terminal takes a lone surrogate


def test_any_other_letter_is_the_second_speaker() -> None:
    assert values.letters(["M", "m", "F", b"M", "X"], "here").tolist() == [0, 1, 1, 0, 1]


# Defects inside a file: each is made in one conversation of an otherwise sound file.


def set_row(slot: int, value: Any) -> Callable[[list[Any], Any], None]:
    """Replace what the second utterance of a conversation has in a slot."""

    def change(item: list[Any], id: Any) -> None:
        item[slot][id] = list(item[slot][id])
        item[slot][id][1] = value

    return change


def set_all(slot: int, value: Any) -> Callable[[list[Any], Any], None]:
    """Replace what a conversation has in a slot."""
    return lambda item, id: item[slot].update({id: value})


def drop(slot: int) -> Callable[[list[Any], Any], None]:
    return lambda item, id: item[slot].pop(id)


def empty(item: list[Any], id: Any) -> None:
    for slot in range(7):
        item[slot][id] = []


def wider(item: list[Any], id: Any) -> None:
    item[4][id] = np.zeros((len(item[2][id]), 5))


NAN, INF = float("nan"), float("inf")
DEFECTS = {  # slots of A and D: 0 ids, 1 speakers, 2 labels, 3 text, 4 audio, 5 visual, 6 sentences
    "nan": (set_row(4, [1, NAN, 2]), "utterance 1: audio feature 1 is nan"),
    "inf": (set_row(5, [INF, 0]), "utterance 1: visual feature 0 is inf"),
    "none": (set_row(3, [1, None, 2, 3]), "utterance 1: text has a NoneType among its numbers"),
    "beyond float32": (set_row(4, [1e300, 0, 0]), "utterance 1: audio feature 0 is inf"),
    "beyond float32, array": (set_row(4, np.array([1e300, 0, 0])), "utterance 1: audio feature 0 is inf"),
    "beyond float": (set_row(4, [10**400, 0, 0]), "utterance 1: audio"),
    "text for numbers": (set_row(3, ["a", "b", "c", "d"]), "utterance 1: text has a str among its numbers"),
    "digits for numbers": (set_row(3, np.array(["1", "2", "3", "4"])), "utterance 1: text is"),
    "nested numbers": (set_row(5, [[1, 2], [3, 4]]), "utterance 1: visual has a list among its numbers"),
    "number for a vector": (set_row(5, 3.0), "utterance 1: visual is 3.0, not a vector"),
    "matrix for a vector": (set_row(5, np.zeros((1, 2))), "utterance 1: visual is .*not a vector"),
    "empty vector": (set_row(5, np.zeros(0)), "utterance 1: visual is .*not a vector"),
    "ragged": (set_row(4, [1.0, 2.0]), "utterance 1: audio has 2 numbers, the utterances before have 3"),
    "other width": (wider, "audio has 5 features, the conversations before have 3"),
    "fewer rows": (set_all(5, np.zeros((1, 2))), "visual has shape .1, 2., but there are labels for"),
    "no rows": (set_all(5, []), "visual has shape .0, 0., but there are labels for"),
    "not rows": (set_all(3, 7), "text is a int, not a list with an item per utterance"),
    "no text": (drop(3), "it has no text1"),
    "no audio": (drop(4), "it has no audio"),
    "no visual": (drop(5), "it has no visual"),
    "no speakers": (drop(1), "it has no speakers"),
    "no sentences": (drop(6), "it has no sentences"),
    "sentence is no text": (set_row(6, 3), "utterance 1: sentences has 3, which is not text"),
    "missing sentence": (lambda item, id: item[6][id].pop(), "sentences, but labels for"),
    "missing utterance id": (lambda item, id: item[0][id].pop(), "utterance_ids, but labels for"),
    "missing speaker": (lambda item, id: item[1].update({id: item[1][id][:-1]}), "speakers have shape"),
    "unlabelled": (set_row(2, -1), "utterance 1: label -1 is not one of 0..[56]"),
    "label too high": (set_row(2, 9), "utterance 1: label 9 is not one of 0..[56]"),
    "huge label": (set_row(2, 2**80), f"utterance 1: label {2**80} is not one of"),
    "float label": (set_row(2, 1.0), "utterance 1: label 1.0 is not an integer"),
    "text label": (set_row(2, "joy"), "utterance 1: label 'joy' is not an integer"),
    "bool label": (set_row(2, True), "utterance 1: label True is not an integer"),
    "empty": (empty, "it is empty"),
}
MELD_DEFECTS = {
    "no speaker": (set_row(1, [0, 0, 0]), "utterance 1: speakers has .*not one-hot"),
    "two speakers": (set_row(1, [1, 0, 1]), "utterance 1: speakers has .*not one-hot"),
    "half a speaker": (set_row(1, [0.5, 0, 0.5]), "utterance 1: speakers has .*not one-hot"),
    "speaker and a half": (set_row(1, [1, 0, 0.5]), "utterance 1: speakers has .*not one-hot"),
    "nan speaker": (set_row(1, [1, NAN, 0]), "utterance 1: speakers has .*not one-hot"),
    "speaker of 4": (set_all(1, np.eye(4)), "speakers has vectors of 4 numbers, in the conversations before 3"),
    "letters": (set_all(1, ["M", "F", "M"]), "utterance 0: speakers is 'M', not a vector"),
}
IEMOCAP_DEFECTS = {"speaker is no text": (set_row(1, None), "utterance 1: speakers has None, which is not text")}
CASES = [
    *(("meld", name, *case) for name, case in {**DEFECTS, **MELD_DEFECTS}.items()),
    *(("iemocap", name, *case) for name, case in {**DEFECTS, **IEMOCAP_DEFECTS}.items()),
]


@pytest.mark.parametrize(("dataset", "name", "change", "named"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES])
def test_defects(tmp_path: Path, dataset: str, name: str, change: Callable[[Any, Any], None], named: str) -> None:
    letter, id = ("D", 1038) if dataset == "meld" else ("A", "Ses02F_impro02")
    item = content(letter, corpus(dataset))
    change(list(item), id)
    path = dump(tmp_path / "x.pkl", item)
    with pytest.raises(InputError, match=named) as error:
        read_published(path)
    assert str(path) in str(error.value) and str(id) in str(error.value)
