"""A split that lies on disk: its small columns in memory, its features read when they are asked for.

The features are those of a prepared data set (`builders.py`). The columns are kept beside them in one file, the index.

Shapes: n utterances of a split, b its conversations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from cmath_jax.data.corpus import SPLITS, Conversation, Corpus, is_present
from cmath_jax.data.moments import Moments

if TYPE_CHECKING:  # it imports tensorflow-datasets, which takes a while
    from cmath_jax.data.prepared.records import Records

INDEX = "index.npz"
MOMENTS = ("mean", "squares", "lowest", "highest")  # of `Moments`, in its order, a column for each modality


@dataclass(frozen=True)
class StoredFeatures(Mapping[str, np.ndarray]):
    """The features of a conversation, read anew whenever they are asked for."""

    records: Records
    record: int
    length: int

    def __getitem__(self, m: str) -> np.ndarray:
        return self.records.features(self.record, self.length)[m]

    def __iter__(self) -> Iterator[str]:
        return iter(self.records.dims)

    def __len__(self) -> int:
        return len(self.records.dims)


@dataclass(frozen=True)
class StoredConversation(Conversation):
    """A conversation with `StoredFeatures`.

    Attributes:
      stored_digest: its `digest`, for which the features need not be read.
      present: m -> bool [n], which utterances have the modality.
    """

    stored_digest: bytes = b""
    present: Mapping[str, np.ndarray] = field(default_factory=dict)

    def digest(self) -> bytes:
        return self.stored_digest


class Index:
    """The columns of a split while it is being written."""

    def __init__(self, dims: Mapping[str, int]) -> None:
        self._ids: list[str] = []
        self._speakers: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._digests: list[bytes] = []
        self._present: dict[str, list[np.ndarray]] = {m: [] for m in dims}
        self._moments = Moments.of([], dims)

    def add(self, conversation: Conversation) -> None:
        self._ids.append(conversation.id)
        self._speakers.append(conversation.speakers)
        self._labels.append(conversation.labels)
        self._digests.append(conversation.digest())
        for m, present in self._present.items():
            present.append(is_present(conversation.features[m]))
        self._moments = self._moments.plus(conversation.features)

    def save(self, folder: Path) -> None:
        """Writes the index into the folder of the prepared data set."""
        none = np.zeros(0, np.int32)
        columns: dict[str, np.ndarray] = {
            "ids": np.frombuffer(json.dumps(self._ids).encode(), np.uint8),
            "length_c": np.array([len(labels) for labels in self._labels], np.int64),
            "speaker_n": np.concatenate([none, *self._speakers]),
            "label_n": np.concatenate([none, *self._labels]),
            "digest_ck": np.frombuffer(b"".join(self._digests), np.uint8).reshape(len(self._ids), -1),
        }
        for m, present in self._present.items():
            columns[f"present_{m}"] = np.concatenate([np.zeros(0, bool), *present])
            columns[f"count_{m}"] = np.array(self._moments.count[m])
        for name in MOMENTS:
            columns |= {f"{name}_{m}": x_d for m, x_d in getattr(self._moments, name).items()}
        np.savez(folder / INDEX, allow_pickle=False, **columns)


@dataclass(frozen=True)
class StoredSplit(Sequence[Conversation]):
    """The conversations of a split on disk, without sentences and names of utterances.

    Attributes:
      digest_bx: uint8, `Conversation.digest` of each.
      moments: of all features.
      present: m -> bool [n], which utterances have the modality.
    """

    records: Records
    ids: tuple[str, ...]
    length_b: np.ndarray
    speaker_n: np.ndarray
    label_n: np.ndarray
    digest_bx: np.ndarray
    moments: Moments
    present: Mapping[str, np.ndarray]

    @classmethod
    def open(cls, folder: Path, records: Records) -> StoredSplit:
        """Opens a split; raises OSError, ValueError or LookupError for an index that is gone or damaged."""
        with open(folder / INDEX, "rb") as file, np.load(file) as columns:
            stored_names = ("length_c", "speaker_n", "label_n", "digest_ck")
            length_b, speaker_n, label_n, digest_bx = (columns[name] for name in stored_names)
            *moments, present = ({m: columns[f"{name}_{m}"] for m in records.dims} for name in (*MOMENTS, "present"))
            count = {m: int(columns[f"count_{m}"]) for m in records.dims}
            ids = tuple(json.loads(columns["ids"].tobytes()))
        return cls(records, ids, length_b, speaker_n, label_n, digest_bx, Moments(count, *moments), present)

    @cached_property
    def _start_b(self) -> np.ndarray:
        return np.cumsum(self.length_b) - self.length_b

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, c: int) -> Conversation: ...
    @overload
    def __getitem__(self, c: slice) -> list[Conversation]: ...
    def __getitem__(self, c: int | slice) -> Conversation | list[Conversation]:
        if isinstance(c, slice):
            return [self[i] for i in range(len(self))[c]]
        record = range(len(self))[c]
        length, start = int(self.length_b[record]), int(self._start_b[record])
        return StoredConversation(
            id=self.ids[record],
            features=StoredFeatures(self.records, record, length),
            speakers=self.speaker_n[start : start + length],
            labels=self.label_n[start : start + length],
            stored_digest=self.digest_bx[record].tobytes(),
            present={m: present_n[start : start + length] for m, present_n in self.present.items()},
        )


def lacks(corpus: Corpus, modalities: str) -> bool:
    """Returns whether any utterance of the corpus lacks one of these modalities."""

    def present(split: str, m: str) -> Iterator[np.ndarray]:
        conversations = corpus.splits[split]
        if isinstance(conversations, StoredSplit):  # whose features need not be read
            yield conversations.present[m]
        else:
            for c in conversations:
                yield c.present[m] if isinstance(c, StoredConversation) else is_present(c.features[m])

    return not all(present_n.all() for split in SPLITS for m in modalities for present_n in present(split, m))
