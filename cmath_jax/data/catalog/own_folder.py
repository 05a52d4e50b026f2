"""Folders of one's own conversations."""

import logging
from dataclasses import dataclass
from pathlib import Path

from cmath_jax.data.catalog.source import Options, prepared
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.sources import counts
from cmath_jax.data.sources.class_names import doubtful_classes
from cmath_jax.data.sources.near_misses import likeness
from cmath_jax.data.sources.own import CONVERSATIONS, read_own
from cmath_jax.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnFolder:
    """The source `conversations`, or the path of a folder.

    Attributes:
      path: the folder; None for the one that the option `dir` names.
    """

    path: Path | None = None

    def check(self, options: Options) -> None:
        """Raises InputError if no folder is named, or it is not there."""
        if self.path is not None:
            return
        if not options.dir:
            raise InputError("the corpus conversations needs the folder that holds them: give dir=DIR")
        folder = Path(options.dir)
        if not folder.is_dir():
            raise InputError(
                f"dir={str(options.dir)!r}: {folder} is no folder with {CONVERSATIONS}, see docs/data.md"
                f"{likeness(folder)}"
            )

    def load(self, options: Options) -> Corpus:
        """Returns the conversations of the folder, and warns of classes that may be misspelled."""
        folder = self.path or Path(options.dir)
        corpus = _streamed(folder, options) if options.stream else read_own(folder, check_counts=options.check_counts)
        doubts = doubtful_classes(corpus.classes, counts.labels_of(corpus))
        if doubts:
            log.warning("%s: %s (python -m cmath_jax.data check %s)", folder, "; ".join(doubts), folder)
        return corpus


def _streamed(folder: Path, options: Options) -> Corpus:
    from cmath_jax.data.prepared.builders import Conversations, own_config

    config = own_config(folder, options.check_counts)
    return prepared(Conversations(config=config, data_dir=options.prepared_dir or None), stream=True)
