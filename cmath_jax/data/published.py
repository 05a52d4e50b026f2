"""Read the published feature files of IEMOCAP and MELD, in every layout that circulates, into a `Corpus`.

What a file is gets decided by its content, never by its name: files of one name exist in several layouts.
"""

import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np

from cmath_jax.data import safe_pickle
from cmath_jax.data.conversations import CLASSES, MODALITIES, SPLITS, Conversation, Corpus
from cmath_jax.errors import InputError

PUBLISHED12 = (  # the validation dialogues of the IEMOCAP release of TelME, 647 utterances
    *("Ses01M_impro01", "Ses01M_script03_1", "Ses02F_impro02", "Ses02F_impro07", "Ses02M_script01_2", "Ses03F_impro01"),
    *("Ses03M_impro02", "Ses03M_impro08a", "Ses03M_script02_2", "Ses03M_script03_2", "Ses04F_impro07"),
    "Ses04F_script02_1",
)
_MELD_DEVELOPMENT = range(1039, 1153)  # the official development dialogues, which the files count as training
# Data set -> (splits taken together, conversations, utterances per class). For iemocap4 no counts are published.
_COUNTS: dict[str, tuple[tuple[tuple[str, ...], int, tuple[int, ...]], ...]] = {
    "meld": (
        (("train",), 1038, (4710, 1205, 268, 683, 1743, 271, 1109)),
        (("validation",), 114, (470, 150, 40, 111, 163, 22, 153)),
        (("test",), 280, (1256, 281, 50, 208, 402, 68, 345)),
    ),
    "iemocap": (
        (("train", "validation"), 120, (504, 839, 1324, 933, 742, 1468)),
        (("test",), 31, (144, 245, 384, 170, 299, 381)),
    ),
    "iemocap4": (),
}


@dataclass(frozen=True)
class Layout:
    """What a file is: a row of the table of layouts, with the data set and the dimensions of the file at hand.

    Attributes:
      name: the letter of the layout.
      title: whose it is; for a file also the data set and the length of the tuple.
      dataset: `meld`, `iemocap` or `iemocap4`.
      dims: the feature dimensions of text, audio, visual; None for a modality that is not there.
      slots: the names of the tuple's items, in order, separated by blanks; `other` is not read.
      lacks: what is missing for a corpus, and what to do about it; "" when nothing is.
    """

    name: str
    title: str
    dataset: str
    dims: tuple[int | None, ...]
    slots: str
    lacks: str = ""

    @property
    def text_only(self) -> bool:
        return "text1" in self.slots and "audio" not in self.slots

    @property
    def combines_with(self) -> tuple[str, ...]:
        """The layouts of which one can be given together with this one."""
        if self.lacks and not self.text_only:
            return ()
        return tuple(row.name for row in _LAYOUTS if (not row.lacks if self.text_only else row.text_only))


_TEXTS = "text1 text2 text3 text4"
_NINE = "utterance_ids speakers labels text1 audio visual sentences train test"
_TWELVE = f"utterance_ids speakers labels {_TEXTS} audio visual sentences train test"
_FOURTEEN = f"utterance_ids speakers labels other {_TEXTS} audio visual sentences train test other"
_NO_AUDIO = "it has no audio and no visual features; give the file of MMGCN that has them too, as a second file"
_NO_VISUAL = "it has no visual features; MELD_features_raw1.pkl of MMGCN (10-tuple) has all three modalities"
_LABELS = "it has labels, but no text, audio and visual features; IEMOCAP_features.pkl of MMGCN (9-tuple) has"
_COMET = "it has COMET commonsense vectors, which CMATH does not use, but no labels, text, audio and visual features"
_APART = "its features are in three other files, which cannot be read; IEMOCAP_features.pkl of MMGCN has all in one"
_NONE = (None, None, None)
_LAYOUTS = (  # the first that fits is taken, so L, which says little of its slots, comes last
    Layout("A", "MMGCN", "iemocap", (100, 1582, 342), _NINE),
    Layout("B", "conv-emotion", "iemocap", (100, 100, 512), _NINE),
    Layout("K", "GraphSmile", "iemocap4", (1024, 100, 512), _NINE),
    Layout("D", "MMGCN", "meld", (600, 300, 342), f"{_NINE} other"),
    Layout("E", "SDT", "iemocap", (1024, 1582, 342), _TWELVE),
    Layout("F", "SDT", "meld", (1024, 300, 342), f"{_TWELVE} other"),
    Layout("J", "GraphSmile", "meld", (1024, 300, 342), _FOURTEEN),
    Layout(
        *("G", "COSMIC", "iemocap", (1024, None, None)),
        *(f"speakers labels {_TEXTS} sentences train test validation", _NO_AUDIO),
    ),
    Layout(
        *("H", "COSMIC", "meld", (1024, None, None)),
        *(f"speakers labels other {_TEXTS} sentences train test validation", _NO_AUDIO),
    ),
    Layout(
        *("C", "conv-emotion", "meld", (600, 300, None)),
        *("utterance_ids speakers labels text1 audio sentences train test other", _NO_VISUAL),
    ),
    Layout("N", "GCNet", "iemocap", _NONE, "utterance_ids labels speakers sentences train test", _LABELS),
    Layout("P", "COSMIC commonsense", "iemocap", _NONE, " ".join(["commonsense"] * 9), _COMET),
    Layout("L", "MultiEMO", "iemocap", _NONE, "other speakers labels other other other other train test", _APART),
)
_KINDS = {"speakers": ("text", "vectors"), "labels": ("numbers",)}  # what a slot may look like, see `_kind`
_KINDS |= dict.fromkeys(("utterance_ids", "sentences"), ("text",))
_KINDS |= dict.fromkeys((*_TEXTS.split(), "audio", "visual", "commonsense"), ("vectors", "empty"))
_KINDS |= dict.fromkeys(SPLITS, ("split",))


