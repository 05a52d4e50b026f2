"""Published feature files of IEMOCAP and MELD -> a checked `Corpus`, and the validation splits that they leave open."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from cmath_jax.data.corpus import CLASSES, MODALITIES, SPLITS, Conversation, Corpus, is_present
from cmath_jax.data.sources import counts, values
from cmath_jax.data.sources.layouts import TEXTS, FeatureFile, first_utterance, recognize
from cmath_jax.errors import InputError

_TEXTS_OF = {"text0": TEXTS, **{slot: (slot,) for slot in TEXTS}}  # by the option text_layer
PUBLISHED12 = (  # the validation dialogues of the IEMOCAP release of TelME, 647 utterances
    *("Ses01M_impro01", "Ses01M_script03_1", "Ses02F_impro02", "Ses02F_impro07", "Ses02M_script01_2", "Ses03F_impro01"),
    *("Ses03M_impro02", "Ses03M_impro08a", "Ses03M_script02_2", "Ses03M_script03_2", "Ses04F_impro07"),
    "Ses04F_script02_1",
)
MELD_DEVELOPMENT = range(1039, 1153)  # the official development dialogues, which the files count as training


def read_published(
    *paths: str | PathLike[str], dataset: str | None = None, text_layer: int = 1, check_counts: str = "error"
) -> Corpus:
    """Reads the corpus in a published feature file, or in a text-only file and one that has audio and visual.

    Args:
      paths: one file with the three modalities, or two in any order, one of them text-only (layouts G and H).
      dataset: `meld`, `iemocap` or `iemocap4`; inferred from the content where None.
      text_layer: 1 to 4, which of the layers of RoBERTa to read; 1 is its last; 0 reads all four, side by side.
      check_counts: `error` or `warn`: what to do when conversations, utterances or classes are not as many as
        published.

    Raises:
      InputError: an option or a file cannot be used; the message names the file and, for a defect inside it, the
        conversation, the utterance and the modality.
    """
    texts = _TEXTS_OF.get(f"text{text_layer}")  # True and 1.0 are no layers
    if dataset not in (None, *counts.COUNTS):
        raise InputError(f"dataset is {dataset!r}; it can be {', '.join(counts.COUNTS)}")
    if texts is None:
        raise InputError(f"text_layer is {text_layer!r}; it can be 1, 2, 3 or 4, or 0 for all four")
    if check_counts not in counts.COUNT_CHECKS:
        raise InputError(f"check_counts is {check_counts!r}; it can be {' or '.join(counts.COUNT_CHECKS)}")
    if len(paths) not in (1, 2):
        raise InputError(f"{len(paths)} feature files given; give one, or a text-only file and one with all modalities")
    files = [recognize(path) for path in paths]
    file = files[0] if len(files) == 1 else _combine(files)
    if file.layout.lacks:
        raise InputError(f"{file.path}: {file.layout.title}: {file.layout.lacks}")
    found = file.layout.dataset
    if dataset and (dataset == "meld") != (found == "meld"):
        raise InputError(f"{file.path}: dataset is {dataset!r}, but the content is that of {found!r}")
    corpus = _corpus(file, dataset or found, texts)
    counts.check_counts(file.path, corpus.name, corpus.classes, counts.labels_of(corpus), check_counts)
    return corpus


# Validation splits.


def draw_validation(corpus: Corpus, fraction: float = 0.2, seed: int = 0) -> Corpus:
    """Moves round(fraction * n) of the n training conversations of a corpus to validation, drawn at random.

    Raises:
      InputError: it has a validation split already, the seed is negative, or a split would be left empty.
    """
    _check_no_validation(corpus, "drawn")
    ids = sorted(c.id for c in corpus.splits["train"])
    count = round(fraction * len(ids))
    if seed < 0:
        raise InputError(f"cannot draw a validation split with the seed {seed}; it must not be negative")
    if not 0 < count < len(ids):
        raise InputError(
            f"{corpus.name}: cannot draw a validation split, {fraction:g} of {len(ids)} training conversations: "
            "it and what is left for training need one at least"
        )
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(len(ids))[:count]
    return _move_to_validation(corpus, {ids[i] for i in drawn}, f"{count} drawn with seed {seed}")


def published12(corpus: Corpus) -> Corpus:
    """Moves the conversations of `PUBLISHED12` of IEMOCAP from training to validation.

    Raises:
      InputError: it has a validation split already, or lacks some of the 12 in training.
    """
    _check_no_validation(corpus, "published12")
    missing = set(PUBLISHED12) - {c.id for c in corpus.splits["train"]}
    if missing:
        raise InputError(
            f"validation=published12 is for IEMOCAP, but {corpus.name} has no {', '.join(sorted(missing))} in "
            "training: use auto"
        )
    return _move_to_validation(corpus, set(PUBLISHED12), "the published 12")


def _check_no_validation(corpus: Corpus, option: str) -> None:
    given = len(corpus.splits["validation"])
    if given:
        raise InputError(
            f"validation={option}, but {corpus.name} has a validation split of its own ({given} conversations): "
            "use auto"
        )


def _move_to_validation(corpus: Corpus, ids: set[str], how: str) -> Corpus:
    train = corpus.splits["train"]
    moved = {"train": [c for c in train if c.id not in ids], "validation": [c for c in train if c.id in ids]}
    return replace(corpus, splits={**corpus.splits, **moved}, source=f"{corpus.source}; validation: {how}")


# From the slots of files to a corpus.


def _combine(files: Sequence[FeatureFile]) -> FeatureFile:
    """Combines two files: text and splits of the text-only one, all else of the other, once they are found to agree."""
    one, two = sorted(files, key=lambda file: not file.layout.text_only)
    if two.layout.name not in one.layout.combines_with:
        titles = " and ".join(file.layout.title for file in files)
        raise InputError(f"{one.path} and {two.path}: {titles}; one must be text-only, the other have all modalities")
    where = f"{one.path} and {two.path} do not belong together"
    if (one.layout.dataset == "meld") != (two.layout.dataset == "meld"):
        raise InputError(f"{where}: one is of {one.layout.dataset}, the other of {two.layout.dataset}")
    for id, labels in one.slots["labels"].items():
        others = two.slots["labels"].get(id)
        if others is None or len(others) != len(labels):
            sizes = f"{len(labels)} utterances in the one and {'none' if others is None else len(others)} in the other"
            raise InputError(f"{where}: conversation {id!r} has {sizes}")
        if labels != others:
            utterance = next(k for k, (x, y) in enumerate(zip(labels, others, strict=True)) if x != y)
            raise InputError(f"{where}: conversation {id!r}, utterance {utterance}: the labels differ")
    unequal = set(_ids(one, "test")) ^ set(_ids(two, "test"))
    if unequal:
        raise InputError(f"{where}: conversation {min(unequal, key=str)!r} is in the test split of only one of them")
    slots = {**two.slots, **{slot: one.slots[slot] for slot in (*TEXTS, *SPLITS)}}
    published = one.published + two.published if one.published and two.published else ""
    return FeatureFile(f"{one.path} + {two.path}", f"{one.source} + {two.source}", two.layout, slots, published)


def _corpus(file: FeatureFile, dataset: str, texts: tuple[str, ...]) -> Corpus:
    slots = {"t": texts, "a": ("audio",), "v": ("visual",)}
    for m, names in slots.items():
        for slot in names:
            if not file.slots.get(slot):
                other = "; text_layer=1 reads text1 alone" if len(names) > 1 and slot != TEXTS[0] else ""
                raise InputError(f"{file.path}: it has no {MODALITIES[m]} features in {slot}{other}")
    ids = _split_ids(file, dataset)
    speakers = len(first_utterance(file.slots["speakers"])) if dataset == "meld" else 2
    splits = {split: [_conversation(file, id, slots, dataset, speakers) for id in ids[split]] for split in SPLITS}
    unused = len(file.slots["labels"]) - sum(map(len, ids.values()))
    source = file.source + (f"; {unused} conversations in no split left out" if unused else "")
    try:
        corpus = Corpus(dataset, CLASSES[dataset], splits, speakers, source, published=file.published)
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from error
    _check_nothing_missing(corpus, file.path)
    return corpus


def _check_nothing_missing(corpus: Corpus, path: str) -> None:
    # To a corpus a row of NaN is a modality that the utterance lacks. Published files have none: there it is a defect.
    for split in SPLITS:
        for c in corpus.splits[split]:
            for m, x_nd in c.features.items():
                if not is_present(x_nd).all():
                    where = (
                        f"{path}: {corpus.name} {split}, conversation {c.id!r}, utterance {is_present(x_nd).argmin()}"
                    )
                    raise InputError(f"{where}: {MODALITIES[m]} feature 0 is nan")


def _ids(file: FeatureFile, split: str) -> list[int | str]:
    ids = file.slots.get(split, ())
    where = f"{file.path}: {split}"
    return [values.conversation_id(id, where) for id in (ids.ravel().tolist() if isinstance(ids, np.ndarray) else ids)]


def _split_ids(file: FeatureFile, dataset: str) -> dict[str, list[Any]]:
    """Returns split -> sorted native ids: the order of a set of strings would change from one process to the next."""
    ids = {split: _ids(file, split) for split in SPLITS}
    if dataset == "meld" and "validation" not in file.slots:
        ids["validation"] = [id for id in ids["train"] if id in MELD_DEVELOPMENT]
        ids["train"] = [id for id in ids["train"] if id not in MELD_DEVELOPMENT]
    seen: dict[int | str, str] = {}
    for split in SPLITS:
        for id in ids[split]:
            if id in seen:
                raise InputError(f"{file.path}: conversation {id!r} is in {seen[id]} and again in {split}")
            if id not in file.slots["labels"]:
                raise InputError(f"{file.path}: conversation {id!r} is in {split}, but the file has no data for it")
            seen[id] = split
    return {split: sorted(ids[split]) for split in SPLITS}


def _conversation(
    file: FeatureFile, id: int | str, slots: Mapping[str, tuple[str, ...]], dataset: str, speakers: int
) -> Conversation:
    """Makes one conversation; `slots` says in which slots each modality is, side by side."""
    where = f"{file.path}: conversation {id!r}"

    def read(slot: str) -> Any:
        if id not in file.slots[slot]:
            raise InputError(f"{where}: it has no {slot}")
        return file.slots[slot][id]

    labels = read("labels")
    last = len(CLASSES[dataset]) - 1
    for utterance, label in enumerate(labels):
        if not 0 <= label <= last:
            raise InputError(f"{where}, utterance {utterance}: label {label} is not one of 0..{last}")
    features = {
        m: _side_by_side({slot: values.features(read(slot), where, MODALITIES[m]) for slot in names}, where)
        for m, names in slots.items()
    }
    who = read("speakers")
    speakers_n = values.one_hot(who, where, speakers) if dataset == "meld" else values.letters(who, where)
    texts = {
        name: values.words(read(name), where, name) for name in ("utterance_ids", "sentences") if name in file.slots
    }
    return Conversation(str(id), features, speakers_n, np.array(labels, np.int32), **texts)


def _side_by_side(features: Mapping[str, np.ndarray], where: str) -> np.ndarray:
    """Joins the features of slots that have equally many utterances of equally many numbers."""
    (first, x_nd), *others = features.items()
    for slot, y_nd in others:
        if y_nd.shape != x_nd.shape:
            sizes = " and ".join(f"{len(z_nd)} of {z_nd.shape[1]} numbers" for z_nd in (x_nd, y_nd))
            raise InputError(f"{where}: {first} and {slot} do not belong together: their utterances are {sizes}")
    return np.concatenate([*features.values()], axis=1) if others else x_nd
