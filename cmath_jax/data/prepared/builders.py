"""The corpora as tensorflow-datasets (without TensorFlow): prepared once as ArrayRecord, then opened in no time.

What lies on disk is keyed by the content of the raw files and by the options that change the data: the name of a
builder config is `sdt-1a2b3c4d`. Other content or another option is another folder, so none is ever stale. A change
of what is stored, or of how raw files are read, needs a new `VERSION`. Conversations are written one at a time, so that
a corpus need not fit into memory: not as it is prepared, if it can be made one by one, nor as it is opened.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from google.protobuf.json_format import ParseError

from cmath_jax.data.corpus import MODALITIES, SPLITS, Conversation, Corpus
from cmath_jax.data.prepared.records import Records
from cmath_jax.data.prepared.stored import Index, StoredSplit
from cmath_jax.data.sources.download import MMGCN, RawFile, blob_hash
from cmath_jax.data.sources.own import content_paths, read_own
from cmath_jax.data.sources.published import read_published
from cmath_jax.data.sources.simulate import Simulation, simulate_lazily
from cmath_jax.errors import OF_MACHINE, InputError, doing, reason
from cmath_jax.io.files import remove_empty, unreadable
from cmath_jax.io.lock import FolderLock

log = logging.getLogger(__name__)

FILE_BYTES = 2**28  # of a prepared file, about; as it is written, the examples of one are held in memory


@dataclasses.dataclass(eq=False, kw_only=True)
class FeatureConfig(tfds.core.BuilderConfig):
    """The raw files of a data set and how to read them; `feature_config` makes a name that is keyed by the content."""

    files: tuple[RawFile, ...]
    text_layer: int = 1
    check_counts: str = "error"

    def read(self, dataset: str | None, download_dir: Path) -> Corpus:
        paths = [file.fetch(download_dir) for file in self.files]
        return read_published(*paths, dataset=dataset, text_layer=self.text_layer, check_counts=self.check_counts)


@dataclasses.dataclass(eq=False, kw_only=True)
class SimulationConfig(tfds.core.BuilderConfig):
    """The options of a simulated corpus; `simulation_config` makes one whose name is keyed by them."""

    simulation: Simulation

    def read(self, dataset: str | None, download_dir: Path) -> Corpus:
        return simulate_lazily(self.simulation)


@dataclasses.dataclass(eq=False, kw_only=True)
class OwnConfig(tfds.core.BuilderConfig):
    """A folder of one's own conversations; `own_config` makes one whose name is keyed by the content."""

    folder: Path
    check_counts: str = "error"

    def read(self, dataset: str | None, download_dir: Path) -> Corpus:
        return read_own(self.folder, lazy=True, check_counts=self.check_counts)


def feature_config(
    feature_set: str, files: tuple[RawFile, ...], text_layer: int = 1, check_counts: str = "error"
) -> FeatureConfig:
    """Makes the config `FEATURE_SET-KEY` of these raw files, whose `blob` hashes must be known."""
    key = _key(tuple(file.blob for file in files), text_layer, check_counts)
    return FeatureConfig(name=f"{feature_set}-{key}", files=files, text_layer=text_layer, check_counts=check_counts)


def simulation_config(simulation: Simulation) -> SimulationConfig:
    """Makes the config of a simulated corpus with these options."""
    return SimulationConfig(name=f"simulation-{_key(simulation)}", simulation=simulation)


def own_config(folder: Path, check_counts: str = "error") -> OwnConfig:
    """Makes the config of a folder of conversations, whose name is keyed by the content of its files."""
    folder = folder.resolve()  # its name can be that of the corpus
    blobs = tuple((path.name, blob_hash(path)) for path in content_paths(folder))
    name = f"own-{_key(folder.name, blobs, check_counts)}"
    return OwnConfig(name=name, folder=folder, check_counts=check_counts)


def _key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