@dataclass(frozen=True)
class _File:
    """A recognised file, or two combined. The keys of its slots are native ids: int for MELD, str for IEMOCAP."""

    path: str
    source: str
    layout: Layout
    slots: Mapping[str, Any]


def describe(path: str | PathLike[str]) -> Layout:
    """Which layout and data set a feature file is; `InputError` when it is unreadable or none of those known."""
    return _open(path).layout


def read_published(
    *paths: str | PathLike[str], dataset: str | None = None, text_layer: int = 1, check_counts: str = "error"
) -> Corpus:
    """The corpus in a published feature file, or in a text-only file and one that has audio and visual.

    Args:
      paths: one file with the three modalities, or two in any order, one of them text-only (layouts G and H).
      dataset: `meld`, `iemocap` or `iemocap4`; inferred from the content where None.
      text_layer: 1 to 4, which of the layers of RoBERTa to read; 1 is its last.
      check_counts: `error` or `warn`: what to do when conversations, utterances or classes are not as many as
        published.

    Raises:
      InputError: an option or a file cannot be used; the message names the file and, for a defect inside it, the
        conversation, the utterance and the modality.
    """
    if dataset not in (None, *_COUNTS):
        raise InputError(f"dataset is {dataset!r}; it can be {', '.join(_COUNTS)}")
    if type(text_layer) is not int or text_layer not in (1, 2, 3, 4):
        raise InputError(f"text_layer is {text_layer!r}; it can be 1, 2, 3 or 4")
    if check_counts not in ("error", "warn"):
        raise InputError(f"check_counts is {check_counts!r}; it can be error or warn")
    if len(paths) not in (1, 2):
        raise InputError(f"{len(paths)} feature files given; give one, or a text-only file and one with all modalities")
    files = [_open(path) for path in paths]
    file = files[0] if len(files) == 1 else _combine(files)
    if file.layout.lacks:
        raise InputError(f"{file.path}: {file.layout.title}: {file.layout.lacks}")
    found = file.layout.dataset
    # a part of iemocap without one excited or frustrated utterance looks like iemocap4
    if dataset not in (None, found) and (dataset, found) != ("iemocap", "iemocap4"):
        raise InputError(f"{file.path}: dataset is {dataset!r}, but the content is that of {found!r}")
    corpus = _corpus(file, dataset or found, f"text{text_layer}")
    differences = _count_differences(corpus)
    if differences:
        message = f"{file.path}: the counts are not those of {corpus.name}: {'; '.join(differences)}"
        if check_counts == "error":
            raise InputError(f"{message} (check_counts=warn accepts the file)")
        warnings.warn(message, stacklevel=2)
    return corpus


def draw_validation(corpus: Corpus, fraction: float = 0.2, seed: int = 0) -> Corpus:
    """The corpus with round(fraction * n) of its n training conversations moved to validation, at random.

    Raises:
      InputError: it has a validation split already, the seed is negative, or a split would be left empty.
    """
    ids = sorted(c.id for c in corpus.splits["train"])
    count = round(fraction * len(ids))
    if not 0 < count < len(ids) or seed < 0:
        raise InputError(f"cannot draw {fraction} of {len(ids)} training conversations as validation with seed {seed}")
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(len(ids))[:count]
    return _move_to_validation(corpus, {ids[i] for i in drawn}, f"{count} drawn with seed {seed}")


