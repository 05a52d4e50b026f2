"""Counts of conversations and utterances of the known data sets: what bears the name of one is held against them."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from cmath_jax.data.corpus import CLASSES, SPLITS, UNLABELLED, Corpus
from cmath_jax.errors import InputError, InputWarning

COUNT_CHECKS = ("error", "warn")
# Data set -> (splits taken together, conversations, utterances per class). For iemocap4 no counts are published.
COUNTS: dict[str, tuple[tuple[tuple[str, ...], int, tuple[int, ...]], ...]] = {
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
_ACCEPT = "(check_counts=warn accepts it{})"
_FOR_GOOD = ', or for good "check_counts": "warn" in corpus.json; what is no {} can have another name there'

Labels = Mapping[str, Sequence[np.ndarray]]  # split -> for each conversation int32 [n], as in `Conversation`


def known(name: str) -> str:
    """Returns the name of the data set of which the counts are known that is called so; "" where there is none."""
    plain = name.strip().lower()
    return plain if plain in COUNTS else ""


def labels_of(corpus: Corpus) -> Labels:
    """Returns the labels of a corpus, for `check_counts`."""
    return {split: [c.labels for c in corpus.splits[split]] for split in SPLITS}


def check_counts(
    where: object,
    name: str,
    classes: Sequence[str],
    labels: Labels,
    check: str,
    own: bool = False,
    quiet: bool = False,
) -> bool:
    """Holds the counts of what is called `name` against those of the data set of that name, if there is one.

    Args:
      where: the file or the folder, for the message.
      check: what to do about a difference: `error`, or `warn`, which warns and accepts it.
      own: it is a folder of conversations, which can bear another name.
      quiet: accepts without a warning.

    Returns:
      Whether there is a difference.

    Raises:
      InputError: the counts differ and `check` is `error`; or `check` is neither.
    """
    if check not in COUNT_CHECKS:
        raise InputError(f"check_counts is {check!r}; it can be {' or '.join(COUNT_CHECKS)}")
    dataset = known(name)
    differences = count_differences(name, classes, labels)
    if not differences:
        return False
    message = f"{where}: the counts are not those of {dataset}: {'; '.join(differences)}"
    if check == "error":
        raise InputError(f"{message} {_ACCEPT.format(_FOR_GOOD.format(dataset) if own else '')}")
    if not quiet:
        warnings.warn(message, InputWarning, stacklevel=2)
    return True


def count_differences(name: str, classes: Sequence[str], labels: Labels) -> list[str]:
    """Returns what differs from the counts of what is called `name`, as text; nothing for a name that is not known."""
    differences = []
    dataset = known(name)
    for splits, conversations, per_class in COUNTS.get(dataset, ()):
        of_splits = [label_n for split in splits for label_n in labels[split]]
        label_n = np.concatenate([np.zeros(0, np.int32), *of_splits])
        expected = dict(zip(CLASSES[dataset], per_class, strict=True))
        found = dict(
            zip(classes, np.bincount(label_n[label_n != UNLABELLED], minlength=len(classes)).tolist(), strict=True)
        )
        rows = [("conversations", conversations, len(of_splits)), ("utterances", sum(per_class), len(label_n))]
        rows += [(c, expected.get(c, 0), found.get(c, 0)) for c in {**expected, **found}]
        what = " and ".join(splits)
        differences += [f"{what} {row}: expected {want}, found {got}" for row, want, got in rows if want != got]
    return differences
