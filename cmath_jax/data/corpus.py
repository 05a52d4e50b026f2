"""`Conversation` and `Corpus`: the one form that every source of data turns into, and that all else reads."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Protocol

import numpy as np

from cmath_jax.data.summary import CorpusSummary, conversation_line, conversation_table, counted, counts, dims_in_words
from cmath_jax.data.terms import MODALITIES, SPLITS, UNLABELLED, is_present
from cmath_jax.errors import InputError

CLASSES = {
    "iemocap": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
    "iemocap4": ("happy", "sad", "neutral", "angry"),
    "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
    "meld3": ("neutral", "positive", "negative"),
}


@dataclass(frozen=True)
class Conversation:
    """The utterances of one conversation, in time order.

    Attributes:
      id: the name of the conversation, unique in its corpus.
      features: modality letter (`t`, `a`, `v`) -> float32 [n, d_m]. A row of NaN: the utterance lacks this modality.
      speakers: int32 [n], the index of the speaker inside the conversation's data set.
      labels: int32 [n], indices into `Corpus.classes`; `UNLABELLED` where there is none.
      utterance_ids: a name per utterance, or () where the source has none.
      sentences: the words of each utterance, or () where the source has none.
    """

    id: str
    features: Mapping[str, np.ndarray]
    speakers: np.ndarray
    labels: np.ndarray
    utterance_ids: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"<Conversation {conversation_line(self)}>"

    def _repr_html_(self) -> str:
        return conversation_table(self)

    def digest(self) -> bytes:
        """Returns a hash, of 16 bytes, of everything that training can see."""
        digest = hashlib.sha256(f"{self.id}/{len(self)}".encode())
        for array in (self.speakers, self.labels, *(_one_nan(self.features[m]) for m in sorted(self.features))):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.digest()[:16]


class Sizes(Protocol):
    """The part of a corpus that a model has to know."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def speakers(self) -> int: ...