def published12(corpus: Corpus) -> Corpus:
    """The corpus of IEMOCAP with the conversations of `PUBLISHED12` moved from training to validation.

    Raises:
      InputError: it has a validation split already, or lacks some of the 12 in training.
    """
    missing = set(PUBLISHED12) - {c.id for c in corpus.splits["train"]}
    if missing and not corpus.splits["validation"]:
        raise InputError(
            f"{corpus.name}: the published validation split needs {', '.join(sorted(missing))} in training"
        )
    return _move_to_validation(corpus, set(PUBLISHED12), "the published 12")


def _move_to_validation(corpus: Corpus, ids: set[str], how: str) -> Corpus:
    if corpus.splits["validation"]:
        raise InputError(f"{corpus.name} has a validation split of {len(corpus.splits['validation'])} already")
    train = corpus.splits["train"]
    moved = {"train": [c for c in train if c.id not in ids], "validation": [c for c in train if c.id in ids]}
    return replace(corpus, splits={**corpus.splits, **moved}, source=f"{corpus.source}; validation: {how}")


def _count_differences(corpus: Corpus) -> list[str]:
    differences = []
    for splits, conversations, utterances in _COUNTS[corpus.name]:
        found = np.sum([corpus.class_counts(split) for split in splits], axis=0)
        rows = [("conversations", conversations, sum(len(corpus.splits[split]) for split in splits))]
        rows += [("utterances", sum(utterances), found.sum()), *zip(corpus.classes, utterances, found, strict=True)]
        name = " and ".join(splits)
        differences += [f"{name} {what}: expected {want}, found {got}" for what, want, got in rows if want != got]
    return differences


def _open(path: str | PathLike[str]) -> _File:
    content = safe_pickle.load(path)
    if not isinstance(content, tuple | list):
        alone = ", perhaps one modality of layout L alone" if isinstance(content, Mapping) else ""
        raise InputError(f"{path}: it holds a {type(content).__name__}{alone}; a feature file holds a tuple")
    kinds = [_kind(item) for item in content]
    rows = [row for row in _LAYOUTS if _fits(row.slots.split(), kinds)]
    if not rows:
        raise InputError(f"{path}: no published layout is a {len(kinds)}-tuple of {', '.join(kinds) or 'nothing'}")
    slots = {
        name: _by_id(item, f"{path}: {name}") if isinstance(item, Mapping) else item
        for name, item in zip(rows[0].slots.split(), content, strict=True)
        if name != "other"
    }
    if "labels" in slots:
        slots["labels"] = {id: _labels(item, f"{path}: conversation {id!r}") for id, item in slots["labels"].items()}
    dataset = _infer_dataset(str(path), slots)
    dims = tuple(
        next((len(_sample(slots[name])) for name in names.split() if slots.get(name)), None)
        for names in (_TEXTS, "audio", "visual")
    )
    known = [row for row in rows if row.slots == rows[0].slots and (row.dataset, row.dims) == (dataset, dims)]
    row = known[0] if known else rows[0]
    size = f"{len(kinds)}-tuple" if known or not any(dims) else f"{len(kinds)}-tuple, dims {'/'.join(map(str, dims))}"
    layout = replace(row, title=f"{row.title} {dataset.upper()} layout ({size})", dataset=dataset, dims=dims)
    return _File(str(path), f"{layout.title}, {Path(path).name}", layout, slots)


def _is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _sample(slot: Mapping[Any, Any]) -> Any:
    """What the first utterance of the first conversation that is not empty has in a slot."""
    return next((item[0] for item in slot.values() if _is_sequence(item) and len(item)), None)


def _kind(slot: object) -> str:
    """What a slot looks like: text, numbers or vectors per utterance, a split, empty, or something other."""
    if not isinstance(slot, Mapping):
        return "split" if isinstance(slot, Set) or _is_sequence(slot) else "other"
    if not slot:
        return "empty"
    sample = _sample(slot)
    if _is_sequence(sample):
        return "vectors"
    kinds = {"text": (str, bytes), "numbers": (int, float, np.number)}
    return next((kind for kind, types in kinds.items() if isinstance(sample, types)), "other")


def _fits(slots: list[str], kinds: list[str]) -> bool:
    return len(slots) == len(kinds) and all(k in _KINDS.get(s, (k,)) for s, k in zip(slots, kinds, strict=True))


def _native(id: object, where: str) -> int | str:
    """A conversation's id as int or str, whatever type it has in the file; digits are a number."""
    if isinstance(id, bytes):
        id = id.decode("latin1")
    if isinstance(id, str):
        return int(id) if id.isascii() and id.isdigit() and len(id) < 19 else str(id)
    if isinstance(id, int | np.integer) and not isinstance(id, bool):
        return int(id)
    raise InputError(f"{where}: the conversation id {brief(id)} is not an integer or a string")


