"""Every published layout is read for what it is, and every defect of a file is an `InputError` that names its place."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import IEMOCAP_IDS, MELD_IDS, ORDER, content, corpus, dump, dump_python2

from cmath_jax.data import published
from cmath_jax.data.conversations import SPLITS, Corpus
from cmath_jax.data.published import describe, draw_validation, published12, read_published
from cmath_jax.errors import InputError

PROJECT = Path(__file__).parents[1]
REAL = PROJECT.parent / "shared" / "data" / "meld_minilm_simulated_av.pkl"
DATASET = {"A": "iemocap", "B": "iemocap", "K": "iemocap4", "D": "meld", "E": "iemocap", "F": "meld", "J": "meld"}
ALL_THREE = list(DATASET)
WITH_VALIDATION = {"train": ["Ses01F_a", "Ses02F_a"], "validation": ["Ses01M_a"], "test": ["Ses05F_a"]}
REAL_COUNTS = published._COUNTS
DIMS = {"text": 4, "audio": 3, "visual": 2}


@pytest.fixture(autouse=True)
def no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of these tests are far smaller than the published ones."""
    monkeypatch.setattr(published, "_COUNTS", dict.fromkeys(REAL_COUNTS, ()))


def assert_equal(read: Corpus, source: Corpus, ids_and_words: tuple[str, ...] = ("utterance_ids", "sentences")) -> None:
    assert (read.name, read.classes, read.speakers) == (source.name, source.classes, source.speakers)
    assert read.fingerprint() == source.fingerprint()  # splits, order, ids, speakers, labels, features
    for split in SPLITS:
        for ours, theirs in zip(read.splits[split], source.splits[split], strict=True):
            assert all(x_nd.dtype == np.float32 for x_nd in ours.features.values())
            assert ours.speakers.dtype == ours.labels.dtype == np.int32
            assert all(getattr(ours, name) == getattr(theirs, name) for name in ids_and_words)


@pytest.mark.parametrize("letter", ALL_THREE)
def test_every_layout_with_three_modalities(tmp_path: Path, letter: str) -> None:
    source = corpus(DATASET[letter])
    path = dump(tmp_path / "any_name.pkl", content(letter, source))
    read = read_published(path)
    assert_equal(read, source)
    assert read.source.endswith(", any_name.pkl") and f"({len(ORDER[letter].split())}-tuple" in read.source
    assert_equal(read_published(str(path), dataset=DATASET[letter]), source)


def test_source_names_layouts_by_their_dimensions(tmp_path: Path) -> None:
    for letter, dims, expected in (
        ("A", (100, 1582, 342), "MMGCN IEMOCAP layout (9-tuple), x.pkl"),
        ("B", (100, 100, 512), "conv-emotion IEMOCAP layout (9-tuple), x.pkl"),
        ("K", (1024, 100, 512), "GraphSmile IEMOCAP4 layout (9-tuple), x.pkl"),
        ("D", (600, 300, 342), "MMGCN MELD layout (10-tuple), x.pkl"),
        ("E", (1024, 1582, 342), "SDT IEMOCAP layout (12-tuple), x.pkl"),
        ("F", (1024, 300, 342), "SDT MELD layout (13-tuple), x.pkl"),
        ("J", (1024, 300, 342), "GraphSmile MELD layout (14-tuple), x.pkl"),
        ("F", (384, 300, 342), "SDT MELD layout (13-tuple, dims 384/300/342), x.pkl"),
    ):
        path = dump(tmp_path / "x.pkl", content(letter, corpus(DATASET[letter], dims=dims)))
        layout = describe(path)
        assert (layout.name, layout.dataset, layout.dims) == (letter, DATASET[letter], dims)
        assert read_published(path).source == expected and layout.combines_with == ("G", "H")
    six_classes = dump(tmp_path / "x.pkl", content("K", corpus("iemocap", dims=(1024, 100, 512))))
    assert describe(six_classes).title == "MMGCN IEMOCAP layout (9-tuple, dims 1024/100/512)"


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
CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {"list": list, "set": set, "tuple": tuple, "frozenset": frozenset}
ID_TYPES: dict[str, Callable[[Any], Any]] = {"str": str, "int64": np.int64, "int32": np.int32}


@pytest.mark.parametrize("form", VECTORS)
def test_forms_of_features(tmp_path: Path, form: str) -> None:
    source = corpus("iemocap")
    assert_equal(read_published(dump(tmp_path / "x.pkl", content("A", source, vectors=VECTORS[form]))), source)


