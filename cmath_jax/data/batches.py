"""A split as one table of utterances, and batches of fixed shape cut from it.

A *plan* is a batch without features: a few integers an utterance. A device that holds the features of the split makes
the batch from it by itself (`with_features`).

Shapes: n utterances of a split, b its conversations; s steps, r rows of a batch, l slots of a row.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import flax.struct
import jax
import numpy as np

from cmath_jax.data.corpus import UNLABELLED, Conversation, is_present
from cmath_jax.data.curriculum import Curriculum
from cmath_jax.data.packing import Shape, groups_of_epoch, rows_of_all, rows_of_group, slots_needed, training_shape
from cmath_jax.errors import InputError

Array = Any  # of jax on a device, of NumPy on the host

PADDING = -1  # the utterance number of an empty slot
EVALUATION_SLOTS = 1024  # utterances in a batch of evaluation, as near as whole rows come to it


@flax.struct.dataclass
class Batch:
    """Conversations packed into rows. Padding: features 0, utterance -1, label -1, segment 0.

    Attributes:
      features: m -> float32 [r, l, d_m]; empty in a plan.
      utterance_rl: int32, the number of the utterance in its split; random draws are addressed by it.
      speaker_rl: int32, index of the speaker.
      label_rl: int32, index of the emotion; -1 for an utterance that counts in no loss.
      position_rl: int32, place in the conversation, from 0.
      segment_rl: int32, which conversation of the row, from 1.
      present: m -> bool [r, l], whether the utterance has the modality; its features are 0 where not. Empty where all
        utterances have all modalities, which saves the masking.
    """

    features: Mapping[str, Array]
    utterance_rl: Array
    speaker_rl: Array
    label_rl: Array
    position_rl: Array
    segment_rl: Array
    present: Mapping[str, Array] = flax.struct.field(default_factory=dict)


def with_features(plan: Batch, features: Mapping[str, Array]) -> Batch:
    """Makes the batch of a plan; `features` are `Table.padded_features`, on the device or on the host."""
    return replace(plan, features={m: x_nd[plan.utterance_rl] for m, x_nd in features.items()})


@dataclass(frozen=True)
class Table:
    """The utterances of a split, one conversation after the other.

    Attributes:
      features: m -> float32 [n, d_m], 0 for utterances that lack the modality.
      present: m -> bool [n], which utterances have it; empty as in `Batch`.
    """

    ids: tuple[str, ...]
    features: Mapping[str, np.ndarray]
    speaker_n: np.ndarray
    label_n: np.ndarray
    length_b: np.ndarray
    present: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, conversations: Sequence[Conversation], modalities: str, masked: bool = False) -> "Table":
        """Makes the table of a split; `masked` marks what is present even if nothing is missing here."""
        if not conversations:
            raise InputError("a split without conversations cannot be batched")
        features = {m: np.concatenate([c.features[m] for c in conversations]) for m in modalities}
        present = {m: is_present(x_nd) for m, x_nd in features.items()}
        whole = all(present_n.all() for present_n in present.values())
        if not whole:
            features = {m: np.where(present[m][:, None], x_nd, np.float32(0)) for m, x_nd in features.items()}
        return cls(
            ids=tuple(c.id for c in conversations),
            features=features,
            speaker_n=np.concatenate([c.speakers for c in conversations]).astype(np.int32),
            label_n=np.concatenate([c.labels for c in conversations]).astype(np.int32),
            length_b=np.array([len(c) for c in conversations], np.int64),
            present=present if masked or not whole else {},
        )

    @cached_property
    def start_b(self) -> np.ndarray:
        return np.cumsum(self.length_b) - self.length_b

    def padded_features(self, utterances: int = 0) -> dict[str, np.ndarray]:
        """Returns m -> float32 [n + 1, d_m], n its utterances or more; the last row, for `PADDING`, is 0."""
        rows = 1 + max(utterances - len(self.label_n), 0)
        return {
            m: np.concatenate([x_nd, np.zeros((rows, x_nd.shape[1]), np.float32)]) for m, x_nd in self.features.items()
        }

    def plan(self, rows: Sequence[Sequence[int] | np.ndarray], shape: Shape) -> Batch:
        """Packs the conversations of each row into a plan of the given shape; missing rows stay empty."""
        utterance_rl = np.full(shape, PADDING, np.int32)
        position_rl = np.zeros(shape, np.int32)
        segment_rl = np.zeros(shape, np.int32)
        for r, row in enumerate(rows):
            start = 0
            for segment, b in enumerate(row, start=1):
                place = (r, slice(start, start + self.length_b[b]))
                utterance_rl[place] = self.start_b[b] + np.arange(self.length_b[b])
                position_rl[place] = np.arange(self.length_b[b])
                segment_rl[place] = segment
                start += self.length_b[b]
        filled_rl = utterance_rl != PADDING
        return Batch(
            features={},
            utterance_rl=utterance_rl,
            speaker_rl=np.where(filled_rl, self.speaker_n[utterance_rl], 0).astype(np.int32),
            label_rl=np.where(filled_rl, self.label_n[utterance_rl], UNLABELLED).astype(np.int32),
            position_rl=position_rl,
            segment_rl=segment_rl,
            # Padding, which attends to padding, lacks nothing.
            present={m: ~filled_rl | present_n[utterance_rl] for m, present_n in self.present.items()},
        )

    def batch(self, rows: Sequence[Sequence[int] | np.ndarray], shape: Shape) -> Batch:
        """Packs the conversations of each row into a batch: the plan and its features."""
        plan = self.plan(rows, shape)
        filled_rl = plan.utterance_rl != PADDING
        features = {m: np.zeros((*shape, x_nd.shape[1]), np.float32) for m, x_nd in self.features.items()}
        for m, x_nd in self.features.items():
            features[m][filled_rl] = x_nd[plan.utterance_rl[filled_rl]]
        return replace(plan, features=features)


@dataclass(frozen=True)
class TrainingBatches:
    """Batches of `size` conversations; each a pure function of (seed, epoch, step).

    The rows of a batch are a multiple of `devices`. One shape serves every epoch, unless a rare unlucky draw needs
    longer rows: that epoch has them, for it and by itself, so that a resumed run has the same shapes.

    Attributes:
      curriculum: None where every epoch has all conversations.
    """

    table: Table
    size: int
    seed: int
    devices: int = 1
    curriculum: Curriculum | None = None
    _epochs: dict[int, list[np.ndarray]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def shape(self) -> Shape:
        length_b = self.table.length_b[self._curriculum.order_b]
        return training_shape(tuple(length_b.tolist()), self.size, self.devices, self._curriculum.bucket)

    @cached_property
    def _curriculum(self) -> Curriculum:
        return self.curriculum or Curriculum.of(self.table.label_n, self.table.speaker_n, self.table.length_b, 0)

    @property
    def first_whole(self) -> int:
        """The first epoch that has all conversations, as all later ones have."""
        return self._curriculum.first_whole

    @property
    def steps(self) -> int:
        """Steps of an epoch that has all conversations; no other has more."""
        return -(-len(self.table.length_b) // self.size)

    def steps_of(self, epoch: int) -> int:
        """Returns the number of steps of an epoch; it does not depend on the seed."""
        return -(-len(self._curriculum.known(epoch)) // self.size)

    def steps_before(self, epoch: float) -> int:
        """Counts the steps of all epochs before one; 2.5 is the middle of the third."""
        lacking = [self.steps - self.steps_of(e) for e in range(min(math.ceil(epoch), self.first_whole))]
        return round(epoch * self.steps - sum(min(epoch - e, 1) * steps for e, steps in enumerate(lacking)))

    def conversations(self, epoch: int, step: int) -> list[str]:
        """Returns the ids of the conversations of a step, for messages."""
        return [self.table.ids[b] for row in self.rows(epoch, step) for b in row]

    def slots(self, epoch: int) -> int:
        """Returns how long the rows of an epoch are."""
        return max(self.shape.slots, slots_needed(self.table.length_b, self.groups(epoch), self.shape.rows))

    def plan(self, epoch: int, slots: int | None = None) -> Batch:
        """Returns all steps of an epoch, arrays [s, r, l]; in longer rows than it needs, if `slots` says so.

        s is the same for all epochs: the steps of the largest. Where there are fewer, the others are empty.
        """
        shape = Shape(self.shape.rows, slots or self.slots(epoch))
        plans = [self.table.plan(self.rows(epoch, step), shape) for step in range(self.steps_of(epoch))]
        plans += [self.table.plan([], shape)] * (self.steps - len(plans))
        return jax.tree.map(lambda *x: np.stack(x), *plans)

    def epoch(self, epoch: int, first: int = 0, slots: int | None = None) -> Iterator[Batch]:
        """Yields the batches of an epoch, from step `first` on, with features; `slots` as for `plan`."""
        shape = Shape(self.shape.rows, slots or self.slots(epoch))
        for step in range(first, self.steps_of(epoch)):
            yield self.table.batch(self.rows(epoch, step), shape)

    def rows(self, epoch: int, step: int) -> list[np.ndarray]:
        """Returns the conversations of each row of a step."""
        return rows_of_group(self.table.length_b, self.groups(epoch)[step], self.shape.rows)

    def groups(self, epoch: int) -> list[np.ndarray]:
        """Returns the conversations of each step."""
        if epoch not in self._epochs:
            self._epochs.clear()
            known_b = self._curriculum.known(epoch)
            groups = groups_of_epoch(self.table.length_b[known_b], self.size, self.seed, epoch)
            self._epochs[epoch] = [known_b[group] for group in groups]
        return self._epochs[epoch]


def evaluation_shape(tables: Sequence[Table], devices: int = 1) -> Shape:
    """Returns one shape for the evaluation of all tables; its rows are a multiple of the devices."""
    slots = max(64, max(int(table.length_b.max()) for table in tables))
    rows = max(1, EVALUATION_SLOTS // slots)
    return Shape(-(-rows // devices) * devices, slots)


def evaluation_plans(table: Table, shape: Shape) -> Iterator[Batch]:
    """Yields plans that hold every utterance of the table exactly once."""
    rows = rows_of_all(table.length_b, shape.slots)
    for first in range(0, len(rows), shape.rows):
        yield table.plan(rows[first : first + shape.rows], shape)
