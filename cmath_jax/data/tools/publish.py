"""A corpus -> a pickle in the layout of MMGCN's files, D for MELD and A for IEMOCAP, which many loaders read."""

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.corpus import CLASSES, MODALITIES, SPLITS, UNLABELLED, Conversation, Corpus, is_present
from cmath_jax.data.sources import counts
from cmath_jax.data.sources.published import MELD_DEVELOPMENT, read_published
from cmath_jax.errors import InputError, reason
from cmath_jax.io.whole import whole_file


def write_published(corpus: Corpus, path: str | os.PathLike[str], check_counts: str = "error") -> Path:
    """Writes a corpus as a new file, which `read_published` reads as the same one, in the order of the ids.

    Words that the corpus does not have become "", names of utterances numbers. MELD's sentiments, which no loader
    uses, are an empty dict.

    Args:
      check_counts: `warn` writes a part of a data set, or other data in its layout. To read such a file takes the same
        option.

    Raises:
      InputError: the layout has no place for what the corpus has, or the file is there or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} is there already: name a new file")
    dataset = _dataset(corpus)
    _check(corpus, dataset)
    counts.check_counts(path, dataset, corpus.classes, counts.labels_of(corpus), check_counts, quiet=True)
    try:
        with whole_file(path, "wb", parents=True) as file:
            file.write(_for_every_numpy(_content(corpus, dataset)))
            file.flush()
            _check_reads_back(corpus, dataset, Path(file.name))
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error
    return path


def _dataset(corpus: Corpus) -> str:
    found = next((name for name in ("meld", "iemocap") if CLASSES[name] == corpus.classes), None)
    if found is None:
        layouts = "; ".join(f"{name}: {', '.join(CLASSES[name])}" for name in ("meld", "iemocap"))
        raise InputError(
            f"{corpus.name}: its classes are {', '.join(corpus.classes)}, but a published file has those of its data "
            f"set, in their order ({layouts})"
        )
    return found


def _check(corpus: Corpus, dataset: str) -> None:
    """Raises InputError for what the layout has no place for."""
    layout = f"the layout of {dataset} in published files"
    lacking = [name for m, name in MODALITIES.items() if m not in corpus.dims]
    if lacking:
        raise InputError(f"{corpus.name}: it has no {' and no '.join(lacking)} features, but {layout} has all three")
    if dataset == "iemocap" and corpus.speakers != 2:
        raise InputError(f"{corpus.name}: it has {corpus.speakers} speaker indices, but {layout} has two, M and F")
    if dataset == "iemocap" and corpus.splits["validation"]:
        count = len(corpus.splits["validation"])
        raise InputError(f"{corpus.name}: it has {count} validation conversations, for which {layout} has no place")
    for split in SPLITS:
        for c in corpus.splits[split]:
            where = f"{corpus.name} {split}, conversation {c.id!r}"
            _check_id(c.id, split, dataset, where)
            if (c.labels == UNLABELLED).any():
                utterance = (c.labels == UNLABELLED).argmax()
                raise InputError(f"{where}, utterance {utterance}: it has no label, but {layout} needs one")
            for m, x_nd in c.features.items():
                if not is_present(x_nd).all():
                    at = f"{where}, utterance {is_present(x_nd).argmin()}"
                    raise InputError(f"{at}: its {MODALITIES[m]} is missing, for which {layout} has no place")


def _check_id(id: str, split: str, dataset: str, where: str) -> None:
    number = id.isascii() and id.isdigit() and str(int(id)) == id and len(id) < 19
    if dataset == "iemocap":
        if id.isascii() and id.isdigit():
            raise InputError(
                f"{where}: the id is a number; the ids of IEMOCAP are names, by which it is told from MELD"
            )
        return
    if not number:
        raise InputError(f"{where}: the id is no number; the ids of MELD are, by which it is told from IEMOCAP")
    development = int(id) in MELD_DEVELOPMENT
    if split != "test" and development != (split == "validation"):
        first, last = MELD_DEVELOPMENT[0], MELD_DEVELOPMENT[-1]
        raise InputError(
            f"{where}: published files tell validation from training by the ids, {first} to {last} for validation"
        )


def _content(corpus: Corpus, dataset: str) -> tuple[Any, ...]:
    meld = dataset == "meld"
    by_id = {(int(c.id) if meld else c.id): c for split in SPLITS for c in corpus.splits[split]}

    def speakers(c: Conversation) -> list[Any]:
        return np.eye(corpus.speakers, dtype=int)[c.speakers].tolist() if meld else ["MF"[s] for s in c.speakers]

    def names(c: Conversation, id: int | str) -> list[str]:
        return list(c.utterance_ids) or [f"dia{id}_utt{i}" if meld else f"{id}_{i:03d}" for i in range(len(c))]

    def ids(*splits: str) -> list[Any]:
        return [int(c.id) if meld else c.id for split in splits for c in corpus.splits[split]]

    return (
        {id: names(c, id) for id, c in by_id.items()},
        {id: speakers(c) for id, c in by_id.items()},
        {id: c.labels.tolist() for id, c in by_id.items()},
        *({id: np.array(c.features[m], np.float32) for id, c in by_id.items()} for m in MODALITIES),
        {id: list(c.sentences) or [""] * len(c) for id, c in by_id.items()},
        ids("train", "validation"),
        ids("test"),
        *([{}] if meld else []),
    )


def _for_every_numpy(content: tuple[Any, ...]) -> bytes:
    """Pickles for versions 1 and 2 of numpy: a function is named by its place in 1, where 2 finds it too."""
    # Protocol 3 names it once, as text, before the first array.
    new, old = (f"cnumpy{core}.multiarray\n_reconstruct\n".encode() for core in ("._core", ".core"))
    return pickle.dumps(content, protocol=3).replace(new, old, 1)


def _check_reads_back(corpus: Corpus, dataset: str, path: Path) -> None:
    """Raises InputError unless the file reads as the corpus, but for the order of its conversations."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*: the counts are not those of")  # a part of a data set may be published
        read = read_published(path, check_counts="warn")
    for split in SPLITS:
        written = {c.id: c.digest() for c in corpus.splits[split]}
        if read.name != dataset or {c.id: c.digest() for c in read.splits[split]} != written:
            raise InputError(f"{corpus.name}: a published file of it would be read as another corpus, {read.source}")