@pytest.mark.parametrize("form", [*CONTAINERS, "array", "dict keys"])
def test_forms_of_splits(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, letter in (("iemocap", "A"), ("meld", "D")):
        source = corpus(name)
        container = CONTAINERS.get(form, np.array if form == "array" else dict.fromkeys)
        item = content(letter, source, split=container)
        path = tmp_path / "x.pkl"
        if form == "dict keys":  # exist in memory only
            item = tuple(x.keys() if len(x) < 7 and None in x.values() else x for x in item)
            monkeypatch.setattr(published.safe_pickle, "load", lambda _path, item=item: item)
        else:
            dump(path, item)
        assert_equal(read_published(path), source)


@pytest.mark.parametrize("form", ID_TYPES)
def test_forms_of_ids(tmp_path: Path, form: str) -> None:
    source = corpus("meld")  # has the ids 2 and 10, which sort otherwise as text
    assert_equal(read_published(dump(tmp_path / "x.pkl", content("F", source, id_type=ID_TYPES[form]))), source)


def test_bytes_for_text(tmp_path: Path) -> None:
    source = corpus("iemocap")
    item = list(content("A", source, id_type=str.encode))
    item[0], item[1], item[6] = (
        {id: [w.encode("latin1") for w in words] for id, words in item[k].items()} for k in (0, 1, 6)
    )
    assert_equal(read_published(dump(tmp_path / "x.pkl", tuple(item))), source)


@pytest.mark.parametrize("protocol", range(6))
def test_protocols(tmp_path: Path, protocol: int) -> None:
    source = corpus("iemocap")
    assert_equal(read_published(dump(tmp_path / "x.pkl", content("E", source), protocol)), source)


@pytest.mark.parametrize("letter", ["A", "F"])
def test_python_2_files(tmp_path: Path, letter: str) -> None:
    source = corpus(DATASET[letter])
    assert_equal(read_published(dump_python2(tmp_path / "x.pkl", content(letter, source))), source)


def test_a_list_in_place_of_the_tuple(tmp_path: Path) -> None:
    assert_equal(read_published(dump(tmp_path / "x.pkl", list(content("A", corpus("iemocap"))))), corpus("iemocap"))


def test_text_layers(tmp_path: Path) -> None:
    source = corpus("meld")
    path = dump(tmp_path / "x.pkl", content("F", source))
    for layer in (1, 2, 3, 4):
        read, first = (c.splits["test"][0].features["t"] for c in (read_published(path, text_layer=layer), source))
        np.testing.assert_array_equal(read, first + np.float32(layer - 1))
    dump(path, content("F", source, layers=False))
    assert_equal(read_published(path), source)
    with pytest.raises(InputError, match="no text features in text3"):
        read_published(path, text_layer=3)
    with pytest.raises(InputError, match="no text features in text2"):
        read_published(dump(path, content("D", source)), text_layer=2)


def test_modalities_that_are_empty(tmp_path: Path) -> None:
    for slot, name in ((3, "text"), (7, "audio"), (8, "visual")):
        item = list(content("F", corpus("meld")))
        item[slot] = {}
        path = dump(tmp_path / "x.pkl", tuple(item))
        assert describe(path).dims == tuple(4 if n == "text" else d * (n != name) or None for n, d in DIMS.items())
        with pytest.raises(InputError, match=f"no {name} features"):
            read_published(path)


def test_the_order_of_a_set_of_names_does_not_matter(tmp_path: Path) -> None:
    path = dump(tmp_path / "x.pkl", content("A", corpus("iemocap"), split=set))
    code = "import sys; from cmath_jax.data import published as p; p._COUNTS['iemocap'] = ()"
    code += "; print(p.read_published(sys.argv[1]).fingerprint())"
    found = {
        subprocess.run(
            [sys.executable, "-c", code, path],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {corpus("iemocap").fingerprint() + "\n"}


# Text-only files together with those that have audio and visual.


@pytest.mark.parametrize(("text", "other"), [("G", "A"), ("G", "B"), ("G", "E"), ("H", "D"), ("H", "F"), ("H", "J")])
def test_text_from_one_file_and_the_rest_from_another(tmp_path: Path, text: str, other: str) -> None:
    source = corpus("iemocap", WITH_VALIDATION) if text == "G" else corpus("meld")
    item = list(content(other, source))
    names = ORDER[other].split()
    item[names.index("text1")] = {id: rows[:1] * 2 for id, rows in item[names.index("text1")].items()}  # not read
    one = dump(tmp_path / "text.pkl", content(text, source))
    two = dump(tmp_path / "other.pkl", tuple(item))
    for paths in ((one, two), (two, one)):
        read = read_published(*paths)
        assert_equal(read, source)
        assert "COSMIC" in read.source and "text.pkl" in read.source and "other.pkl" in read.source
    second = read_published(one, two, text_layer=2).splits["test"][0].features["t"]
    np.testing.assert_array_equal(second, source.splits["test"][0].features["t"] + 1)
    assert other in describe(one).combines_with and text in describe(two).combines_with


def pair(tmp_path: Path, change: Callable[[list[Any]], None]) -> tuple[Path, Path]:
    """A text-only file and an IEMOCAP file, the second one changed."""
    source = corpus("iemocap", WITH_VALIDATION)
    item = list(content("A", source))
    change(item)
    return dump(tmp_path / "g.pkl", content("G", source)), dump(tmp_path / "a.pkl", tuple(item))


def other_label(item: list[Any]) -> None:
    item[2]["Ses01M_a"][1] = 5 - item[2]["Ses01M_a"][1]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_label, "'Ses01M_a', utterance 1: the labels differ"),
        (lambda item: item[2]["Ses02F_a"].pop(), "'Ses02F_a' has 3 utterances and 2"),
        (lambda item: item[2].pop("Ses05F_a"), "'Ses05F_a' has 2 utterances and none"),
        (
            lambda item: item[8].append(item[7].pop(item[7].index("Ses01F_a"))),
            "'Ses01F_a' is in the test split of only",
        ),
    ],
)
def test_files_that_do_not_belong_together(tmp_path: Path, change: Callable[[list[Any]], None], named: str) -> None:
    with pytest.raises(InputError, match=named):
        read_published(*pair(tmp_path, change))


