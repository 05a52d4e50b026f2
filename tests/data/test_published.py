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

from cmath_jax.data.corpus import SPLITS, Corpus
from cmath_jax.data.sources import counts, published
from cmath_jax.data.sources.published import draw_validation, published12, read_published
from cmath_jax.errors import InputError

PROJECT = Path(__file__).parents[2]
REAL = PROJECT.parent / "shared" / "data" / "meld_minilm_simulated_av.pkl"
DATASET = {"A": "iemocap", "B": "iemocap", "K": "iemocap4", "D": "meld", "E": "iemocap", "F": "meld", "J": "meld"}
ALL_THREE = list(DATASET)
WITH_VALIDATION = {"train": ["Ses01F_a", "Ses02F_a"], "validation": ["Ses01M_a"], "test": ["Ses05F_a"]}
REAL_COUNTS = counts.COUNTS


@pytest.fixture(autouse=True)
def no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of these tests are far smaller than the published ones."""
    monkeypatch.setattr(counts, "COUNTS", dict.fromkeys(REAL_COUNTS, ()))


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


CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "set": set,
    "tuple": tuple,
    "frozenset": frozenset,
    "array": np.array,
}
ID_TYPES: dict[str, Callable[[Any], Any]] = {"str": str, "int64": np.int64, "int32": np.int32}


@pytest.mark.parametrize("form", CONTAINERS)
def test_forms_of_splits(tmp_path: Path, form: str) -> None:
    for name, letter in (("iemocap", "A"), ("meld", "D")):
        source = corpus(name)
        assert_equal(read_published(dump(tmp_path / "x.pkl", content(letter, source, split=CONTAINERS[form]))), source)


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
    read, first = (c.splits["test"][0].features["t"] for c in (read_published(path, text_layer=0), source))
    np.testing.assert_array_equal(read, np.concatenate([first + k for k in range(4)], axis=1))
    dump(path, content("F", source, layers=False))
    assert_equal(read_published(path), source)
    for layer, words in ((3, "text3"), (0, "text2; text_layer=1 reads text1 alone")):
        with pytest.raises(InputError, match=f"no text features in {words}"):
            read_published(path, text_layer=layer)
    with pytest.raises(InputError, match="no text features in text2"):
        read_published(dump(path, content("D", source)), text_layer=2)


def test_text_layers_that_do_not_belong_together(tmp_path: Path) -> None:
    path, source = tmp_path / "x.pkl", corpus("meld")

    def refuses(words: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        item = dict(zip(ORDER["F"].split(), content("F", source, np.asarray), strict=True))
        item["text3"] = {id: change(x_nd) for id, x_nd in item["text3"].items()}
        assert_equal(read_published(dump(path, tuple(item.values()))), source)  # which does not read it
        with pytest.raises(InputError, match=words):
            read_published(path, text_layer=0)

    refuses("text1 and text3 do not belong together: their utterances are 2 of 4 numbers and 1", lambda x: x[:1])
    refuses("2 of 4 numbers and 2 of 3 numbers", lambda x: x[:, :3])
    refuses("nan", lambda x: x * np.nan)  # a text that is missing in one layer


def test_the_order_of_a_set_of_names_does_not_matter(tmp_path: Path) -> None:
    path = dump(tmp_path / "x.pkl", content("A", corpus("iemocap"), split=set))
    code = "import sys; from cmath_jax.data.sources import counts, published as p; counts.COUNTS['iemocap'] = ()"
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
        (lambda item: item[2]["Ses02F_a"].pop(), "'Ses02F_a' has 3 utterances in the one and 2"),
        (lambda item: item[2].pop("Ses05F_a"), "'Ses05F_a' has 2 utterances in the one and none"),
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
    with pytest.raises(InputError, match="one is of iemocap, the other of meld"):
        read_published(paths["G"], paths["D"])
    for given in ((), ("A", "G", "G")):
        with pytest.raises(InputError, match=f"{len(given)} feature files"):
            read_published(*(paths[k] for k in given))


# Options and splits.


def test_wrong_options(tmp_path: Path) -> None:
    path = dump(tmp_path / "x.pkl", content("F", corpus("meld")))
    wrong: list[dict[str, Any]] = [{"dataset": d} for d in ("iemocap", "iemocap4", "meld3", "")]
    wrong += [{"text_layer": layer} for layer in (-1, 5, True, False, 1.0)]
    wrong += [{"check_counts": check} for check in ("ignore", None, False)]
    for options in wrong:
        with pytest.raises(InputError, match=next(iter(options))):
            read_published(path, **options)


def test_iemocap4_and_iemocap_are_told_apart_by_their_classes(tmp_path: Path) -> None:
    four = dump(tmp_path / "x.pkl", content("K", corpus("iemocap4")))
    assert read_published(four).name == "iemocap4"
    assert read_published(four, dataset="iemocap").name == "iemocap"
    with pytest.raises(InputError, match=r"utterance 2: label 4 is not one of 0\.\.3"):
        read_published(dump(four, content("A", corpus("iemocap"))), dataset="iemocap4")
    own = dump(four, content("E", corpus("iemocap4", dims=(4, 3, 2))))
    assert (read_published(own).name, read_published(own, dataset="iemocap4").name) == ("iemocap", "iemocap4")


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
    with pytest.raises(InputError, match=r"validation=drawn, but .* split of its own \(24 conversations\)"):
        draw_validation(drawn)


def test_published12() -> None:
    ids = {"train": [*published.PUBLISHED12, "Ses01F_impro01"], "validation": [], "test": ["Ses05F_impro01"]}
    split = published12(corpus("iemocap", ids))
    assert {s: [c.id for c in split.splits[s]] for s in SPLITS} == {
        "train": ["Ses01F_impro01"],
        "validation": list(published.PUBLISHED12),
        "test": ["Ses05F_impro01"],
    }
    with pytest.raises(InputError, match=r"validation=published12, but .* split of its own \(12 conversations\)"):
        published12(split)
    with pytest.raises(InputError, match="iemocap has no Ses01M_script03_1, Ses02F_impro02") as error:
        published12(corpus("iemocap", {**ids, "train": ["Ses01M_impro01", "x"]}))
    assert "Ses01M_impro01" not in str(error.value)


# Counts.


def test_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = corpus("iemocap", WITH_VALIDATION)
    one, two = dump(tmp_path / "g.pkl", content("G", source)), dump(tmp_path / "a.pkl", content("A", source))
    train = tuple(map(int, source.class_counts("train") + source.class_counts("validation")))
    test = tuple(map(int, source.class_counts("test")))
    known = ((("train", "validation"), 3, train), (("test",), 1, test))
    monkeypatch.setitem(counts.COUNTS, "iemocap", known)
    read_published(one, two)
    monkeypatch.setitem(counts.COUNTS, "iemocap", (known[0], (("test",), 2, (test[0] + 1, *test[1:]))))
    with pytest.raises(InputError) as error:
        read_published(one, two)
    assert (
        f"the counts are not those of iemocap: test conversations: expected 2, found 1; test utterances: expected 3, "
        f"found 2; test happy: expected {test[0] + 1}, found {test[0]} (check_counts=warn accepts it)"
    ) in str(error.value)
    with pytest.warns(UserWarning, match="test conversations: expected 2, found 1"):
        assert_equal(read_published(one, two, check_counts="warn"), source)


def test_published_counts_are_self_consistent() -> None:
    sizes = {name: [(n, sum(u)) for _, n, u in rows] for name, rows in REAL_COUNTS.items()}
    assert sizes == {
        "meld": [(1038, 9989), (114, 1109), (280, 2610)],
        "iemocap": [(120, 5810), (31, 1623)],
        "iemocap4": [],
    }


# The file with every dialogue of MELD.


@pytest.fixture(scope="module")
def real() -> Iterator[Path]:
    if not REAL.exists():
        pytest.skip(f"needs ../shared/data/{REAL.name} beside the project")
    yield REAL


def test_the_real_file(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "COUNTS", REAL_COUNTS)
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
