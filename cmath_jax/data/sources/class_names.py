"""Classes that are most likely misspelled: of conversations of one's own every label becomes one, whatever it says."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from reprlib import repr as brief

import numpy as np

from cmath_jax.data.corpus import CLASSES, UNLABELLED
from cmath_jax.data.sources.counts import Labels

_KNOWN = tuple(dict.fromkeys(name for names in CLASSES.values() for name in names))
_SAME = (  # what data sets call one and the same emotion
    {"angry", "anger"},
    {"sad", "sadness"},
    {"happy", "happiness", "joy"},
    {"excited", "excitement"},
    {"frustrated", "frustration"},
    {"surprise", "surprised"},
    {"fear", "fearful"},
    {"disgust", "disgusted"},
)
# What tables and programs write where there is no value.
_NO_LABELS = {"nan", "null", "none", "n/a", "na", "?", "??", "xxx", "-1", "undefined", "unlabelled", "unlabeled"}
_MANY = 200  # classes; with more, every pair of them would take too long
_EDITS = ((7, 2), (4, 1))  # names of so many letters at least are alike up to so many edits
_OPPOSITES = ("un", "in", "im", "de", "dis", "non", "not")  # before a name they make another one of it


def doubtful_classes(classes: Sequence[str], labels: Labels) -> list[str]:
    """Returns a sentence about each class that looks like another one, or that no more than one utterance has.

    Args:
      labels: as in `check_counts`; indices into the classes.
    """
    if len(classes) > _MANY:
        return [f"there are {len(classes)} classes; perhaps the labels are no names of emotions"]
    label_n = np.concatenate(
        [np.zeros(0, np.int32), *(label_n for of_split in labels.values() for label_n in of_split)]
    )
    counts = np.bincount(label_n[label_n != UNLABELLED], minlength=len(classes)).tolist()
    count_of = dict(zip(classes, counts, strict=True))
    alike = {pair: reason for pair in combinations(classes, 2) if (reason := _pair_likeness(*pair))}
    paired = {name for pair in alike for name in pair}
    return [
        *(_of_pair(pair, reason, count_of) for pair, reason in alike.items()),
        *_unknown([name for name in classes if name not in paired], classes),
        *_rare(count_of),
    ]


def _pair_likeness(one: str, other: str) -> str:
    same = any({_plain(one), _plain(other)} <= names for names in _SAME)
    return _likeness(one, other) or ("name one emotion" if same else "")


def _of_pair(pair: tuple[str, str], reason: str, count_of: Mapping[str, int]) -> str:
    rare, often = sorted(pair, key=count_of.__getitem__)
    return (
        f"the classes {brief(rare)} ({_times(count_of[rare])}) and {brief(often)} ({_times(count_of[often])}) "
        f"{reason}: if they are one, write it in one way"
    )


def _unknown(names: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
    """Yields doubts about names that are nearly those of MELD or IEMOCAP, which are not classes themselves."""
    known = [name for name in _KNOWN if name not in classes]
    # Where all write `Joy`, that is how they are written here; beside `anger` it is a slip.
    mixed = any(name in _KNOWN for name in classes)
    for name in names:
        if name in _KNOWN:
            continue
        if name.strip().casefold() in _NO_LABELS or not _plain(name):
            yield f"the class {brief(name)} looks like no label: leave it out, or write null, where there is none"
            continue
        near = [(other, _likeness(name, other)) for other in known if mixed or name.casefold() != other]
        other, why = next((pair for pair in near if pair[1]), ("", ""))
        if other:
            yield f"the class {brief(name)} and {brief(other)}, as MELD or IEMOCAP have it, {why}: is it a slip?"
        elif name != name.strip():
            yield f"the class {brief(name)} begins or ends with white space"


def _rare(count_of: dict[str, int]) -> Iterator[str]:
    for name, count in count_of.items():
        if count < 2:
            seen = "occurs once" if count else "never occurs"
            yield f"the class {brief(name)} {seen}, from which nothing can be learned"


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def _likeness(one: str, other: str) -> str:
    """Says how two names are alike, as the end of a sentence; "" where they are not."""
    a, b = _plain(one), _plain(other)
    if a == b:
        return "differ in case, white space or marks alone"
    if re.sub(r"\D", "", a) != re.sub(r"\D", "", b):  # class 1 and class 2
        return ""
    if any(long == f"{prefix}{short}" for prefix in _OPPOSITES for long, short in ((a, b), (b, a))):
        return ""
    length = min(len(a), len(b))
    most = next((edits for letters, edits in _EDITS if length >= letters), 0)
    if length == 3 and set(a) == set(b):  # jyo and joyy are slips of joy; sad and mad are not of one another
        most = 1
    return "are nearly spelled the same" if most and _distance(a, b) <= most else ""


def _plain(name: str) -> str:
    """Removes from a name what is easily mistaken: case, white space, hyphens, underscores, forms of a character."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in folded if not c.isspace() and c not in "-_." and unicodedata.category(c) != "Cf")


def _distance(a: str, b: str) -> int:
    """Counts how many letters to insert, to leave out, to replace or to swap with the next make one of the other."""
    before: list[int] = []
    row = [*range(len(b) + 1)]
    for i, x in enumerate(a, start=1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, start=1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]