def test_pairs_that_cannot_be_combined(tmp_path: Path) -> None:
    paths = {k: dump(tmp_path / f"{k}.pkl", content(k, corpus("meld" if k in "DHF" else "iemocap"))) for k in "ADFGHN"}
    for one, two in ("AA", "DF", "GH", "GN", "AN"):
        with pytest.raises(InputError, match="one must be text-only"):
            read_published(paths[one], paths[two])
    with pytest.raises(InputError, match="iemocap and meld"):
        read_published(paths["G"], paths["D"])
    for given in ((), ("A", "G", "G")):
        with pytest.raises(InputError, match=f"{len(given)} feature files"):
            read_published(*(paths[k] for k in given))


@pytest.mark.parametrize(
    ("letter", "name", "named"),
    [
        ("C", "meld", "no visual features; MELD_features_raw1.pkl"),
        ("G", "iemocap", "no audio and no visual features; give the file of MMGCN"),
        ("H", "meld", "no audio and no visual features; give the file of MMGCN"),
        ("L", "iemocap", "three other files"),
        ("N", "iemocap", "labels, but no text, audio and visual"),
        ("P", "iemocap", "COMET commonsense"),
        ("P", "meld", "COMET commonsense"),
    ],
)
def test_layouts_that_lack_a_modality(tmp_path: Path, letter: str, name: str, named: str) -> None:
    path = dump(tmp_path / "x.pkl", content(letter, corpus(name), split=set))
    layout = describe(path)
    assert (layout.name, layout.dataset) == (letter, name) and layout.lacks
    assert ("A" in layout.combines_with) == (letter in "GH")
    with pytest.raises(InputError, match=named):
        read_published(path)


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ({"Ses01": [[1.0]]}, "one modality of layout L alone"),
        ("text", "holds a str"),
        ((), "0-tuple of nothing"),
        (({0: ["a"]}, {0: [1]}), "2-tuple of text, numbers"),
        (tuple({0: ["a"]} for _ in range(9)), "9-tuple of text, text"),
        ((1,) * 12, "12-tuple of other, other"),
        (({},) * 9, "no published layout|no labels"),
    ],
)
def test_unknown_content(tmp_path: Path, item: object, named: str) -> None:
    with pytest.raises(InputError, match=named):
        read_published(dump(tmp_path / "x.pkl", item))


# Options and splits.