@dataclass(frozen=True)
class Corpus:
    """A data set: conversations by split, and what their numbers mean.

    Attributes:
      name: `meld`, `iemocap`, `simulated` or the name of one's own.
      classes: the names of the emotions, in the order of the label indices.
      splits: `train`, `validation`, `test` -> conversations.
      speakers: how many speaker indices there are.
      source: where it came from, for the record of a run.
      license: what its makers allow, for the card of a model.
      extraction: modality letter -> the settings of the extractor that made its features; nothing where unknown.
      published: the letters of the layouts (layouts.py) of the published files that its features are from, text first;
        "" where they are of any other origin, or of other sizes than published.
      lazy: its conversations are made or read when they are asked for, and are checked when they are written to disk.

    Raises:
      InputError: on construction, unless it is lazy, for a conversation that breaks the rules of `Conversation`; the
        message names the conversation, the utterance and the modality.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Conversation]]
    speakers: int
    source: str = field(default="", compare=False)
    license: str = field(default="", compare=False)
    extraction: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    lazy: bool = field(default=False, compare=False)
    published: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return f"<Corpus {self.name!r}: {self._size()}>"

    def _repr_html_(self) -> str:
        # All of a lazy one would have to be read or made.
        return f"<p>{escape(repr(self))}</p>" if self.lazy else self.summary()._repr_html_()

    def __post_init__(self) -> None:
        _check_splits(self)
        if not self.lazy:
            for _ in self.checked():
                pass

    def checked(self) -> Iterator[tuple[str, Conversation]]:
        """Yields every conversation with its split, one after the other, found to be sound. Raises InputError."""
        seen: dict[str, str] = {}
        dims: dict[str, int] = {}
        for split in SPLITS:
            for conversation in self.splits[split]:
                where = f"{self.name} {split}, conversation {conversation.id!r}"
                if conversation.id in seen:
                    raise InputError(f"{where}: the same id is also in {seen[conversation.id]!r}")
                seen[conversation.id] = split
                _check_conversation(conversation, where, dims, len(self.classes), self.speakers)
                yield split, conversation

    @property
    def dims(self) -> dict[str, int]:
        """Modality letter -> feature dimension d_m, read from the data."""
        first = next(conversation for split in SPLITS for conversation in self.splits[split])
        return {m: x_nd.shape[1] for m, x_nd in first.features.items()}

    def summary(self) -> CorpusSummary:
        """Counts what is in each split: conversations, utterances, emotions, speakers, what is missing."""
        facts = {"classes": ", ".join(self.classes), "speaker indices": str(self.speakers)}
        facts |= {"source": self.source, "license": self.license or "not stated"}
        for m, d in self.dims.items():
            made = self.extraction.get(m, {})
            told = ", ".join(f"{name} {value}" for name, value in made.items() if not name.endswith("_hash"))
            facts[MODALITIES[m]] = f"{d} features; {told or 'not known how extracted'}"
        return CorpusSummary(f"{self.name}: {self._size()}", facts, counts(self.splits, self.classes))

    def _size(self) -> str:
        sizes = ", ".join(f"{len(self.splits[split])} {split}" for split in SPLITS)
        total = counted(sum(len(self.splits[split]) for split in SPLITS), "conversation")
        dims = [] if self.lazy else [dims_in_words(self.dims)]
        return ", ".join([f"{total} ({sizes})", f"{len(self.classes)} classes", *dims])

    def labels(self, split: str) -> np.ndarray:
        """Returns the labels of a split, int32 [n], one conversation after the other."""
        return np.concatenate([c.labels for c in self.splits[split]]) if self.splits[split] else np.zeros(0, np.int32)

    def class_counts(self, split: str) -> np.ndarray:
        """Counts how often each emotion occurs among the labelled utterances of a split, int64 [c]."""
        labels = self.labels(split)
        return np.bincount(labels[labels != UNLABELLED], minlength=len(self.classes))

    def fingerprint(self) -> str:
        """Returns a hash of everything that training can see: equal data, equal fingerprint, on every machine."""
        digest = hashlib.sha256(repr((self.classes, self.speakers)).encode())
        for split in SPLITS:
            for c in self.splits[split]:
                digest.update(f"{split}/".encode() + c.digest())
        return digest.hexdigest()[:16]


def _one_nan(x_nd: np.ndarray) -> np.ndarray:
    """Replaces every NaN by one and the same: there are many, and each has other bits."""
    nan_nd = np.isnan(x_nd)
    return np.where(nan_nd, np.float32(np.nan), x_nd) if nan_nd.any() else x_nd


def _check_splits(corpus: Corpus) -> None:
    missing = [split for split in SPLITS if split not in corpus.splits]
    if missing:
        raise InputError(f"corpus {corpus.name!r} has no split {missing[0]!r}; it needs {', '.join(SPLITS)}")
    if not any(corpus.splits[split] for split in SPLITS):
        raise InputError(f"corpus {corpus.name!r} holds no conversations")


def _check_conversation(c: Conversation, where: str, dims: dict[str, int], classes: int, speakers: int) -> None:
    n = len(c.labels)
    if n == 0:
        raise InputError(f"{where}: it is empty (0 utterances)")
    if not c.features:
        raise InputError(f"{where}: it has no features in any modality")
    if dims and set(dims) != set(c.features):
        raise InputError(
            f"{where}: it has the modalities {sorted(c.features)}, the conversations before {sorted(dims)}"
        )
    for m, x_nd in c.features.items():
        name = MODALITIES.get(m)
        if name is None:
            raise InputError(f"{where}: unknown modality {m!r}; known are {', '.join(MODALITIES)}")
        if x_nd.ndim != 2 or len(x_nd) != n:
            raise InputError(f"{where}: {name} has shape {x_nd.shape}, but there are labels for {n} utterances")
        if x_nd.shape[1] != dims.setdefault(m, x_nd.shape[1]):
            raise InputError(f"{where}: {name} has {x_nd.shape[1]} features, the conversations before have {dims[m]}")
        wrong_nd = ~np.isfinite(x_nd) & is_present(x_nd)[:, None]
        if wrong_nd.any():
            utterance, feature = np.argwhere(wrong_nd)[0]
            raise InputError(f"{where}, utterance {utterance}: {name} feature {feature} is {x_nd[utterance, feature]}")
    for name, values in (("utterance_ids", c.utterance_ids), ("sentences", c.sentences)):
        if values and len(values) != n:
            raise InputError(f"{where}: {len(values)} {name}, but labels for {n} utterances")
    if c.speakers.shape != (n,):
        raise InputError(f"{where}: speakers have shape {c.speakers.shape}, but there are labels for {n} utterances")
    _check_range(c.speakers, 0, speakers, f"{where}, utterance %d: speaker index %d is not one of 0..{speakers - 1}")
    _check_range(c.labels, UNLABELLED, classes, f"{where}, utterance %d: label %d is not one of 0..{classes - 1}")


def _check_range(values: np.ndarray, low: int, end: int, message: str) -> None:
    wrong = np.flatnonzero((values < low) | (values >= end))
    if wrong.size:
        raise InputError(message % (wrong[0], values[wrong[0]]))
