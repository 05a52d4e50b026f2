"""The tensorflow-datasets builders: round trip, one preparation only, and what goes wrong on the way."""

import errno
import itertools
import multiprocessing
import os
import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cmath_jax.data.corpus import CLASSES, SPLITS, Conversation, Corpus
from cmath_jax.data.prepared import builders
from cmath_jax.data.prepared.builders import Iemocap, Meld, Simulated, corpus_of, feature_config, simulation_config
from cmath_jax.data.sources.download import MMGCN, RawFile
from cmath_jax.data.sources.simulate import Simulation, simulate, simulate_lazily
from cmath_jax.errors import InputError

SMALL = Simulation(train=12, validation=3, test=4, text_dim=5, audio_dim=4, visual_dim=3)


def make_corpus(modalities: str = "tav", validation: int = 2, seed: int = 0) -> Corpus:
    """A corpus with all that can get lost: an order that is not sorted, zeros at the end, odd texts."""
    rng = np.random.default_rng(seed)

    def conversation(i: int) -> Conversation:
        n = 1 + i % 4
        features = {m: rng.normal(size=(n, d)).astype(np.float32) for m, d in zip("tav", (5, 4, 3), strict=True)}
        for x_nd in features.values():
            x_nd[-1, -1] = 0  # its bytes are all zero
        return Conversation(
            id=f"Ses{97 * i % 13:02d}_é{i}",
            features={m: features[m] for m in modalities},
            speakers=rng.integers(0, 3, n).astype(np.int32),
            labels=rng.integers(-1, 7, n).astype(np.int32),
            utterance_ids=tuple(f"{i}_{k}" for k in range(n)) if i % 3 else (),
            sentences=("", "Joey\u2019s \u2026 naïve \0", "two\nlines", " x ")[:n] if i % 2 else (),
        )

    counts = {"train": 7, "validation": validation, "test": 3}
    made = iter(range(20))
    splits = {split: [conversation(next(made)) for _ in range(counts[split])] for split in SPLITS}
    return Corpus("meld", CLASSES["meld"], splits, 3, "where it came from")


def assert_equal(a: Corpus, b: Corpus) -> None:
    assert (a.name, a.classes, a.speakers, a.source, a.dims) == (b.name, b.classes, b.speakers, b.source, b.dims)
    for split in SPLITS:
        assert len(a.splits[split]) == len(b.splits[split])
        for x, y in zip(a.splits[split], b.splits[split], strict=True):
            assert (x.id, x.utterance_ids, x.sentences) == (y.id, y.utterance_ids, y.sentences)
            assert list(x.features) == list(y.features)
            pairs = [(x.speakers, y.speakers), (x.labels, y.labels)]
            for u, v in pairs + [(x.features[m], y.features[m]) for m in x.features]:
                assert u.dtype == v.dtype
                np.testing.assert_array_equal(u, v)


