"""The interface of a source of corpora, the options that it is given, and parts that several sources share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cmath_jax.data.corpus import Corpus
from cmath_jax.data.sources import counts
from cmath_jax.data.sources.near_misses import likeness
from cmath_jax.data.sources.simulate import Simulation
from cmath_jax.errors import InputError

if TYPE_CHECKING:  # tensorflow-datasets takes a while to import, and not every source needs it
    from cmath_jax.data.prepared.builders import ConversationBuilder

DEFAULTS = Simulation()


@dataclass(frozen=True)
class Options:
    """The options of `load_corpus` that a source may need; it describes them."""

    dir: str | Path = ""
    features_dir: str | Path = "data"
    feature_set: str = "auto"
    file: str = ""
    text_layer: int = 1
    check_counts: str = "error"
    prepared_dir: str | Path = ""
    simulation: Simulation = DEFAULTS
    stream: bool = False


class Source(Protocol):
    """A source of a corpus."""

    def check(self, options: Options) -> None:
        """Checks, without reading it, that there is what `load` reads. Raises InputError."""
        ...

    def load(self, options: Options) -> Corpus:
        """Returns the corpus; of one that is streamed, the features of the training split are on disk."""
        ...


def require_file(path: Path) -> None:
    """Raises InputError if there is no such file."""
    if not path.is_file():
        raise InputError(
            f"{path} is a folder, not a file{likeness(path)}" if path.is_dir() else f"there is no file {path}"
        )


def prepared(builder: ConversationBuilder, stream: bool) -> Corpus:
    """Returns the corpus of a builder, which is prepared unless it is already."""
    from cmath_jax.data.prepared.builders import corpus_of

    was_prepared = builder.data_path.exists()
    builder.download_and_prepare()
    corpus = corpus_of(builder, stream)
    if was_prepared and counts.known(corpus.name):  # what was accepted with a warning is warned of whenever it is used
        counts.check_counts(corpus.source, corpus.name, corpus.classes, counts.labels_of(corpus), "warn")
    return corpus
