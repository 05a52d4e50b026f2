"""Streaming: the batches of the resident path from a corpus on disk, read no more than needed, and what goes wrong."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import pytest
from layouts import corpus as published_corpus
from samples import tiny

from cmath_jax.config import override
from cmath_jax.data.batches import Batch, Table, TrainingBatches
from cmath_jax.data.corpus import SPLITS, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.prepared import builders
from cmath_jax.data.prepared.builders import Simulated, corpus_of, simulation_config
from cmath_jax.data.prepared.records import Records
from cmath_jax.data.prepared.stored import StoredFeatures, StoredSplit
from cmath_jax.data.prepared.streaming import AHEAD, StreamedTable, chunk_steps, one_ahead, stream
from cmath_jax.data.sources.published import draw_validation
from cmath_jax.data.sources.simulate import Simulation, conversation, simulate, simulate_lazily
from cmath_jax.data.standardize import Standardizer
from cmath_jax.errors import InputError

SMALL = Simulation(train=23, validation=4, test=5, mean_length=5.0, max_length=9, text_dim=7, audio_dim=4, visual_dim=3)
MODALITIES = "tv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the corpus of `SMALL`, prepared; its training split in several files."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builders, "FILE_BYTES", 2000)
        load_corpus("simulated", prepared_dir=folder, simulation=SMALL, stream=True)
    assert len([*folder.rglob("simulated-train.array_record*")]) > 3
    return folder


def streamed(folder: Path) -> Corpus:
    return load_corpus("simulated", prepared_dir=folder, simulation=SMALL, stream=True)


def tables(corpus: Corpus, resident: Corpus) -> tuple[StreamedTable, Table]:
    """Of the training splits, each with the scaling that its own corpus gives."""
    train = Standardizer.of(resident, True).apply(resident.splits["train"])
    return (
        StreamedTable.stored(corpus.splits["train"], MODALITIES, Standardizer.of(corpus, True)),
        Table.of(train, MODALITIES),
    )


def assert_same(streamed: Batch, resident: Batch) -> None:
    assert jax.tree.structure(streamed) == jax.tree.structure(resident)
    for x, y in zip(jax.tree.leaves(streamed), jax.tree.leaves(resident), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def of_chunks(chunks: Iterator[Batch], first: int, steps: int, k: int) -> Iterator[Batch]:
    """The batches of single steps."""
    for start, chunk in zip(range(first, steps, k), chunks, strict=True):
        assert {len(x) for x in jax.tree.leaves(chunk)} == {k}
        for i in range(k):
            batch = jax.tree.map(lambda x, i=i: x[i], chunk)
            if start + i < steps:
                yield batch
            else:
                assert (batch.utterance_rl == -1).all() and not any(x.any() for x in batch.features.values())


@pytest.mark.parametrize(("size", "devices"), [(4, 1), (5, 2)])
@pytest.mark.parametrize("drawn", [False, True])
def test_the_batches_are_those_of_the_resident_path(folder: Path, size: int, devices: int, drawn: bool) -> None:
    corpus, resident = streamed(folder), simulate(SMALL)
    if drawn:
        corpus, resident = (
            draw_validation(replace(c, splits={**c.splits, "validation": []}), seed=3) for c in (corpus, resident)
        )
    ours, theirs = (TrainingBatches(table, size, seed=1, devices=devices) for table in tables(corpus, resident))
    for epoch, k, longer in itertools.product(range(3), (1, 2, 4), (0, 3)):
        slots = theirs.slots(epoch) + longer
        for first in range(ours.steps):  # wherever a run is resumed
            found = of_chunks(stream(ours, epoch, first, slots, k), first, ours.steps, k)
            for a, b in zip(found, theirs.epoch(epoch, first, slots), strict=True):
                assert_same(a, b)
    for a, b in zip(ours.epoch(7), theirs.epoch(7), strict=True):
        assert_same(a, b)


def test_a_process_reads_its_rows_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = Records.features

    def counting(self: Records, record: int, length: int) -> dict[str, np.ndarray]:
        read.append(record)
        return whole(self, record, length)

    monkeypatch.setattr(Records, "features", counting)
    ours, theirs = (TrainingBatches(t, 6, seed=0, devices=2) for t in tables(streamed(folder), simulate(SMALL)))
    half = ours.shape.rows // 2
    shares = []
    for share in (slice(0, half), slice(half, None)):
        read.clear()
        batches = of_chunks(stream(ours, 0, 0, ours.slots(0), 2, share), 0, ours.steps, 2)
        for a, b in zip(batches, theirs.epoch(0), strict=True):
            features = {m: np.zeros_like(x) for m, x in b.features.items()}
            for m, x in b.features.items():
                features[m][share] = x[share]
            assert_same(a, replace(b, features=features))
        shares.append({*read})
        assert len(read) == len(shares[-1])
    assert not shares[0] & shares[1] and shares[0] | shares[1] == {*range(SMALL.train)}


def test_the_corpus_is_the_resident_one(folder: Path) -> None:
    corpus, resident = streamed(folder), simulate(SMALL)
    assert isinstance(corpus.splits["train"], StoredSplit)
    assert corpus.fingerprint() == resident.fingerprint()
    assert (corpus.name, corpus.classes, corpus.dims, corpus.speakers) == (
        (resident.name, resident.classes, resident.dims, resident.speakers)
    )
    for split in SPLITS:
        np.testing.assert_array_equal(corpus.labels(split), resident.labels(split))
        assert len(corpus.splits[split]) == len(resident.splits[split])
        for a, b in zip(corpus.splits[split], resident.splits[split], strict=True):
            assert (a.id, len(a), list(a.features)) == (b.id, len(b), list(b.features))
            np.testing.assert_array_equal(a.speakers, b.speakers)
            for m in "tav":
                np.testing.assert_array_equal(a.features[m], b.features[m])
    assert [c.id for c in corpus.splits["train"][-2:]] == ["train-21", "train-22"]


def test_scaling_is_that_of_all_utterances(folder: Path) -> None:
    corpus = streamed(folder)
    scaling, resident = Standardizer.of(corpus, True), Standardizer.of(simulate(SMALL), True)
    for m in "tav":
        x_nd = np.concatenate([c.features[m] for c in corpus.splits["train"]]).astype(np.float64)
        np.testing.assert_allclose(scaling.mean[m], x_nd.mean(0), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(scaling.deviation[m], x_nd.std(0), rtol=1e-6)
        np.testing.assert_array_equal(scaling.mean[m], resident.mean[m])
        np.testing.assert_array_equal(scaling.deviation[m], resident.deviation[m])


@pytest.mark.parametrize("dataset", ["meld", "iemocap", "path"])
def test_published_files_stream_too(dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = published_corpus("iemocap" if dataset == "path" else dataset)
    monkeypatch.setattr(builders, "read_published", lambda *paths, **options: resident)
    (tmp_path / "mine.pkl").write_bytes(b"content")
    source = str(tmp_path / "mine.pkl") if dataset == "path" else dataset
    options: dict[str, Any] = {"features_dir": tmp_path, "prepared_dir": tmp_path / "prepared"}
    options |= {} if dataset == "path" else {"file": "mine.pkl"}
    corpus = load_corpus(source, stream=True, **options)
    drawn = resident if resident.splits["validation"] else draw_validation(resident)
    assert isinstance(corpus.splits["train"][0].features, StoredFeatures)
    assert corpus.fingerprint() == drawn.fingerprint()
    ours, theirs = (TrainingBatches(table, 4, seed=0) for table in tables(corpus, drawn))
    assert_same(next(stream(ours, 0, 0, ours.slots(0), 1)), jax.tree.map(lambda x: x[None], next(theirs.epoch(0))))


def test_simulated_conversations_are_made_once_and_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []

    def counting(simulation: Simulation, split: str, index: int) -> Any:
        made.append((split, index))
        return conversation(simulation, split, index)

    monkeypatch.setattr("cmath_jax.data.sources.simulate.conversation", counting)
    monkeypatch.setattr(builders, "FILE_BYTES", 2000)
    builder = Simulated(config=simulation_config(SMALL), data_dir=tmp_path)
    builder.download_and_prepare()
    probes = sum(getattr(SMALL, split) for split in SPLITS)  # all of so few, to see how long they are
    assert len(made) <= 2 * probes + 2
    made.clear()
    corpus_of(builder, stream=True)
    assert not made
    assert simulate_lazily(SMALL).fingerprint() == simulate(SMALL).fingerprint()


@pytest.mark.parametrize("how", ["gone", "empty", "half", "one bit"])
def test_damage_is_named(tmp_path: Path, how: str) -> None:
    resident = simulate(SMALL)
    table = StreamedTable.stored(streamed(tmp_path).splits["train"], MODALITIES, Standardizer.of(resident, True))
    batches = TrainingBatches(table, 4, seed=0)
    (path,) = tmp_path.rglob("simulated-train.array_record*")
    content = bytearray(path.read_bytes())
    content[content.index(resident.splits["train"][9].features["t"].tobytes())] ^= 1
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": path.read_bytes()[: len(content) // 2], "one bit": content}[how])
    with pytest.raises(InputError, match=r"simulated-train.array_record-00000-of-00001 is damaged or gone .* delete"):
        [*stream(batches, 0, 0, batches.slots(0), 2)]


@pytest.mark.parametrize("how", ["gone", "half"])
def test_a_damaged_index_is_refused(tmp_path: Path, how: str) -> None:
    streamed(tmp_path)
    (path,) = tmp_path.rglob("index.npz")
    os.truncate(path, path.stat().st_size // 2) if how == "half" else path.unlink()
    with pytest.raises(InputError, match=r"is damaged .* delete it"):
        streamed(tmp_path)


def test_it_reads_so_far_ahead_and_no_further(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    whole = StreamedTable.chunk

    def counting(self: StreamedTable, *arguments: Any) -> Batch:
        made.append(1)
        return whole(self, *arguments)

    monkeypatch.setattr(StreamedTable, "chunk", counting)
    batches = TrainingBatches(tables(streamed(folder), simulate(SMALL))[0], 2, seed=0)
    chunks = stream(batches, 0, 0, batches.slots(0), 1)
    for used in range(1, 5):
        next(chunks)
        time.sleep(0.05)
        assert used < len(made) <= used + AHEAD
    chunks.close()
    assert wait_for(lambda: not readers())


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("grain")]


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_threads_end_with_the_epoch(folder: Path) -> None:
    batches = TrainingBatches(tables(streamed(folder), simulate(SMALL))[0], 4, seed=0)
    assert [*stream(batches, 0, 0, batches.slots(0), 2)] and wait_for(lambda: not readers())


INTERRUPTED = """
import sys
sys.path[:0] = {path!r}
from test_streaming import *
signal.signal(signal.SIGINT, signal.default_int_handler) # a shell that runs the tests in the background has it ignored
batches = TrainingBatches(tables(streamed(Path({folder!r})), simulate(SMALL))[0], 4, seed=0)
for epoch in range(10**9):
    for _ in stream(batches, epoch, 0, batches.slots(epoch), 2):
        print(epoch, flush=True)