def test_wrong_options(tmp_path: Path) -> None:
    path = dump(tmp_path / "x.pkl", content("F", corpus("meld")))
    wrong: list[dict[str, Any]] = [{"dataset": d} for d in ("iemocap", "iemocap4", "meld3", "")]
    wrong += [{"text_layer": layer} for layer in (0, 5, True, "1", 1.0)]
    wrong += [{"check_counts": check} for check in ("ignore", None, False)]
    for options in wrong:
        with pytest.raises(InputError, match=next(iter(options))):
            read_published(path, **options)


def test_iemocap4_and_iemocap_are_told_apart_by_their_classes(tmp_path: Path) -> None:
    four = dump(tmp_path / "x.pkl", content("K", corpus("iemocap4")))
    assert read_published(four).name == "iemocap4"
    assert read_published(four, dataset="iemocap").name == "iemocap"
    with pytest.raises(InputError, match="the content is that of 'iemocap'"):
        read_published(dump(four, content("A", corpus("iemocap"))), dataset="iemocap4")


def test_the_development_split_of_meld_is_recovered(tmp_path: Path) -> None:
    read = read_published(dump(tmp_path / "x.pkl", content("D", corpus("meld"), split=set)))
    assert {split: [int(c.id) for c in read.splits[split]] for split in SPLITS} == MELD_IDS


def test_conversations_in_no_split_are_counted_in_the_source(tmp_path: Path) -> None:
    item = content("A", corpus("iemocap"))
    item[7].remove("Ses01F_impro01")
    read = read_published(dump(tmp_path / "x.pkl", item))
    assert [c.id for c in read.splits["train"]] == IEMOCAP_IDS["train"][1:]
    assert read.source.endswith("; 1 conversations in no split left out")


@pytest.mark.parametrize(
    ("slot", "id", "named"),
    [
        (7, "Ses05F_impro01", "'Ses05F_impro01' is in train and again in test"),
        (7, "Ses01F_impro01", "'Ses01F_impro01' is in train and again in train"),
        (8, "Ses09", "'Ses09' is in test, but the file has no data for it"),
        (7, 12, "12 is in train, but the file has no data"),
        (8, 1.5, "test: the conversation id 1.5 is not an integer or a string"),
        (7, None, "train: the conversation id None"),
        (7, True, "train: the conversation id True"),
    ],
)
def test_wrong_splits(tmp_path: Path, slot: int, id: Any, named: str) -> None:
    item = content("A", corpus("iemocap"))
    item[slot].append(id)
    with pytest.raises(InputError, match=named):
        read_published(dump(tmp_path / "x.pkl", item))


def test_draw_validation() -> None:
    ids = {"train": [f"Ses0{k % 4 + 1}_{k:03d}" for k in range(120)], "validation": [], "test": ["Ses05"]}
    source = corpus("iemocap", ids)
    drawn = draw_validation(source)
    names = [c.id for c in drawn.splits["validation"]]
    order = np.random.Generator(np.random.PCG64(0)).permutation(120)[:24]
    assert sorted(names) == sorted(np.array(sorted(ids["train"]))[order].tolist())
    assert sorted(names + [c.id for c in drawn.splits["train"]]) == sorted(ids["train"])
    assert drawn.splits["test"] == source.splits["test"] and drawn.source.endswith("24 drawn with seed 0")
    assert names == [c.id for c in draw_validation(source).splits["validation"]]
    assert names != [c.id for c in draw_validation(source, seed=1).splits["validation"]]
    reverse = draw_validation(corpus("iemocap", {**ids, "train": ids["train"][::-1]}))
    assert sorted(c.id for c in reverse.splits["validation"]) == sorted(names)  # whatever the order in the corpus
    assert len(draw_validation(source, fraction=0.1).splits["validation"]) == 12
    wrong: list[dict[str, Any]] = [{"fraction": 0}, {"fraction": 1}, {"fraction": 0.001}, {"seed": -1}]
    for options in wrong:
        with pytest.raises(InputError, match="cannot draw"):
            draw_validation(source, **options)
    with pytest.raises(InputError, match="validation split of 24 already"):
        draw_validation(drawn)