def _by_id(slot: Mapping[Any, Any], where: str) -> dict[int | str, Any]:
    items = {_native(id, where): item for id, item in slot.items()}
    if len(items) < len(slot):
        raise InputError(f"{where}: two conversations have the same id but for its type")
    return items


def _infer_dataset(path: str, slots: Mapping[str, Any]) -> str:
    """The data set: MELD has integer ids and one-hot speakers, IEMOCAP names and letters."""
    labels = slots.get("labels", {})
    ids = sorted(labels or slots["commonsense"], key=lambda id: isinstance(id, str))  # the integers first
    one_hot = _kind(slots["speakers"]) == "vectors" if "speakers" in slots else bool(ids) and isinstance(ids[0], int)
    wrong = [id for id in ids if isinstance(id, int) != one_hot]
    if wrong:
        raise InputError(
            f"{path}: conversation {wrong[0]!r}: MELD has integer ids and one-hot speakers, IEMOCAP has names and "
            "letters, but this file has some of both"
        )
    most = max((label for item in labels.values() for label in item), default=0)
    return "meld" if one_hot else "iemocap4" if labels and most < len(CLASSES["iemocap4"]) else "iemocap"


def _combine(files: list[_File]) -> _File:
    """Two files as one: text and splits of the text-only one, all else of the other, once they are found to agree."""
    one, two = sorted(files, key=lambda file: not file.layout.text_only)
    if two.layout.name not in one.layout.combines_with:
        titles = " and ".join(file.layout.title for file in files)
        raise InputError(f"{one.path} and {two.path}: {titles}; one must be text-only, the other have all modalities")
    where = f"{one.path} and {two.path} do not belong together"
    if (one.layout.dataset == "meld") != (two.layout.dataset == "meld"):
        raise InputError(f"{where}: {one.layout.dataset} and {two.layout.dataset}")
    for id, labels in one.slots["labels"].items():
        others = two.slots["labels"].get(id)
        if others is None or len(others) != len(labels):
            sizes = f"{len(labels)} utterances and {'none' if others is None else len(others)}"
            raise InputError(f"{where}: conversation {id!r} has {sizes}")
        if labels != others:
            utterance = next(k for k, (x, y) in enumerate(zip(labels, others, strict=True)) if x != y)
            raise InputError(f"{where}: conversation {id!r}, utterance {utterance}: the labels differ")
    unequal = set(_ids(one, "test")) ^ set(_ids(two, "test"))
    if unequal:
        raise InputError(f"{where}: conversation {min(unequal, key=str)!r} is in the test split of only one of them")
    slots = {**two.slots, **{slot: one.slots[slot] for slot in (*_TEXTS.split(), *SPLITS)}}
    return _File(f"{one.path} + {two.path}", f"{one.source} + {two.source}", two.layout, slots)


def _corpus(file: _File, dataset: str, text: str) -> Corpus:
    slots = {"t": text, "a": "audio", "v": "visual"}
    for m, slot in slots.items():
        if not file.slots.get(slot):
            raise InputError(f"{file.path}: it has no {MODALITIES[m]} features in {slot}")
    ids = _split_ids(file, dataset)
    speakers = len(_sample(file.slots["speakers"])) if dataset == "meld" else 2
    splits = {split: [_conversation(file, id, slots, dataset, speakers) for id in ids[split]] for split in SPLITS}
    unused = len(file.slots["labels"]) - sum(map(len, ids.values()))
    source = file.source + (f"; {unused} conversations in no split left out" if unused else "")
    try:
        return Corpus(dataset, CLASSES[dataset], splits, speakers, source)
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from error


def _ids(file: _File, split: str) -> list[int | str]:
    ids = file.slots.get(split, ())
    return [
        _native(id, f"{file.path}: {split}") for id in (ids.ravel().tolist() if isinstance(ids, np.ndarray) else ids)
    ]


def _split_ids(file: _File, dataset: str) -> dict[str, list[Any]]:
    """Split -> sorted native ids: the order of a set of strings would change from one process to the next."""
    ids = {split: _ids(file, split) for split in SPLITS}
    if dataset == "meld" and "validation" not in file.slots:
        ids["validation"] = [id for id in ids["train"] if id in _MELD_DEVELOPMENT]
        ids["train"] = [id for id in ids["train"] if id not in _MELD_DEVELOPMENT]
    seen: dict[int | str, str] = {}
    for split in SPLITS:
        for id in ids[split]:
            if id in seen:
                raise InputError(f"{file.path}: conversation {id!r} is in {seen[id]} and again in {split}")
            if id not in file.slots["labels"]:
                raise InputError(f"{file.path}: conversation {id!r} is in {split}, but the file has no data for it")
            seen[id] = split
    return {split: sorted(ids[split]) for split in SPLITS}