"""


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_behind(folder: Path) -> None:
    code = INTERRUPTED.format(path=sys.path, folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = psutil.Process(process.pid).children()
        # As a person would: again, if nothing happens. Python drops an interrupt that arrives in a destructor.
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, errors = process.communicate(timeout=10)
                break
    assert not children
    assert process.returncode != 0 and b"KeyboardInterrupt" in errors


def test_a_chunk_holds_some_megabytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = TrainingBatches(tables(streamed(folder), simulate(SMALL))[0], 4, seed=0)
    assert chunk_steps(batches) == batches.steps
    monkeypatch.setattr(
        "cmath_jax.data.prepared.streaming.CHUNK_BYTES", 2 * 4 * 10 * batches.shape.rows * batches.shape.slots
    )
    assert chunk_steps(batches) == 2  # of seven and three features, in float32


def test_one_ahead() -> None:
    made: list[int] = []
    items = one_ahead(made.append(i) or i for i in range(4))  # type: ignore[func-returns-value]
    seen = [(item, len(made)) for item in items]
    assert seen == [(0, 2), (1, 3), (2, 4), (3, 4)]
    assert [*one_ahead(iter(()))] == [] and [*one_ahead(iter((1,)))] == [1]


def test_a_linear_reference_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.stream=true .* linear_reference"):
        override(tiny(), {"data.stream": True, "linear_reference": "t"})