class UncompressedWriter(tfds.core.ExampleWriter):
    """Writes ArrayRecord files without compression: features are noise to it, and are read three times as fast."""

    def __init__(self) -> None:
        super().__init__(tfds.core.FileFormat.ARRAY_RECORD)

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> None:
        with _as_os_error():
            writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        for _, example in examples:
            with _as_os_error():
                writer.write(example)
        with _as_os_error():
            writer.close()


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Turns a RuntimeError, as which ArrayRecord reports a full disk and the like, into an OSError."""
    try:
        yield
    except RuntimeError as error:
        code = next((code for code in OF_MACHINE if os.strerror(code) in str(error)), None)
        raise (OSError(code, str(error)) if code else OSError(str(error))) from error


class ConversationBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A corpus as a TFDS data set: an example is a conversation, in the order of the corpus.

    Arguments are those of every builder (`data_dir`, `config`); the file format is always ArrayRecord, the one that
    needs no TensorFlow. Read with `as_data_source()`, or with `corpus_of`.
    """

    VERSION = tfds.core.Version("1.3.0")
    # No checksums of TFDS: `download` has its own. Looking for them needs importlib_resources, which TFDS uses but
    # does not depend on.
    url_infos: ClassVar[dict[str, Any]] = {}

    def __init__(self, **kwargs: Any) -> None:
        # TFDS warns of every config that is not in BUILDER_CONFIGS, as those with a content hash cannot be.
        absl = logging.getLogger("absl")
        level = absl.level
        absl.setLevel(logging.ERROR)
        try:
            super().__init__(**(kwargs | {"file_format": "array_record"}))
        except ParseError as error:
            raise _damaged(self, error) from error
        finally:
            absl.setLevel(level)

    def _info(self) -> tfds.core.DatasetInfo:
        # The dimensions are not known before the raw files are read. Encoded as bytes, a tensor of 1000s of floats
        # opens some ten times faster than as a list of numbers.
        matrix = tfds.features.Tensor(shape=(None, None), dtype=np.float32, encoding="bytes")
        vector = tfds.features.Tensor(shape=(None,), dtype=np.int32)
        texts = tfds.features.Sequence(tfds.features.Text())
        features = {name: matrix for name in MODALITIES.values()}  # zeros [n, 1] for one that the corpus lacks
        features |= {"speakers": vector, "labels": vector, "utterance_ids": texts, "sentences": texts}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Conversations: text, audio and visual features, speaker and emotion of every utterance.",
            features=tfds.features.FeaturesDict({"id": tfds.features.Text(), **features}),
            metadata=tfds.core.MetadataDict(),  # of the corpus, see _split_generators
            disable_shuffling=True,
        )

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return UncompressedWriter()

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list[Any]]:
        dataset = None if self.name == "published" else self.name
        corpus = self.builder_config.read(dataset, Path(dl_manager.download_dir) / "cmath_jax")
        self.info.metadata.update(
            name=corpus.name,
            classes=list(corpus.classes),
            speakers=corpus.speakers,
            dims=corpus.dims,
            source=corpus.source,
            license=corpus.license,
            published=corpus.published,
            extraction={m: dict(settings) for m, settings in corpus.extraction.items()},
        )
        self._index = Index(corpus.dims)
        # TFDS has no empty splits; corpus_of puts them back. It takes the files one after the other, and so this can
        # check and write a corpus in one pass.
        examples = self._examples(corpus)
        return {
            split: [partial(itertools.islice, examples, count) for count in _file_lengths(corpus.splits[split])]
            for split in SPLITS
            if corpus.splits[split]
        }

    def _examples(self, corpus: Corpus) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, (split, c) in enumerate(corpus.checked()):
            if split == "train":
                self._index.add(c)
            missing = np.zeros((len(c), 1), np.float32)
            yield (
                i,
                {
                    "id": c.id,
                    **{name: c.features.get(m, missing) for m, name in MODALITIES.items()},
                    "speakers": c.speakers,
                    "labels": c.labels,
                    "utterance_ids": list(c.utterance_ids),
                    "sentences": list(c.sentences),
                },
            )

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        self._index.save(Path(self.data_path))

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Reads the raw files and writes the prepared folder, unless it is there.

        TFDS writes to a folder `incomplete.*` and renames it, so that an interrupted preparation is never taken for
        a whole one. Of several processes at once, one prepares and the others wait for it.

        Raises:
          InputError: as `read_published` and `download`; or the folder cannot be written.
        """
        try:
            if kwargs or not self.data_path.exists():
                tfds.disable_progress_bar()
                folder = Path(self.data_path).parent
                with _only_process(folder, Path(self.data_dir_root) / "downloads"), doing("preparing", folder):
                    super().download_and_prepare(**kwargs)
        except OSError as error:
            raise InputError(
                f"cannot prepare {self.info.full_name} in {self.data_dir}: {reason(error)}; another folder can be "
                "named with prepared_dir"
            ) from error
        if not self.info.splits and (self.data_path / "dataset_info.json").exists():  # prepared by another process
            self.info.read_from_directory(self.data_dir)

    # What TFDS prints on standard output becomes log lines.
    def _log_download_bytes(self) -> None:
        log.info("preparing %s in %s", self.info.full_name, self.data_dir)

    def _log_download_done(self) -> None:
        log.info("prepared %s (%s)", self.info.full_name, self.info.dataset_size)


@contextlib.contextmanager
def _only_process(folder: Path, downloads: Path) -> Iterator[None]:
    """Holds the lock of the folder of one config, and clears away what a killed process left there.

    Where the block fails, nothing is left of what TFDS makes before there are data: the folder of its downloads, which
    is empty, and what it notes of a data set that is not there.
    """
    lock = FolderLock(folder)
    lock.acquire(wait=True)
    try:
        for left in folder.glob("incomplete.*"):
            shutil.rmtree(left)
        yield
    except BaseException:
        remove_empty([downloads / "extracted", downloads])
        with contextlib.suppress(OSError):
            if {path.name for path in folder.parent.iterdir()} == {folder.name, ".config"}:
                shutil.rmtree(folder.parent / ".config")
        lock.release_without_trace(lambda path: path.name.startswith("incomplete."))
        raise
    finally:
        lock.release()


class Meld(ConversationBuilder):
    """MELD. By name (`tfds.builder("meld")`) with the features that can be downloaded, `mmgcn`."""

    BUILDER_CONFIGS = [FeatureConfig(name="mmgcn", files=(MMGCN["meld"],))]  # noqa: RUF012


class Iemocap(ConversationBuilder):
    """IEMOCAP. By name (`tfds.builder("iemocap")`) with the features that can be downloaded, `mmgcn`."""

    BUILDER_CONFIGS = [FeatureConfig(name="mmgcn", files=(MMGCN["iemocap"],))]  # noqa: RUF012


class Published(ConversationBuilder):
    """A published feature file of either data set, which its content tells."""

    BUILDER_CONFIGS: ClassVar[list[FeatureConfig]] = []


class Conversations(ConversationBuilder):
    """A folder of one's own conversations."""

    BUILDER_CONFIGS: ClassVar[list[OwnConfig]] = []