class Reader:
    """Stands in for `read_published`: gives `corpus`, and counts."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, *paths: Path, **options: Any) -> Corpus:
        self.calls.append((*paths, options))
        return self.corpus


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    reader = Reader(make_corpus())
    monkeypatch.setattr(builders, "read_published", reader)
    return reader


def prepared(builder: builders.ConversationBuilder) -> Corpus:
    builder.download_and_prepare()
    return corpus_of(builder)


RAW = (RawFile("meld_multimodal_features.pkl", blob="a" * 40, path=Path("raw.pkl")),)


@pytest.mark.parametrize("modalities", ["tav", "t", "av"])
@pytest.mark.parametrize("validation", [2, 0])
def test_round_trip(reader: Reader, tmp_path: Path, modalities: str, validation: int) -> None:
    reader.corpus = make_corpus(modalities, validation)
    config = feature_config("sdt", RAW)
    assert_equal(prepared(Meld(config=config, data_dir=tmp_path)), reader.corpus)
    assert_equal(prepared(Meld(config=config, data_dir=tmp_path)), reader.corpus)  # opened, not just made


def test_examples_have_names_shapes_and_types(tmp_path: Path) -> None:
    builder = Simulated(config=simulation_config(SMALL), data_dir=tmp_path)
    builder.download_and_prepare()
    source = builder.as_data_source("train")
    example = source[0]
    n = len(example["labels"])
    assert len(source) == SMALL.train
    assert {k: (v.shape, v.dtype) for k, v in example.items() if isinstance(v, np.ndarray)} == {
        "text": ((n, 5), np.float32),
        "audio": ((n, 4), np.float32),
        "visual": ((n, 3), np.float32),
        "speakers": ((n,), np.int32),
        "labels": ((n,), np.int32),
    }
    assert builder.info.metadata["dims"] == {"t": 5, "a": 4, "v": 3}


def test_options_reach_the_reader_once(reader: Reader, tmp_path: Path) -> None:
    config = feature_config("sdt", RAW, text_layer=3, check_counts="warn")
    for _ in range(3):
        prepared(Meld(config=config, data_dir=tmp_path))
    assert reader.calls == [(Path("raw.pkl"), {"dataset": "meld", "text_layer": 3, "check_counts": "warn"})]


@pytest.mark.parametrize(
    "other",
    [
        feature_config("sdt", (replace(RAW[0], blob="b" * 40),)),
        feature_config("sdt", RAW, text_layer=2),
        feature_config("sdt", RAW, check_counts="warn"),
        feature_config("sdt", (*RAW, replace(RAW[0], blob="b" * 40))),
    ],
)
def test_other_content_or_options_are_prepared_anew(
    reader: Reader, tmp_path: Path, other: builders.FeatureConfig
) -> None:
    prepared(Meld(config=feature_config("sdt", RAW), data_dir=tmp_path))
    reader.corpus = make_corpus(seed=1)
    assert_equal(prepared(Meld(config=other, data_dir=tmp_path)), reader.corpus)
    assert len(reader.calls) == 2


def test_by_name(tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(tfds.builder("simulated", data_dir=tmp_path), Simulated)
    assert isinstance(tfds.builder("iemocap", data_dir=tmp_path), Iemocap)
    monkeypatch.setattr(RawFile, "fetch", lambda self, folder: Path(folder) / self.name)
    builder = tfds.builder("meld/mmgcn", data_dir=tmp_path)
    assert_equal(prepared(builder), reader.corpus)
    assert reader.calls[0][0] == tmp_path / "downloads" / "cmath_jax" / MMGCN["meld"].name


def test_opens_without_the_builder_class(tmp_path: Path) -> None:
    builder = Simulated(config=simulation_config(SMALL), data_dir=tmp_path)
    corpus = prepared(builder)
    assert_equal(corpus_of(tfds.builder_from_directory(builder.data_dir)), corpus)


def test_simulated_equals_the_direct_way(tmp_path: Path) -> None:
    assert_equal(prepared(Simulated(config=simulation_config(SMALL), data_dir=tmp_path)), simulate(SMALL))
    other = replace(SMALL, seed=1)
    assert_equal(prepared(Simulated(config=simulation_config(other), data_dir=tmp_path)), simulate(other))


def test_builder_can_be_pickled(reader: Reader, tmp_path: Path) -> None:
    builder = Meld(config=feature_config("sdt", RAW), data_dir=tmp_path)
    corpus = prepared(builder)
    assert_equal(corpus_of(pickle.loads(pickle.dumps(builder))), corpus)


def test_nothing_is_printed(reader: Reader, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepared(Meld(config=feature_config("sdt", RAW), data_dir=tmp_path))
    assert capfd.readouterr() == ("", "")


def test_default_folder_is_that_of_tfds(reader: Reader) -> None:
    builder = Meld(config=feature_config("sdt", RAW))
    default = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    assert default in Path(builder.data_dir).parents


def test_reader_that_fails_leaves_nothing(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*paths: Path, **options: Any) -> Corpus:
        raise InputError("raw.pkl: no such layout")

    config = feature_config("sdt", RAW)
    with monkeypatch.context() as patch:
        patch.setattr(builders, "read_published", fail)
        with pytest.raises(InputError, match=r"^raw\.pkl: no such layout$"):
            Meld(config=config, data_dir=tmp_path).download_and_prepare()
    assert_equal(prepared(Meld(config=config, data_dir=tmp_path)), reader.corpus)


def test_an_unsound_conversation_is_not_stored(reader: Reader, tmp_path: Path) -> None:
    talks = reader.corpus.splits
    talks["test"][1].features["a"][0, 2] = np.nan
    reader.corpus = replace(reader.corpus, lazy=True)
    with pytest.raises(InputError, match=r"meld test, conversation .*, utterance 0: audio feature 2 is nan"):
        prepared(Meld(config=feature_config("sdt", RAW), data_dir=tmp_path))
    assert not [*tmp_path.rglob("*.array_record*")]


@pytest.mark.parametrize("file_bytes", [1, 500, 10**6])
def test_many_files(reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_bytes: int) -> None:
    monkeypatch.setattr(builders, "FILE_BYTES", file_bytes)
    assert_equal(prepared(Meld(config=feature_config("sdt", RAW), data_dir=tmp_path)), reader.corpus)
    files = [path.name for path in tmp_path.rglob("meld-train.array_record*")]
    assert len(files) == {1: 7, 500: 2, 10**6: 1}[file_bytes]  # of seven conversations, 864 bytes of features


def test_folder_that_cannot_be_written(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot prepare meld/sdt-.* named with prepared_dir"):
        Meld(config=feature_config("sdt", RAW), data_dir=tmp_path / "file").download_and_prepare()


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(builders.ArrayRecordWriter):
        def write(self, example: bytes) -> None:
            raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(builders, "ArrayRecordWriter", Full)
    with pytest.raises(InputError, match=r"cannot prepare simulated/.* No space left on device") as raised:
        Simulated(config=simulation_config(SMALL), data_dir=tmp_path / "new").download_and_prepare()
    assert isinstance(raised.value.__cause__, OSError) and raised.value.__cause__.errno == errno.ENOSPC
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["dataset_info.json", "metadata.json", "simulated-train.array_record-00000-of-00001"])
@pytest.mark.parametrize("how", ["gone", "half"])
def test_damaged_folder(tmp_path: Path, name: str, how: str) -> None:
    config = simulation_config(SMALL)
    builder = Simulated(config=config, data_dir=tmp_path)
    builder.download_and_prepare()
    path = Path(builder.data_dir) / name
    os.truncate(path, path.stat().st_size // 2) if how == "half" else path.unlink()
    with pytest.raises(InputError, match=r"is damaged .* delete it"):
        prepared(Simulated(config=config, data_dir=tmp_path))


def _die_half_way(folder: Path) -> None:
    def examples(self: Any, corpus: Corpus) -> Any:
        yield from itertools.islice(original(self, corpus), SMALL.train + SMALL.validation + 1)
        os._exit(9)

    original = Simulated._examples
    Simulated._examples = examples  # type: ignore[method-assign]
    Simulated(config=simulation_config(SMALL), data_dir=folder).download_and_prepare()


def test_interrupted_preparation(tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_die_half_way, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 9
    builder = Simulated(config=simulation_config(SMALL), data_dir=tmp_path)
    folder = Path(builder.data_dir).parent
    assert [path.name.split(".")[0] for path in folder.iterdir() if path.is_dir()] == ["incomplete"]
    assert_equal(prepared(builder), simulate(SMALL))
    assert [path.name for path in folder.iterdir() if path.is_dir()] == [str(Simulated.VERSION)]


def _prepare_slowly(folder: Path) -> tuple[bool, str]:
    """Whether this process has prepared, and the fingerprint of what it then opened."""
    calls = []

    def slow(simulation: Simulation) -> Corpus:
        calls.append(simulation)
        time.sleep(1)
        return simulate_lazily(simulation)

    builders.simulate_lazily = slow
    corpus = prepared(Simulated(config=simulation_config(SMALL), data_dir=folder))
    return bool(calls), corpus.fingerprint()


def test_two_processes_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(_prepare_slowly, [tmp_path] * 2))
    assert sorted(prepared for prepared, _ in results) == [False, True]
    assert {fingerprint for _, fingerprint in results} == {simulate(SMALL).fingerprint()}
