"""Training batches whose features come from disk, read ahead in threads by grain.

They are the batches of a `Table`, bit for bit. Of the features only those are read that a batch holds, when it is made.

Shapes: n utterances of a split, b its conversations; s steps, r rows of a batch, l slots of a row.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast

import jax
import numpy as np

from cmath_jax.data.batches import Batch, Table, TrainingBatches
from cmath_jax.data.corpus import Conversation, Corpus
from cmath_jax.data.packing import Shape, rows_of_group
from cmath_jax.data.prepared.stored import StoredConversation, StoredFeatures, lacks
from cmath_jax.data.standardize import Standardizer
from cmath_jax.errors import InputError

if TYPE_CHECKING:  # it imports tensorflow-datasets, which takes a while
    from cmath_jax.data.prepared.records import Records

THREADS = 2  # that read: they hold Python's lock for half of their time, so that more would only wait
AHEAD = 4  # chunks of steps that are read or ready, beside the one that is in use
CHUNK_BYTES = 2**23  # of a chunk, about; for the first of an epoch the device waits

Item = TypeVar("Item")
Rows = Sequence[Sequence[int] | np.ndarray]


@dataclass(frozen=True)
class StreamedTable(Table):
    """A table whose features are on disk. `features` is empty; `batch` reads those that it needs.

    Attributes:
      modalities: letters.
      records: where the features are.
      record_b: the number of each conversation there.
      scaling: of the features.
    """

    modalities: str
    records: Records
    record_b: np.ndarray
    standardizer: Standardizer

    @classmethod
    def stored(
        cls, conversations: Sequence[Conversation], modalities: str, standardizer: Standardizer, masked: bool = False
    ) -> StreamedTable:
        """Makes the table of conversations of one `StoredSplit`; `masked` is that of `Table.of`."""
        if not conversations:
            raise InputError("a split without conversations cannot be batched")
        stored = [cast(StoredFeatures, c.features) for c in conversations]
        present = {
            m: np.concatenate([cast(StoredConversation, c).present[m] for c in conversations]) for m in modalities
        }
        whole = all(present_n.all() for present_n in present.values())
        return cls(
            ids=tuple(c.id for c in conversations),
            features={},
            speaker_n=np.concatenate([c.speakers for c in conversations]),
            label_n=np.concatenate([c.labels for c in conversations]),
            length_b=np.array([len(c) for c in conversations], np.int64),
            present=present if masked or not whole else {},
            modalities=modalities,
            records=stored[0].records,
            record_b=np.array([features.record for features in stored], np.int64),
            standardizer=standardizer,
        )

    def batch(self, rows: Rows, shape: Shape) -> Batch:
        """Reads the features of a batch and packs it, equal to `Table.batch`."""
        return jax.tree.map(lambda x_srl: x_srl[0], self.chunk([rows], 1, shape))

    def chunk(self, rows_s: Sequence[Rows], steps: int, shape: Shape, share: slice = slice(None)) -> Batch:
        """Reads the batches of so many steps, arrays [s, r, l, ...]; those that are not in `rows_s` stay empty.

        Args:
          share: the rows whose features are wanted; those of the others are not read, and are 0.

        Raises:
          InputError: features cannot be read; it names the file.
        """
        missing: list[Rows] = [[]] * (steps - len(rows_s))
        plans = [self.plan(rows, shape) for rows in [*rows_s, *missing]]
        dims = self.records.dims
        features = {m: np.zeros((steps, *shape, dims[m]), np.float32) for m in self.modalities}
        for s, rows in enumerate(rows_s):
            for r in range(len(rows))[share]:
                start = 0
                for b in rows[r]:
                    end = start + int(self.length_b[b])
                    x = self.standardizer.features(self._features(b))
                    for m in self.modalities:
                        features[m][s, r, start:end] = np.nan_to_num(x[m]) if self.present else x[m]
                    start = end
        return replace(jax.tree.map(lambda *x_rl: np.stack(x_rl), *plans), features=features)

    def _features(self, b: int) -> dict[str, np.ndarray]:
        stored = self.records.features(int(self.record_b[b]), int(self.length_b[b]))
        return {m: stored[m] for m in self.modalities}


def chunk_steps(batches: TrainingBatches) -> int:
    """Returns the number of steps of a chunk."""
    table = cast(StreamedTable, batches.table)
    step_bytes = 4 * batches.shape.rows * batches.shape.slots * sum(table.records.dims[m] for m in table.modalities)
    return max(1, min(batches.steps, CHUNK_BYTES // step_bytes))


def stream(
    batches: TrainingBatches, epoch: int, first: int, slots: int, steps: int, share: slice = slice(None)
) -> Generator[Batch]:
    """Yields the batches of an epoch from step `first` on, in chunks of `steps`: arrays [s, r, l, ...].

    All chunks have one shape; steps after the end of the epoch are empty. The threads end with the iterator.

    Args:
      slots: of a row.
      share: the rows of each batch that are on this process's devices; it reads the features of no others.

    Raises:
      InputError: features cannot be read; it names the file.
    """
    import grain  # takes a while, and only streaming needs it

    table, groups = cast(StreamedTable, batches.table), batches.groups(epoch)
    shape = Shape(batches.shape.rows, slots)

    def chunk(i: int) -> Batch:
        start = first + i * steps
        rows_s = [rows_of_group(table.length_b, group, shape.rows) for group in groups[start : start + steps]]
        return table.chunk(rows_s, steps, shape, share)

    numbers = grain.MapDataset.range(-(-(batches.steps_of(epoch) - first) // steps))
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
    with closing(iter(numbers.map(chunk).to_iter_dataset(options))) as chunks:
        yield from chunks


def tables_of(corpus: Corpus, modalities: str, standardizer: Standardizer, streamed: bool) -> dict[str, Table]:
    """Returns the table of each split; that of training is a `StreamedTable` if its features are streamed."""
    masked = lacks(corpus, modalities)
    tables: dict[str, Table] = {}
    for split, conversations in corpus.splits.items():
        if split == "train" and streamed:
            tables[split] = StreamedTable.stored(conversations, modalities, standardizer, masked)
        else:
            tables[split] = Table.of(standardizer.apply(conversations), modalities, masked)
    return tables


def epoch_plans(
    batches: TrainingBatches, seeds: Sequence[int], epochs: Sequence[int], first: int, share: slice = slice(None)
) -> Iterator[tuple[range, list[Batch]]]:
    """Yields the steps of an epoch in the order of each seed: their numbers, and arrays [s, r, l] for each.

    Those of the whole epoch at once, as plans; or, if features are streamed, a chunk of batches after the other, from
    step `first` on.

    Args:
      epochs: of each seed; all of them have equally many steps.
      share: as for `stream`.
    """
    orders = [(replace(batches, seed=seed), epoch) for seed, epoch in zip(seeds, epochs, strict=True)]
    (end,) = {batches.steps_of(epoch) for epoch in epochs}
    slots = max(order.slots(epoch) for order, epoch in orders)
    if not isinstance(batches.table, StreamedTable):
        yield range(end), [order.plan(epoch, slots) for order, epoch in orders]
        return
    steps = chunk_steps(batches)
    with ExitStack() as stack:
        streams = [
            stack.enter_context(closing(stream(order, epoch, first, slots, steps, share))) for order, epoch in orders
        ]
        for start, chunks in zip(range(first, end, steps), zip(*streams, strict=True), strict=True):
            yield range(start, min(start + steps, end)), list(chunks)


def one_ahead(items: Iterator[Item]) -> Generator[Item]:
    """Yields the same items, each when the next is made, so that a transfer which it starts goes on meanwhile."""
    held: list[Item] = []
    for item in items:
        yield from held
        held = [item]
    yield from held
