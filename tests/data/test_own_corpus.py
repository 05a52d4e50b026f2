"""A folder of one's own conversations, by the one entrance to all corpora: read, prepared and streamed alike."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from own_samples import assert_equal, assert_same_arrays, odd_corpus

from cmath_jax.data.load import load_corpus
from cmath_jax.data.prepared.builders import Conversations, corpus_of, own_config
from cmath_jax.data.prepared.stored import StoredFeatures
from cmath_jax.data.sources.own import write_own
from cmath_jax.errors import InputError


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own(odd_corpus(), tmp_path_factory.mktemp("own") / "odd")


def test_load_corpus_finds_a_folder(odd_folder: Path, tmp_path: Path) -> None:
    assert_equal(load_corpus("conversations", dir=odd_folder, prepared_dir=tmp_path), odd_corpus())
    assert_equal(load_corpus(str(odd_folder), prepared_dir=tmp_path), odd_corpus())
    assert not [*tmp_path.iterdir()]  # it is read directly


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("conversations", {}, r"give dir=DIR"),
        ("meld", {"dir": "x"}, r"dir='x' is for the corpus conversations, but the corpus is 'meld'"),
        ("conversations", {"dir": "none"}, r"none is no folder with conversations\.jsonl"),
        ("melt", {}, r"folder of one's own conversations \(also: conversations, with dir=DIR\)"),
    ],
)
def test_wrong_options(source: str, options: dict[str, Any], message: str) -> None:
    for stream in (False, True):
        with pytest.raises(InputError, match=message):
            load_corpus(source, stream=stream, **options)


def test_a_validation_split_is_drawn(tmp_path: Path) -> None:
    corpus = odd_corpus()
    splits = {**corpus.splits, "train": [*corpus.splits["train"], *corpus.splits["validation"]], "validation": []}
    folder = write_own(replace(corpus, splits=splits), tmp_path / "new")
    drawn = [load_corpus(str(folder), prepared_dir=tmp_path / "prepared", stream=stream) for stream in (False, True)]
    assert [len(x.splits["validation"]) for x in drawn] == [2, 2]
    assert drawn[0].fingerprint() == drawn[1].fingerprint()


def test_the_builder_gives_the_same_corpus(odd_folder: Path, tmp_path: Path) -> None:
    for _ in range(2):  # made, and then opened
        builder = Conversations(config=own_config(odd_folder), data_dir=tmp_path)
        builder.download_and_prepare()
        assert_equal(corpus_of(builder), odd_corpus())


def test_a_stream_gives_the_same_corpus(odd_folder: Path, tmp_path: Path) -> None:
    corpus, whole = load_corpus(str(odd_folder), prepared_dir=tmp_path, stream=True), odd_corpus()
    assert corpus.fingerprint() == whole.fingerprint()
    assert (corpus.license, corpus.extraction) == (whole.license, whole.extraction)
    for x, y in zip(corpus.splits["train"], whole.splits["train"], strict=True):
        assert isinstance(x.features, StoredFeatures)
        assert_same_arrays(x, y)


@pytest.mark.parametrize("name", ["conversations.jsonl", "corpus.json", "features.json", "text.npz"])
def test_a_change_of_any_file_is_prepared_anew(odd_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for path in odd_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert own_config(folder).name == own_config(odd_folder).name
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert own_config(folder).name != own_config(odd_folder).name