def test_published12() -> None:
    ids = {"train": [*published.PUBLISHED12, "Ses01F_impro01"], "validation": [], "test": ["Ses05F_impro01"]}
    split = published12(corpus("iemocap", ids))
    assert {s: [c.id for c in split.splits[s]] for s in SPLITS} == {
        "train": ["Ses01F_impro01"],
        "validation": list(published.PUBLISHED12),
        "test": ["Ses05F_impro01"],
    }
    with pytest.raises(InputError, match="validation split of 12 already"):
        published12(split)
    with pytest.raises(InputError, match="needs Ses01M_script03_1, Ses02F_impro02") as error:
        published12(corpus("iemocap", {**ids, "train": ["Ses01M_impro01", "x"]}))
    assert "Ses01M_impro01" not in str(error.value)


# Counts.


def test_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = corpus("iemocap", WITH_VALIDATION)
    one, two = dump(tmp_path / "g.pkl", content("G", source)), dump(tmp_path / "a.pkl", content("A", source))
    train = tuple(map(int, source.class_counts("train") + source.class_counts("validation")))
    test = tuple(map(int, source.class_counts("test")))
    counts = ((("train", "validation"), 3, train), (("test",), 1, test))
    monkeypatch.setitem(published._COUNTS, "iemocap", counts)
    read_published(one, two)
    monkeypatch.setitem(published._COUNTS, "iemocap", (counts[0], (("test",), 2, (test[0] + 1, *test[1:]))))
    with pytest.raises(InputError) as error:
        read_published(one, two)
    assert str(error.value).endswith(
        f"the counts are not those of iemocap: test conversations: expected 2, found 1; test utterances: expected 3, "
        f"found 2; test happy: expected {test[0] + 1}, found {test[0]} (check_counts=warn accepts the file)"
    )
    with pytest.warns(UserWarning, match="test conversations: expected 2, found 1"):
        assert_equal(read_published(one, two, check_counts="warn"), source)


def test_published_counts_are_self_consistent() -> None:
    sizes = {name: [(n, sum(u)) for _, n, u in rows] for name, rows in REAL_COUNTS.items()}
    assert sizes == {
        "meld": [(1038, 9989), (114, 1109), (280, 2610)],
        "iemocap": [(120, 5810), (31, 1623)],
        "iemocap4": [],
    }


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
    "speaker of 4": (set_all(1, np.eye(4)), "speakers are one of 4, in the conversations before of 3"),
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


def test_ids_that_clash_or_mix(tmp_path: Path) -> None:
    item = content("D", corpus("meld"))
    item[4]["10"] = item[4][10]
    with pytest.raises(InputError, match="audio: two conversations have the same id"):
        read_published(dump(tmp_path / "x.pkl", item))
    item = content("A", corpus("iemocap"))
    item[2][7] = [0]
    with pytest.raises(InputError, match="conversation 7: MELD has integer ids and one-hot speakers"):
        read_published(dump(tmp_path / "x.pkl", item))
    item = content("D", corpus("meld"), id_type=lambda id: f"d{id}")
    with pytest.raises(InputError, match="conversation 'd0': MELD has integer ids"):
        read_published(dump(tmp_path / "x.pkl", item))


def test_any_other_letter_is_the_second_speaker(tmp_path: Path) -> None:
    item = content("A", corpus("iemocap"))
    item[1]["Ses02F_impro02"][:3] = ["M", "m", "X"]
    read = read_published(dump(tmp_path / "x.pkl", item))
    speakers = next(c.speakers for c in read.splits["train"] if c.id == "Ses02F_impro02")
    assert speakers[:3].tolist() == [0, 1, 1]


# The file with every dialogue of MELD.


@pytest.fixture(scope="module")
def real() -> Iterator[Path]:
    if not REAL.exists():
        pytest.skip(f"needs ../shared/data/{REAL.name} beside the project")
    yield REAL


def test_the_real_file(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_COUNTS", REAL_COUNTS)
    read = read_published(real)
    assert {split: (len(read.splits[split]), len(read.labels(split))) for split in SPLITS} == {
        "train": (1038, 9989),
        "validation": (114, 1109),
        "test": (280, 2610),
    }
    assert (read.name, read.speakers, read.dims) == ("meld", 9, {"t": 384, "a": 300, "v": 342})
    assert read.class_counts("test").tolist() == [1256, 281, 50, 208, 402, 68, 345]
    first = read.splits["train"][0]
    assert first.id == "0" and len(first) == 14 and first.utterance_ids[0] == "dia0_utt0"
    assert first.sentences[0].startswith("also I was the point person")
    assert "SDT MELD layout (13-tuple, dims 384/300/342), " + real.name == read.source
    with pytest.raises(InputError, match="content is that of 'meld'"):
        read_published(real, dataset="iemocap")