class Simulated(ConversationBuilder):
    """The built-in corpus. By name (`tfds.builder("simulated")`) with the default options."""

    BUILDER_CONFIGS = [simulation_config(Simulation())]  # noqa: RUF012


def corpus_of(builder: tfds.core.DatasetBuilder, stream: bool = False) -> Corpus:
    """Opens a prepared data set as a corpus, equal to the one it was prepared from.

    Args:
      stream: leaves the features of the training split on disk, as a `StoredSplit`.

    Raises:
      InputError: the prepared folder is damaged.
    """
    try:
        metadata, prepared = builder.info.metadata, builder.info.splits
        dims = metadata["dims"]
        splits: dict[str, Sequence[Conversation]] = {split: [] for split in SPLITS}
        for split in prepared:
            if stream and split == "train":
                records = Records(tuple(prepared[split].file_instructions), dims)
                splits[split] = StoredSplit.open(Path(builder.data_path), records)
            else:
                splits[split] = [_conversation(e, dims) for e in builder.as_data_source(split)]
        fields = {name: metadata[name] for name in ("name", "speakers", "source", "license", "extraction", "published")}
        return Corpus(classes=tuple(metadata["classes"]), splits=splits, lazy=stream, **fields)
    except OSError as error:
        if error.errno is None or isinstance(error, FileNotFoundError):
            raise _damaged(builder, error) from error
        raise unreadable(error.filename or builder.data_dir, error) from error
    except (ValueError, RuntimeError, LookupError, TypeError, BadZipFile) as error:
        raise _damaged(builder, error) from error


def _file_lengths(conversations: Sequence[Conversation]) -> list[int]:
    """Returns how many conversations go into each file of a split."""
    probes = [conversations[i] for i in range(0, len(conversations), 1 + len(conversations) // 100)]
    mean = np.mean([sum(x_nd.nbytes for x_nd in c.features.values()) for c in probes])
    files = min(len(conversations), int(1 + len(conversations) * mean // FILE_BYTES))
    return [len(part) for part in np.array_split(np.arange(len(conversations)), files)]


def _damaged(builder: tfds.core.DatasetBuilder, error: Exception) -> InputError:
    return InputError(f"the prepared folder {builder.data_dir} is damaged ({error!r}): delete it")


def _conversation(example: dict[str, Any], dims: dict[str, int]) -> Conversation:
    return Conversation(
        id=example["id"].decode(),
        features={m: example[MODALITIES[m]] for m in dims},
        speakers=example["speakers"],
        labels=example["labels"],
        utterance_ids=tuple(text.decode() for text in example["utterance_ids"]),
        sentences=tuple(text.decode() for text in example["sentences"]),
    )