def _conversation(file: _File, id: Any, slots: Mapping[str, str], dataset: str, speakers: int) -> Conversation:
    def read(slot: str) -> Any:
        if id not in file.slots[slot]:
            raise InputError(f"{where}: it has no {slot}")
        return file.slots[slot][id]

    where = f"{file.path}: conversation {id!r}"
    labels = read("labels")
    for utterance, label in enumerate(labels):
        if label not in range(len(CLASSES[dataset])):
            last = len(CLASSES[dataset]) - 1
            raise InputError(f"{where}, utterance {utterance}: label {label} is not one of 0..{last}")
    return Conversation(
        str(id),
        {m: _features(read(slot), where, MODALITIES[m]) for m, slot in slots.items()},
        _one_hot(read("speakers"), where, speakers) if dataset == "meld" else _letters(read("speakers"), where),
        np.array(labels, np.int32),
        **{slot: _words(read(slot), where, slot) for slot in ("utterance_ids", "sentences") if slot in file.slots},
    )


def _utterances(item: Any, where: str, name: str) -> Any:
    if not _is_sequence(item):
        raise InputError(f"{where}: {name} is a {type(item).__name__}, not a list with an item per utterance")
    return item


def _words(item: Any, where: str, name: str) -> tuple[str, ...]:
    words = [w.decode("latin1") if isinstance(w, bytes) else w for w in _utterances(item, where, name)]
    for utterance, word in enumerate(words):
        if not isinstance(word, str):
            raise InputError(f"{where}, utterance {utterance}: {name} has {brief(word)}, which is not text")
    return tuple(map(str, words))


def _labels(item: Any, where: str) -> list[int]:
    for utterance, label in enumerate(_utterances(item, where, "labels")):
        if not isinstance(label, int | np.integer) or isinstance(label, bool):
            raise InputError(f"{where}, utterance {utterance}: label {brief(label)} is not an integer")
    return [int(label) for label in item]


def _letters(item: Any, where: str) -> np.ndarray:
    """int32 [n]: 0 for M, 1 for anything else, as in every loader of IEMOCAP."""
    return np.array([word != "M" for word in _words(item, where, "speakers")], np.int32)


def _one_hot(item: Any, where: str, speakers: int) -> np.ndarray:
    """int32 [n] from n one-hot vectors."""
    rows_ns = _features(item, where, "speakers")
    if len(rows_ns) and rows_ns.shape[1] != speakers:
        raise InputError(f"{where}: speakers are one of {rows_ns.shape[1]}, in the conversations before of {speakers}")
    wrong = np.flatnonzero(((rows_ns != 0) != (rows_ns == 1)).any(1) | ((rows_ns == 1).sum(1) != 1))
    if wrong.size:
        raise InputError(
            f"{where}, utterance {wrong[0]}: speakers has {brief(rows_ns[wrong[0]])}, which is not one-hot"
        )
    return rows_ns.argmax(1).astype(np.int32) if len(rows_ns) else np.zeros(0, np.int32)


def _features(item: Any, where: str, name: str) -> np.ndarray:
    """float32 [n, d] from a list or an array of n vectors of length d."""
    rows = [_vector(row, f"{where}, utterance {k}: {name}") for k, row in enumerate(_utterances(item, where, name))]
    for utterance, row in enumerate(rows):
        if len(row) != len(rows[0]):
            found = f"{len(row)} numbers, the utterances before have {len(rows[0])}"
            raise InputError(f"{where}, utterance {utterance}: {name} has {found}")
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def _vector(row: Any, where: str) -> np.ndarray:
    """float32 [d] from a list or an array of d numbers."""
    if isinstance(row, list | tuple):
        strange = [t.__name__ for t in set(map(type, row)) if not issubclass(t, int | float | np.integer | np.floating)]
        if strange:
            raise InputError(f"{where} has a {strange[0]} among its numbers")
        try:
            row = np.array(row, np.float64)
        except OverflowError as error:
            raise InputError(f"{where}: {error}") from error
    if not isinstance(row, np.ndarray) or row.ndim != 1 or row.dtype.kind not in "biuf" or not row.size:
        raise InputError(f"{where} is {brief(row)}, not a vector of numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold turns into inf, and the corpus names its place
        return row.astype(np.float32)
