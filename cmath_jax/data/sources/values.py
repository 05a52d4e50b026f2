"""Values that a feature file holds for one conversation -> ids, words and arrays; an error names the place of a defect.

Everywhere `where` is that place, with which the message of an `InputError` begins.
"""

from reprlib import repr as brief
from typing import Any

import numpy as np

from cmath_jax.data.sources.plain_text import text_of
from cmath_jax.errors import InputError


def is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def conversation_id(id: object, where: str) -> int | str:
    """Returns the id of a conversation as int or str, whatever its type in the file; a string of digits is a number."""
    if isinstance(id, str | bytes):
        text = _text(id)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else text
    if isinstance(id, int | np.integer) and not isinstance(id, bool):
        return int(id)
    raise InputError(f"{where}: the conversation id {brief(id)} is not an integer or a string")


def words(item: object, where: str, name: str) -> tuple[str, ...]:
    """Returns a string per utterance. Raises InputError for anything else."""
    rows = _utterances(item, where, name)
    for utterance, row in enumerate(rows):
        if not isinstance(row, str | bytes):
            raise InputError(f"{where}, utterance {utterance}: {name} has {_show(row)}, which is not text")
    return tuple(_text(row) for row in rows)


def labels(item: object, where: str) -> list[int]:
    """Returns an integer per utterance, of any size. Raises InputError for anything else."""
    rows = _utterances(item, where, "labels")
    for utterance, label in enumerate(rows):
        if not isinstance(label, int | np.integer) or isinstance(label, bool):
            raise InputError(f"{where}, utterance {utterance}: label {_show(label)} is not an integer")
    return [int(label) for label in rows]


def letters(item: object, where: str) -> np.ndarray:
    """Returns 0 for M, 1 for anything else, int32 [n], as every loader of IEMOCAP does. Raises InputError for what is
    no text.
    """
    return np.array([word != "M" for word in words(item, where, "speakers")], np.int32)


def one_hot(item: object, where: str, speakers: int) -> np.ndarray:
    """Converts n one-hot vectors of length `speakers` to int32 [n]. Raises InputError for anything else."""
    rows_nv = features(item, where, "speakers")
    if not len(rows_nv):
        return np.zeros(0, np.int32)
    if rows_nv.shape[1] != speakers:
        found = f"{rows_nv.shape[1]} numbers, in the conversations before {speakers}"
        raise InputError(f"{where}: speakers has vectors of {found}")
    wrong = np.flatnonzero(((rows_nv != 0) != (rows_nv == 1)).any(1) | ((rows_nv == 1).sum(1) != 1))
    if wrong.size:
        found = brief(rows_nv[wrong[0]].tolist())
        raise InputError(f"{where}, utterance {wrong[0]}: speakers has {found}, which is not one-hot")
    return rows_nv.argmax(1).astype(np.int32)


def features(item: object, where: str, name: str) -> np.ndarray:
    """Converts a list or an array of n vectors of length d to float32 [n, d]. Raises InputError for anything else."""
    rows = [_vector(row, f"{where}, utterance {k}: {name}") for k, row in enumerate(_utterances(item, where, name))]
    for utterance, row in enumerate(rows):
        if len(row) != len(rows[0]):
            found = f"{len(row)} numbers, the utterances before have {len(rows[0])}"
            raise InputError(f"{where}, utterance {utterance}: {name} has {found}")
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def _vector(row: Any, where: str) -> np.ndarray:
    """Converts a list or an array of d numbers to float32 [d]."""
    if isinstance(row, list | tuple):
        strange = [t.__name__ for t in set(map(type, row)) if not issubclass(t, int | float | np.integer | np.floating)]
        if strange:
            raise InputError(f"{where} has a {min(strange)} among its numbers")
        try:
            row = np.array(row, np.float64)
        except OverflowError as error:
            raise InputError(f"{where} has a number that is too large: {error}") from error
    if not isinstance(row, np.ndarray) or row.ndim != 1 or row.dtype.kind not in "biuf" or not row.size:
        raise InputError(f"{where} is {_show(row)}, not a vector of numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold turns into inf, and the corpus names its place
        return row.astype(np.float32)


def _utterances(item: Any, where: str, name: str) -> Any:
    if not is_sequence(item):
        raise InputError(f"{where}: {name} is a {type(item).__name__}, not a list with an item per utterance")
    return item


def _text(value: str | bytes) -> str:
    """Returns a string that UTF-8 can hold: half a surrogate pair, which a pickle admits, becomes a question mark."""
    text = text_of(value) if isinstance(value, bytes) else value
    return text.encode(errors="replace").decode()


def _show(value: object) -> str:
    # The text of an array has several lines.
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return brief(value)
