"""The interface of extractors: how they are asked, and how they answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cmath_jax.data.sources.schema import Transcript


@dataclass(frozen=True)
class Problem:
    """Something about the words or the recording of one utterance that its user should know.

    Attributes:
      conversation, utterance: numbers, from 0, in the transcripts that the extractor was given.
      reason: what is wrong, in words that can stand after a colon.
      recording: the path as the utterance names it; None where the problem is not about a recording.
      used: whether the utterance has features all the same.
    """

    conversation: int
    utterance: int
    reason: str
    recording: str | None = None
    used: bool = False

    def __str__(self) -> str:
        """Returns the recording and the reason, without the place."""
        return self.reason if self.recording is None else f"{self.recording}: {self.reason}"

    def line(self, transcripts: Sequence[Transcript]) -> str:
        """Returns the whole message, with the place by the id of the conversation."""
        return f"conversation {transcripts[self.conversation].id!r}, utterance {self.utterance}: {self}"


@dataclass(frozen=True)
class Extracted:
    """The features that an extractor has made of transcripts.

    Attributes:
      features: float32 [n, d] per transcript; a row of NaN: the utterance lacks this modality.
      problems: what is absent, broken, or otherwise not as its user will think.
    """

    features: list[np.ndarray]
    problems: list[Problem]


@dataclass(frozen=True)
class Execution:
    """The ways to compute features; nothing here changes them.

    Attributes:
      workers: processes that read recordings; 0: this one reads them.
      cache: a folder that keeps every vector, so that none is computed twice; None: nothing is kept.
      batch: texts, or pictures, that go through a network at once.
      device: of PyTorch, as `cpu` or `cuda`; None: CUDA where there is one.
      progress: whether to show it on stderr.
    """

    workers: int = 0
    cache: Path | None = None
    batch: int = 32
    device: str | None = None
    progress: bool = False


class Extractor(Protocol):
    """A maker of vectors from one modality of utterances.

    Attributes:
      settings: JSON values, all of them: an extractor made from them gives the same vectors.
      dim: d, their length.
    """

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def dim(self) -> int: ...

    def features(self, transcripts: Sequence[Transcript], folder: Path) -> Extracted:
        """Returns the vectors of all utterances; paths of recordings are relative to the folder."""
        ...
