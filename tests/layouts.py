"""Tiny files in each of the published layouts, written from a `Corpus`, so that a test can compare what it reads."""

import io
import pickle
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.data.corpus import CLASSES, SPLITS, Conversation, Corpus

ROBERTA = "text1 text2 text3 text4"
ORDER = {
    "A": "ids speakers labels text1 audio visual sentences train test",
    "B": "ids speakers labels text1 audio visual sentences train test",
    "C": "ids speakers labels text1 audio sentences train test sentiments",
    "D": "ids speakers labels text1 audio visual sentences train test sentiments",
    "E": f"ids speakers labels {ROBERTA} audio visual sentences train test",
    "F": f"ids speakers labels {ROBERTA} audio visual sentences train test sentiments",
    "G": f"speakers labels {ROBERTA} sentences train test valid",
    "H": f"speakers labels sentiments {ROBERTA} sentences train test valid",
    "J": f"ids speakers labels sentiments {ROBERTA} audio visual sentences train test sentiments",
    "K": "ids speakers labels text1 audio visual sentences train test",
    "L": "ids speakers labels nothing nothing nothing nothing train test",
    "N": "ids labels speakers sentences train test",
    "P": "text1 text2 text3 text4 text1 text2 text3 text4 text1",
}
MELD_IDS = {"train": [0, 2, 10, 1038], "validation": [1039, 1152], "test": [1153, 1432]}
IEMOCAP_IDS = {
    "train": ["Ses01F_impro01", "Ses01M_impro01", "Ses02F_impro02", "Ses04M_script01_1"],
    "validation": [],
    "test": ["Ses05F_impro01", "Ses05M_script03_2"],
}


def corpus(name: str, ids: dict[str, list[Any]] | None = None, dims: Sequence[int] = ()) -> Corpus:
    """A corpus of conversations of 2 to 4 utterances, with features that survive float16.

    Args:
      name: `meld`, `iemocap` or `iemocap4`.
      ids: split -> ids; some that the published files have too where None.
      dims: of text, audio, visual; () for small ones, or those published where a file is known by them.
    """
    dims = dims or ((1024, 100, 512) if name == "iemocap4" else (4, 3, 2))
    rng = np.random.default_rng(7)
    classes, speakers = len(CLASSES[name]), 3 if name == "meld" else 2

    def conversation(id: int | str, k: int) -> Conversation:
        n = 2 + k % 3
        return Conversation(
            str(id),
            {m: rng.integers(-99, 99, (n, d)).astype(np.float32) / 8 for m, d in zip("tav", dims, strict=True)},
            rng.integers(0, speakers, n).astype(np.int32),
            ((np.arange(n) + 2 * k) % classes).astype(np.int32),
            tuple(f"{id}_{u}" for u in range(n)),
            tuple(f"line {u} of {id}: caf\u00e9" for u in range(n)),
        )

    ids = ids or (MELD_IDS if name == "meld" else IEMOCAP_IDS)
    splits = {split: [conversation(id, k) for k, id in enumerate(ids[split])] for split in SPLITS}
    return Corpus(name, CLASSES[name], splits, speakers)


def content(
    letter: str,
    source: Corpus,
    vectors: Callable[[np.ndarray], Any] = list,
    split: Callable[[list[Any]], Any] = list,
    id_type: Callable[[Any], Any] = lambda id: id,
    layers: bool = True,
) -> tuple[Any, ...]:
    """The tuple of a layout.

    Args:
      vectors: float32 [n, d] -> the form in which a conversation's features are stored.
      split: a list of ids -> the container of a split.
      id_type: native id -> the form in which it is stored.
      layers: whether text layers 2 to 4 are there (layer k is layer 1 plus k - 1) or are empty dicts.
    """
    conversations = [c for s in SPLITS for c in source.splits[s]]

    def native(c: Conversation) -> Any:
        return id_type(int(c.id) if source.name == "meld" else c.id)

    def speakers(c: Conversation) -> Any:
        return (
            np.eye(source.speakers, dtype=int)[c.speakers] if source.name == "meld" else ["MF"[s] for s in c.speakers]
        )

    def ids(*names: str) -> Any:
        return split([native(c) for name in reversed(names) for c in reversed(source.splits[name])])

    def by_id(value: Callable[[Conversation], Any]) -> dict[Any, Any]:
        return {native(c): value(c) for c in conversations}

    slots = {
        "ids": by_id(lambda c: list(c.utterance_ids)),
        "speakers": by_id(speakers),
        "labels": by_id(lambda c: c.labels.tolist()),
        "sentiments": by_id(lambda c: [0] * len(c)),
        "audio": by_id(lambda c: vectors(c.features["a"])),
        "visual": by_id(lambda c: vectors(c.features["v"])),
        "sentences": by_id(lambda c: list(c.sentences)),
        "train": ids("train") if "valid" in ORDER[letter] else ids("train", "validation"),
        "valid": ids("validation"),
        "test": ids("test"),
        "nothing": None,
    }
    for layer in range(4):
        texts = {native(c): vectors(c.features["t"] + np.float32(layer)) for c in conversations}
        slots[f"text{layer + 1}"] = texts if layers or layer == 0 else {}
    return tuple(slots[name] for name in ORDER[letter].split())


def dump(path: Path, item: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(item, protocol))
    return path


def dump_python2(path: Path, item: object) -> Path:
    """The same as Python 2 and its numpy write it."""
    path.write_bytes(python2(item))
    return path


def python2(item: object) -> bytes:
    """What Python 2 and its numpy write with protocol 2: text and bytes are one type, and text is in UTF-8."""
    file = io.BytesIO()
    _Python2Pickler(file, 2).dump(item)
    return file.getvalue().replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")


def _save_string(pickler: Any, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    pickler.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
    pickler.memoize(text)


class _Python2Pickler(pickle._Pickler):
    dispatch = {**pickle._Pickler.dispatch, str: _save_string, bytes: _save_string}  # noqa: RUF012
