"""Words and numbers that say what is in a corpus, and in a conversation: for a terminal and for a notebook."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from cmath_jax.data.terms import MODALITIES, SPLITS, UNLABELLED, is_present
from cmath_jax.io.tables import html_table, text_table


class CountedConversation(Protocol):
    """The part of a conversation that is counted and shown."""

    @property
    def id(self) -> str: ...
    @property
    def features(self) -> Mapping[str, np.ndarray]: ...
    @property
    def speakers(self) -> np.ndarray: ...
    @property
    def labels(self) -> np.ndarray: ...
    @property
    def sentences(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...


Split = Sequence[CountedConversation]


@dataclass(frozen=True, repr=False)
class CorpusSummary:
    """The content of a corpus in facts and counts; printed it is text, in a notebook a table.

    Attributes:
      title: the name of the corpus, and how much it holds.
      facts: name -> value.
      rows: the counts of each split, with a head.
    """

    title: str
    facts: Mapping[str, str]
    rows: tuple[tuple[str, ...], ...]

    def __repr__(self) -> str:
        width = max(map(len, self.facts))
        facts = (f"  {name:<{width}}  {value}" for name, value in self.facts.items())
        return "\n".join([self.title, *facts, "", *text_table(self.rows)])

    def _repr_html_(self) -> str:
        facts = html_table([*self.facts.items()], words=(0, 1), caption=self.title, head=False)
        return f"{facts}\n{html_table(self.rows)}"


def counts(splits: Mapping[str, Split], classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Counts conversations, utterances, labels, speakers and what is missing, by split; the first row is the head."""
    return (("", *SPLITS), *map(tuple, _rows(splits, classes)))


def dims_in_words(dims: Mapping[str, int]) -> str:
    """Returns the modalities with their dimensions, as in "text 384, audio 88"."""
    return ", ".join(f"{MODALITIES[m]} {dims[m]}" for m in MODALITIES if m in dims)


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun, which gets an s unless it is one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def conversation_line(c: CountedConversation) -> str:
    """Returns what is in a conversation, in a line."""
    parts = [f"{counted(len(c), 'utterance')} of {counted(len(np.unique(c.speakers)), 'speaker')}"]
    parts += [f"{int((c.labels != UNLABELLED).sum())} labelled"]
    return f"{c.id!r}: {', '.join([*parts, dims_in_words({m: x.shape[-1] for m, x in c.features.items()})])}"


def conversation_table(c: CountedConversation) -> str:
    """Returns the lines of a conversation as an HTML table; a label is shown as its index."""
    missing = ["" for _ in range(len(c))]
    for m, x_nd in c.features.items():
        missing = [
            told if present else f"{told} {MODALITIES[m]}".strip()
            for told, present in zip(missing, is_present(x_nd), strict=True)
        ]
    columns = {
        "": [str(i) for i in range(len(c))],
        "speaker": [str(speaker) for speaker in c.speakers],
        "text": [*c.sentences],
        "label": ["" if label == UNLABELLED else str(label) for label in c.labels],
        "missing": missing,
    }
    shown = {name: column for name, column in columns.items() if any(column)}
    rows = [[*shown], *map(list, zip(*shown.values(), strict=True))]
    words = [i for i, name in enumerate(shown) if name in ("text", "missing")]
    return html_table(rows, words, caption=conversation_line(c))


def _rows(splits: Mapping[str, Split], classes: Sequence[str]) -> Iterator[list[str]]:
    def row(name: str, value: Callable[[Split], object]) -> list[str]:
        return [name, *(str(value(splits[split])) if splits[split] else "-" for split in SPLITS)]

    def labels(conversations: Split) -> np.ndarray:
        label_n = np.concatenate([c.labels for c in conversations])
        return label_n[label_n != UNLABELLED]

    def share(i: int) -> Callable[[Split], str]:
        return lambda conversations: _share(int((labels(conversations) == i).sum()), len(labels(conversations)))

    yield row("conversations", len)
    yield row("utterances", lambda conversations: sum(map(len, conversations)))
    yield row("labelled", lambda conversations: len(labels(conversations)))
    yield row("length, least", lambda conversations: min(map(len, conversations)))
    yield row("length, median", lambda conversations: f"{np.median([len(c) for c in conversations]):g}")
    yield row("length, most", lambda conversations: max(map(len, conversations)))
    yield row(
        "speakers of a conversation, most", lambda conversations: max(len(np.unique(c.speakers)) for c in conversations)
    )
    for i, name in enumerate(classes):
        yield row(f"class {name}", share(i))
    for m in next(c.features for split in SPLITS for c in splits[split]):
        name = MODALITIES[m]
        yield row(f"utterances without {name}", partial(_lacking, m=m, whole=False))
        yield row(f"conversations without {name}", partial(_lacking, m=m, whole=True))


def _lacking(conversations: Split, m: str, whole: bool) -> int:
    """Counts the utterances, or the whole conversations, that lack a modality."""
    missing = [~is_present(c.features[m]) for c in conversations]
    return sum(int(missing_n.all() if whole else missing_n.sum()) for missing_n in missing)


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.1f} %)" if total else "0"
