"""The corpora as tensorflow-datasets (without TensorFlow): prepared once as ArrayRecord, then opened in no time.

What lies on disk is keyed by the content of the raw files and by the options that change the data: the name of a
builder config is `sdt-1a2b3c4d`. Other content or another option is another folder, so none is ever stale. A change
of what is stored, or of how raw files are read, needs a new `VERSION`.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError

from cmath_jax.data.conversations import MODALITIES, SPLITS, Conversation, Corpus
from cmath_jax.data.download import MMGCN, RawFile
from cmath_jax.data.published import read_published
from cmath_jax.data.simulate import Simulation, simulate
from cmath_jax.errors import InputError

log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False, kw_only=True)
class FeatureConfig(tfds.core.BuilderConfig):
    """Which raw files, read how. `feature_config` makes one whose name is keyed by the content."""

    files: tuple[RawFile, ...]
    text_layer: int = 1
    check_counts: str = "error"

    def read(self, dataset: str, download_dir: Path) -> Corpus:
        paths = [file.fetch(download_dir) for file in self.files]
        return read_published(*paths, dataset=dataset, text_layer=self.text_layer, check_counts=self.check_counts)


@dataclasses.dataclass(eq=False, kw_only=True)
class SimulationConfig(tfds.core.BuilderConfig):
    """The options of a simulated corpus; `simulation_config` makes one whose name is keyed by them."""

    simulation: Simulation

    def read(self, dataset: str, download_dir: Path) -> Corpus:
        return simulate(self.simulation)


def feature_config(
    feature_set: str, files: tuple[RawFile, ...], text_layer: int = 1, check_counts: str = "error"
) -> FeatureConfig:
    """The config `FEATURE_SET-KEY` of these raw files, whose `blob` hashes must be known."""
    key = _key(tuple(file.blob for file in files), text_layer, check_counts)
    return FeatureConfig(name=f"{feature_set}-{key}", files=files, text_layer=text_layer, check_counts=check_counts)


def simulation_config(simulation: Simulation) -> SimulationConfig:
    """The config of a simulated corpus with these options."""
    return SimulationConfig(name=f"simulation-{_key(simulation)}", simulation=simulation)


def _key(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


class ConversationBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A corpus as a TFDS data set: an example is a conversation, in the order of the corpus.

    Arguments are those of every builder (`data_dir`, `config`); the file format is always ArrayRecord, the one that
    needs no TensorFlow. Read with `as_data_source()`, or as a whole with `corpus_of`.
    """

    VERSION = tfds.core.Version("1.0.0")
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

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[int, dict]]]:
        corpus = self.builder_config.read(self.name, Path(dl_manager.download_dir) / "cmath_jax")
        self.info.metadata.update(
            name=corpus.name,
            classes=list(corpus.classes),
            speakers=corpus.speakers,
            dims=corpus.dims,
            source=corpus.source,
        )
        # TFDS has no empty splits; corpus_of puts them back.
        return {split: self._generate_examples(corpus, split) for split in SPLITS if corpus.splits[split]}

    def _generate_examples(self, corpus: Corpus, split: str) -> Iterator[tuple[int, dict]]:
        for i, c in enumerate(corpus.splits[split]):
            absent = np.zeros((len(c), 1), np.float32)
            yield (
                i,
                {
                    "id": c.id,
                    **{name: c.features.get(m, absent) for m, name in MODALITIES.items()},
                    "speakers": c.speakers,
                    "labels": c.labels,
                    "utterance_ids": list(c.utterance_ids),
                    "sentences": list(c.sentences),
                },
            )

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
                with _only_process(Path(self.data_path).parent):
                    super().download_and_prepare(**kwargs)
        except OSError as error:
            raise InputError(
                f"cannot prepare {self.info.full_name} in {self.data_dir}: {error}; another folder can be "
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
def _only_process(folder: Path) -> Iterator[None]:
    """Holds the lock of the folder of one config, and clears away what a killed process left there."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in folder.glob("incomplete.*"):
            shutil.rmtree(left)
        yield


class Meld(ConversationBuilder):
    """MELD. By name (`tfds.builder("meld")`) with the features that can be downloaded, `mmgcn`."""

    BUILDER_CONFIGS = [FeatureConfig(name="mmgcn", files=(MMGCN["meld"],))]  # noqa: RUF012


class Iemocap(ConversationBuilder):
    """IEMOCAP. By name (`tfds.builder("iemocap")`) with the features that can be downloaded, `mmgcn`."""

    BUILDER_CONFIGS = [FeatureConfig(name="mmgcn", files=(MMGCN["iemocap"],))]  # noqa: RUF012


class Simulated(ConversationBuilder):
    """The built-in corpus. By name (`tfds.builder("simulated")`) with the default options."""

    BUILDER_CONFIGS = [simulation_config(Simulation())]  # noqa: RUF012


def corpus_of(builder: tfds.core.DatasetBuilder) -> Corpus:
    """The whole of a prepared data set as a corpus, equal to the one it was prepared from.

    Raises:
      InputError: the prepared folder is damaged.
    """
    try:
        metadata = builder.info.metadata
        dims = metadata["dims"]
        splits = {
            split: [_conversation(e, dims) for e in builder.as_data_source(split)]
            if split in builder.info.splits
            else []
            for split in SPLITS
        }
        fields = {"name": metadata["name"], "speakers": metadata["speakers"], "source": metadata["source"]}
        return Corpus(classes=tuple(metadata["classes"]), splits=splits, **fields)
    except (OSError, ValueError, RuntimeError, LookupError, TypeError) as error:
        raise _damaged(builder, error) from error


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
