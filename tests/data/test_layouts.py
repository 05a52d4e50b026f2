"""A file is recognized by its content as the layout that it is, or refused with what it holds instead."""

from pathlib import Path

import pytest
from layouts import ORDER, content, corpus, dump

from cmath_jax.data.sources.layouts import describe
from cmath_jax.data.sources.published import read_published
from cmath_jax.errors import InputError

DIMS = {"text": 4, "audio": 3, "visual": 2}


@pytest.mark.parametrize(
    ("letter", "name", "dims", "title"),
    [
        ("A", "iemocap", (100, 1582, 342), "MMGCN IEMOCAP layout (9-tuple)"),
        ("B", "iemocap", (100, 100, 512), "conv-emotion IEMOCAP layout (9-tuple)"),
        ("K", "iemocap4", (1024, 100, 512), "GraphSmile IEMOCAP4 layout (9-tuple)"),
        ("D", "meld", (600, 300, 342), "MMGCN MELD layout (10-tuple)"),
        ("E", "iemocap", (1024, 1582, 342), "SDT IEMOCAP layout (12-tuple)"),
        ("F", "meld", (1024, 300, 342), "SDT MELD layout (13-tuple)"),
        ("J", "meld", (1024, 300, 342), "GraphSmile MELD layout (14-tuple)"),
        ("F", "meld", (384, 300, 342), "SDT MELD layout (13-tuple, dims 384/300/342)"),
        ("G", "iemocap", (1024, None, None), "COSMIC IEMOCAP layout (10-tuple)"),
        ("H", "meld", (1024, None, None), "COSMIC MELD layout (11-tuple)"),
        ("C", "meld", (600, 300, None), "conv-emotion MELD layout (9-tuple)"),
    ],
)
def test_layouts(tmp_path: Path, letter: str, name: str, dims: tuple[int | None, ...], title: str) -> None:
    item = content(letter, corpus(name, dims=[d or 1 for d in dims]))
    assert len(item) == len(ORDER[letter].split())
    layout = describe(dump(tmp_path / "any_name.pkl", item))
    assert (layout.name, layout.dataset, layout.dims, layout.title) == (letter, name, dims, title)
    assert bool(layout.lacks) == (None in dims)
    complete = ("A", "B", "K", "D", "E", "F", "J")
    assert layout.combines_with == (("G", "H") if letter in complete else complete if letter in "GH" else ())


def test_only_the_known_layout_of_iemocap4_is_taken_for_it(tmp_path: Path) -> None:
    """Any other file with labels of four classes is a part of iemocap, whose counts are checked."""
    path = tmp_path / "x.pkl"
    for letter, dims in (("A", (100, 1582, 342)), ("B", (100, 100, 512)), ("E", (1024, 100, 512)), ("G", (1024, 1, 1))):
        dump(path, content(letter, corpus("iemocap4", dims=dims)))
        assert (describe(path).name, describe(path).dataset) == (letter, "iemocap")
    dump(path, content("K", corpus("iemocap", dims=(1024, 100, 512))))
    assert describe(path).title == "MMGCN IEMOCAP layout (9-tuple, dims 1024/100/512)"


def test_modalities_that_are_empty(tmp_path: Path) -> None:
    for slot, name in ((3, "text"), (7, "audio"), (8, "visual")):
        item = list(content("F", corpus("meld")))
        item[slot] = {}
        path = dump(tmp_path / "x.pkl", tuple(item))
        assert describe(path).dims == tuple(4 if n == "text" else d * (n != name) or None for n, d in DIMS.items())
        with pytest.raises(InputError, match=f"no {name} features"):
            read_published(path)


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
    assert (layout.name, layout.dataset) == (letter, name)
    with pytest.raises(InputError, match=named) as error:
        read_published(path)
    assert str(path) in str(error.value) and layout.title in str(error.value)


@pytest.mark.parametrize(
    ("item", "named"),
    [
        ({"Ses01": [[1.0]]}, "holds a dict, perhaps one modality of layout L alone"),
        ("text", "holds a str"),
        ((), "0-tuple of nothing"),
        (({0: ["a"]}, {0: [1]}), "2-tuple of text, numbers"),
        (tuple({0: ["a"]} for _ in range(9)), "9-tuple of text, text"),
        ((1,) * 12, "12-tuple of other, other"),
        (({},) * 10, "10-tuple of empty, empty"),
    ],
)
def test_unknown_content(tmp_path: Path, item: object, named: str) -> None:
    with pytest.raises(InputError, match=named):
        describe(dump(tmp_path / "x.pkl", item))


def test_ids_that_clash_or_mix(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    item = content("D", corpus("meld"))
    item[4]["10"] = item[4][10]
    with pytest.raises(InputError, match="audio: two conversations have the same id"):
        describe(dump(path, item))
    item = content("A", corpus("iemocap"))
    item[2][7] = [0]
    with pytest.raises(InputError, match="conversation 7: MELD has integer ids and one-hot speakers"):
        describe(dump(path, item))
    item = content("D", corpus("meld"), id_type=lambda id: f"d{id}")
    with pytest.raises(InputError, match="conversation 'd0': MELD has integer ids"):
        describe(dump(path, item))
