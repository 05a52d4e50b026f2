"""The table of the published layouts of feature files, and the recognition of a file as one of them.

What a file is gets decided by its content, never by its name: files of one name exist in several layouts.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.corpus import CLASSES, SPLITS
from cmath_jax.data.sources import safe_pickle, values
from cmath_jax.errors import InputError

TEXTS = ("text1", "text2", "text3", "text4")  # layers of RoBERTa, from the last; where there is one text, it is text1


@dataclass(frozen=True)
class Layout:
    """A row of the table of layouts; the one of a file at hand has the data set and the dimensions of that file.

    Attributes:
      name: the letter of the layout.
      title: whose it is; for a file also the data set and the length of the tuple.
      dataset: `meld`, `iemocap` or `iemocap4`.
      dims: the feature dimensions of text, audio, visual; None for a modality that is not there.
      slots: the names of the tuple's items, in order; `other` is not read.
      lacks: what is missing for a corpus, and what to do about it; "" when nothing is.
    """

    name: str
    title: str
    dataset: str
    dims: tuple[int | None, ...]
    slots: tuple[str, ...]
    lacks: str = ""

    @property
    def text_only(self) -> bool:
        return "text1" in self.slots and "audio" not in self.slots

    @property
    def combines_with(self) -> tuple[str, ...]:
        """The names of the layouts of which one can be given together with this one."""
        if self.text_only:
            return tuple(row.name for row in _LAYOUTS if not row.lacks)
        return tuple(row.name for row in _LAYOUTS if row.text_only and not self.lacks)


_START = ("utterance_ids", "speakers", "labels")
_END = ("audio", "visual", "sentences", "train", "test")
_NINE = (*_START, "text1", *_END)
_TWELVE = (*_START, *TEXTS, *_END)
_FOURTEEN = (*_START, "other", *TEXTS, *_END, "other")
_COSMIC_END = (*TEXTS, "sentences", "train", "test", "validation")
_COSMIC_IEMOCAP = ("speakers", "labels", *_COSMIC_END)
_COSMIC_MELD = ("speakers", "labels", "other", *_COSMIC_END)
_WITHOUT_VISUAL = (*_START, "text1", "audio", "sentences", "train", "test", "other")
_LABELS = ("utterance_ids", "labels", "speakers", "sentences", "train", "test")
_SPEAKERS = ("other", "speakers", "labels", "other", "other", "other", "other", "train", "test")
_COMET = ("commonsense",) * 9

_NO_AUDIO = "it has no audio and no visual features; give the file of MMGCN that has them too, as a second file"
_NO_VISUAL = "it has no visual features; MELD_features_raw1.pkl of MMGCN (10-tuple) has all three modalities"
_NO_FEATURES = "it has labels, but no text, audio and visual features; IEMOCAP_features.pkl of MMGCN (9-tuple) has"
_NO_LABELS = (
    "it has COMET commonsense vectors, which CMATH does not use, but no labels, text, audio and visual features; "
    "MELD_features_raw1.pkl and IEMOCAP_features.pkl of MMGCN have"
)
_APART = "its features are in three other files, which cannot be read; IEMOCAP_features.pkl of MMGCN has all in one"
_NONE = (None, None, None)

# The first that fits is taken, so L, which says little of its slots, comes last. The letters are those of a survey of
# what circulates; its I is E and its M is D under other names, and its O is JSON.
_LAYOUTS = (
    Layout("A", "MMGCN", "iemocap", (100, 1582, 342), _NINE),
    Layout("B", "conv-emotion", "iemocap", (100, 100, 512), _NINE),
    Layout("K", "GraphSmile", "iemocap4", (1024, 100, 512), _NINE),
    Layout("D", "MMGCN", "meld", (600, 300, 342), (*_NINE, "other")),
    Layout("E", "SDT", "iemocap", (1024, 1582, 342), _TWELVE),
    Layout("F", "SDT", "meld", (1024, 300, 342), (*_TWELVE, "other")),
    Layout("J", "GraphSmile", "meld", (1024, 300, 342), _FOURTEEN),
    Layout("G", "COSMIC", "iemocap", (1024, None, None), _COSMIC_IEMOCAP, _NO_AUDIO),
    Layout("H", "COSMIC", "meld", (1024, None, None), _COSMIC_MELD, _NO_AUDIO),
    Layout("C", "conv-emotion", "meld", (600, 300, None), _WITHOUT_VISUAL, _NO_VISUAL),
    Layout("N", "GCNet", "iemocap", _NONE, _LABELS, _NO_FEATURES),
    Layout("P", "COSMIC commonsense", "iemocap", _NONE, _COMET, _NO_LABELS),
    Layout("L", "MultiEMO", "iemocap", _NONE, _SPEAKERS, _APART),
)
_KINDS: dict[str, tuple[str, ...]] = {  # slot -> what it may look like, see `_kind`; `other` may be anything
    "utterance_ids": ("text",),
    "sentences": ("text",),
    "speakers": ("text", "vectors"),
    "labels": ("numbers",),
    **dict.fromkeys((*TEXTS, "audio", "visual", "commonsense"), ("vectors", "empty")),
    **dict.fromkeys(SPLITS, ("split",)),
}


@dataclass(frozen=True)
class FeatureFile:
    """A recognized file, or two combined.

    Attributes:
      path: where it is, for messages.
      source: what it is, for the record of a run.
      layout: its row of the table.
      published: the letter of the layout if the sizes are those of the published file too; of two files, both letters.
      slots: name of a slot -> its content: for a split the ids as they are in the file, else native id (int for MELD,
        str for IEMOCAP) -> what the conversation has there; the labels are checked to be lists of int.
    """

    path: str
    source: str
    layout: Layout
    slots: Mapping[str, Any]
    published: str = ""


def describe(path: str | PathLike[str]) -> Layout:
    """Describes the layout and the data set of a feature file. Raises InputError if it is unreadable or none of those
    known.
    """
    return recognize(path).layout


def recognize(path: str | PathLike[str]) -> FeatureFile:
    """Finds the layout of a feature file by its content.

    Raises:
      InputError: it is unreadable or in no known layout, or the ids or labels of its conversations make no sense.
    """
    content = safe_pickle.load(path)
    if not isinstance(content, tuple | list):
        alone = ", perhaps one modality of layout L alone" if isinstance(content, Mapping) else ""
        raise InputError(f"{path}: it holds a {type(content).__name__}{alone}; a feature file holds a tuple")
    kinds = [_kind(item) for item in content]
    rows = [row for row in _LAYOUTS if _fits(row.slots, kinds)]
    if not rows:
        raise InputError(
            f"{path}: it holds a {len(kinds)}-tuple of {', '.join(kinds) or 'nothing'}, as no published layout does; "
            "use a published file, such as MELD_features_raw1.pkl or IEMOCAP_features.pkl of MMGCN"
        )
    rows = [row for row in rows if row.slots == rows[0].slots]  # they differ in data set and dimensions
    slots = {
        name: _by_id(item, f"{path}: {name}") if isinstance(item, Mapping) else item
        for name, item in zip(rows[0].slots, content, strict=True)
        if name != "other"
    }
    if "labels" in slots:
        slots["labels"] = {
            id: values.labels(item, f"{path}: conversation {id!r}") for id, item in slots["labels"].items()
        }
    dims = tuple(
        next((len(first_utterance(slots[name])) for name in names if slots.get(name)), None)
        for names in (TEXTS, ("audio",), ("visual",))
    )
    dataset = _infer_dataset(str(path), slots, [row.dataset for row in rows if row.dims == dims])
    known = [row for row in rows if (row.dataset, row.dims) == (dataset, dims)]
    row = known[0] if known else rows[0]
    size = f"{len(kinds)}-tuple" if known or not any(dims) else f"{len(kinds)}-tuple, dims {'/'.join(map(str, dims))}"
    layout = replace(row, title=f"{row.title} {dataset.upper()} layout ({size})", dataset=dataset, dims=dims)
    return FeatureFile(str(path), f"{layout.title}, {Path(path).name}", layout, slots, row.name if known else "")


def first_utterance(slot: Mapping[Any, Any]) -> Any:
    """Returns what a slot has for the first utterance of the first conversation that is not empty; None if all are."""
    return next((item[0] for item in slot.values() if values.is_sequence(item) and len(item)), None)


def _kind(slot: object) -> str:
    """Names what a slot looks like: text, numbers or vectors per utterance, a split, empty, or something other."""
    if not isinstance(slot, Mapping):
        return "split" if isinstance(slot, Set) or values.is_sequence(slot) else "other"
    if not slot:
        return "empty"
    sample = first_utterance(slot)
    if values.is_sequence(sample):
        return "vectors"
    if isinstance(sample, str | bytes):
        return "text"
    return "numbers" if isinstance(sample, int | float | np.number) else "other"


def _fits(slots: Sequence[str], kinds: Sequence[str]) -> bool:
    return len(slots) == len(kinds) and all(k in _KINDS.get(s, (k,)) for s, k in zip(slots, kinds, strict=True))


def _by_id(slot: Mapping[Any, Any], where: str) -> dict[int | str, Any]:
    items = {values.conversation_id(id, where): item for id, item in slot.items()}
    if len(items) < len(slot):
        raise InputError(f"{where}: two conversations have the same id but for its type")
    return items


def _infer_dataset(path: str, slots: Mapping[str, Any], of_same_dims: Sequence[str]) -> str:
    """Returns the name of the data set: MELD has integer ids and one-hot speakers, IEMOCAP names and letters.

    Args:
      of_same_dims: the data sets that are known in this layout with the dimensions of the file.
    """
    labels = slots.get("labels", {})
    ids = sorted(labels or slots["commonsense"], key=lambda id: isinstance(id, str))  # the integers first
    meld = _kind(slots["speakers"]) == "vectors" if "speakers" in slots else bool(ids) and isinstance(ids[0], int)
    wrong = [id for id in ids if isinstance(id, int) != meld]
    if wrong:
        raise InputError(
            f"{path}: conversation {wrong[0]!r}: MELD has integer ids and one-hot speakers, IEMOCAP has names and "
            "letters, but this file has some of both"
        )
    if meld:
        return "meld"
    # Elsewhere, labels of four classes only are a part of iemocap, and shall not pass for want of published counts.
    four = all(label < len(CLASSES["iemocap4"]) for item in labels.values() for label in item)
    return "iemocap4" if four and "iemocap4" in of_same_dims else "iemocap"
