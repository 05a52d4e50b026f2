"""The curriculum: which conversations an epoch has, and how many steps."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import conversations

from cmath_jax.data import packing
from cmath_jax.data.batches import Table, TrainingBatches
from cmath_jax.data.corpus import Conversation
from cmath_jax.data.curriculum import Curriculum, difficulty, shifts
from cmath_jax.data.packing import Shape, groups_of_epoch, rows_of_group, slots_needed, training_shape
from cmath_jax.models.baselines.vectors import read_vectors

VECTORS = Path(__file__).parents[3] / "shared" / "conformance"
FILES = sorted(VECTORS.glob("MULTIDAG_case*.npz"))
LENGTHS = (5, 1, 4, 7, 3, 2, 6, 9, 1, 8, 3)


def arrays_of(talks: Sequence[Conversation]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels and speakers, one conversation after the other, and lengths."""
    label_n, speaker_n = (np.concatenate([getattr(c, name) for c in talks]) for name in ("labels", "speakers"))
    return label_n, speaker_n, np.array([len(c) for c in talks])


def batches_of(lengths: Sequence[int], size: int, buckets: int, seed: int = 0, devices: int = 1) -> TrainingBatches:
    talks = conversations(lengths)
    curriculum = Curriculum.of(*arrays_of(talks), buckets)
    return TrainingBatches(Table.of(talks, "tav"), size, seed, devices, curriculum)


def known(batches: TrainingBatches, epoch: int) -> list[int]:
    return sorted(int(b) for group in batches.groups(epoch) for b in group)


def shifts_by_hand(talk: Conversation) -> int:
    """Counts the shifts of one conversation: of each speaker, one utterance after the other."""
    count = 0
    for speaker in set(talk.speakers.tolist()):
        labels = [int(label) for label, who in zip(talk.labels, talk.speakers, strict=True) if who == speaker]
        count += sum(a != b and a >= 0 and b >= 0 for a, b in itertools.pairwise(labels))
    return count


def test_difficulty_is_that_of_its_formula() -> None:
    talks = conversations(LENGTHS)
    talks[3].labels[2:4] = -1
    talks[7].labels[:] = -1
    by_hand = [shifts_by_hand(talk) for talk in talks]
    assert shifts(*arrays_of(talks)).tolist() == by_hand and max(by_hand) > 2 and by_hand[7] == 0
    speakers = [len(set(talk.speakers.tolist())) for talk in talks]
    expected = [(s + v) / (len(talk) + v) for s, v, talk in zip(by_hand, speakers, talks, strict=True)]
    assert difficulty(*arrays_of(talks)).tolist() == expected


@pytest.mark.skipif(not FILES, reason="no test vectors of released code beside the project")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_difficulty_is_that_of_the_released_code(path: Path) -> None:
    vectors = read_vectors(path)
    arrays = arrays_of(vectors.conversations)
    np.testing.assert_array_equal(shifts(*arrays), vectors.extra["shifts"])
    np.testing.assert_allclose(difficulty(*arrays), vectors.extra["difficulty"], rtol=1e-15)


def test_what_is_known_grows_by_a_bucket_each_epoch_from_easy_to_hard() -> None:
    talks = conversations(LENGTHS)
    batches, difficulty_b = batches_of(LENGTHS, 2, 4), difficulty(*arrays_of(talks))
    counts = [len(known(batches, epoch)) for epoch in range(6)]
    assert counts == [3, 6, 9, 11, 11, 11]
    for epoch, count in enumerate(counts):
        easiest = sorted(range(len(talks)), key=lambda b: (difficulty_b[b], b))[:count]
        assert known(batches, epoch) == sorted(easiest)


@pytest.mark.parametrize(
    ("buckets", "steps"), [(0, [6, 6, 6, 6]), (1, [6, 6, 6, 6]), (4, [2, 3, 5, 6]), (50, [1, 1, 2, 2])]
)
def test_steps_are_counted(buckets: int, steps: list[int]) -> None:
    batches = batches_of(LENGTHS, 2, buckets)
    assert [batches.steps_of(epoch) for epoch in range(4)] == steps
    assert [len([*batches.epoch(epoch)]) for epoch in range(4)] == steps
    assert [batches.steps_before(epoch) for epoch in range(5)] == [0, *np.cumsum(steps)]
    for epoch in range(4):
        half = sum(steps[:epoch]) + steps[epoch] / 2
        assert abs(batches.steps_before(epoch + 0.5) - half) <= 0.5
    assert batches.steps == 6 and batches.steps_of(batches.first_whole) == 6
    far = batches.first_whole + 3
    assert batches.steps_before(far + 2) == batches.steps_before(far) + 12


def test_fewer_buckets_arise_where_the_last_would_be_empty() -> None:
    """11 in buckets of 2 are 6 of them, not 7."""
    assert batches_of(LENGTHS, 2, 7).first_whole + 1 == 6
    assert len(known(batches_of(LENGTHS, 2, 7), 5)) == 11


@pytest.mark.parametrize("buckets", [0, 4])
def test_epochs_are_pure_functions_of_seed_and_epoch(buckets: int) -> None:
    def groups(seed: int, epoch: int, devices: int = 1) -> list[list[int]]:
        batches = batches_of(LENGTHS, 2, buckets, seed, devices)
        return [sorted(group.tolist()) for group in batches.groups(epoch)]

    one = batches_of(LENGTHS, 2, buckets)
    for epoch in (5, 2, 0, 4):  # in any order, of one object
        assert [sorted(group.tolist()) for group in one.groups(epoch)] == groups(0, epoch)
    assert groups(0, 4) == groups(0, 4, devices=4) != groups(1, 4) != groups(1, 5)


def test_without_a_curriculum_all_is_as_it_was() -> None:
    table = Table.of(conversations(LENGTHS), "tav")
    without, none = TrainingBatches(table, 3, 1), batches_of(LENGTHS, 3, 0, seed=1)
    assert without.shape == none.shape == training_shape(LENGTHS, 3)
    for epoch in range(3):
        for ours, theirs in zip(without.epoch(epoch), none.epoch(epoch), strict=True):
            np.testing.assert_array_equal(ours.utterance_rl, theirs.utterance_rl)


@pytest.mark.parametrize(("steps", "epochs"), [(10, 1.05), (3, 1.5), (7, 0.1), (2421, 3.337), (1, 0.5)])
def test_a_part_of_an_epoch_is_rounded_as_its_product(steps: int, epochs: float) -> None:
    """So that a warm-up of before there was a curriculum has as many steps as then."""
    table = Table.of(conversations([1]), "t")
    batches = TrainingBatches(replace(table, length_b=np.ones(steps, np.int64)), 1, 0)
    assert batches.steps_before(epochs) == round(epochs * steps)


@pytest.mark.parametrize("devices", [1, 2])
def test_the_plans_of_all_epochs_have_one_shape(devices: int) -> None:
    """Those of few steps end with empty ones; the rows hold the long conversations of the first epochs."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(2, 60, 96).tolist()
    shapes, epochs = set(), range(14)
    for seed in range(20):
        batches = batches_of(lengths, 8, 12, seed, devices)
        shapes |= {batches.slots(epoch) for epoch in epochs}
    assert len(shapes) == 1
    for epoch in (0, 5, 13):
        plan = batches.plan(epoch)
        assert plan.utterance_rl.shape[0] == batches.steps == 12
        filled_s = (plan.utterance_rl >= 0).any((1, 2))
        assert filled_s.sum() == batches.steps_of(epoch) == math.ceil(min(epoch + 1, 12) * 8 / 8)
        assert filled_s[: filled_s.sum()].all()


@pytest.mark.parametrize(("size", "devices", "bucket"), [(2, 1, 3), (4, 1, 1), (4, 2, 5)])
def test_the_shape_is_the_cheapest_that_holds_all_epochs(size: int, devices: int, bucket: int) -> None:
    """By trying every number of rows, with every group of eight draws of each epoch."""
    lengths = np.random.default_rng(4).integers(2, 40, 33)
    counts = range(bucket, len(lengths) + bucket, bucket)
    probes = [
        group for count in counts for draw in range(8) for group in groups_of_epoch(lengths[:count], size, 0, draw)
    ]

    def shape_of(rows: int) -> Shape:
        slots = max(int(lengths[row].sum()) for group in probes for row in rows_of_group(lengths, group, rows))
        return Shape(rows, math.ceil(slots * (1 if rows == 1 or slots == lengths.max() else 1.06)))

    shapes = [shape_of(rows) for rows in range(devices, size + 1, devices)]
    cheapest = min(shapes, key=lambda shape: shape.rows * shape.slots * (1 + shape.slots / 400))
    assert training_shape(tuple(lengths.tolist()), size, devices, bucket) == cheapest


@pytest.mark.parametrize("longest", ["first", "last"])
def test_of_very_many_epochs_those_of_the_longest_groups_are_probed(
    longest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "PROBED_GROUPS", 400)
    drawn: list[int] = []

    def counted(length_b: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
        drawn.append(len(length_b))
        return groups_of_epoch(length_b, size, seed, epoch)

    lengths = np.sort(np.random.default_rng(4).gamma(2, 5, 250).clip(1, 40).astype(np.int64))
    lengths = lengths[::-1] if longest == "first" else lengths
    with monkeypatch.context() as patch:
        patch.setattr(packing, "groups_of_epoch", counted)
        shape = training_shape.__wrapped__(tuple(lengths.tolist()), 4, bucket=1)
    assert sum(drawn) <= 400 * 4 and 250 in drawn and len(drawn) > 4
    for epoch in range(0, 250, 7):
        groups = groups_of_epoch(lengths[: epoch + 1], 4, 3, epoch)
        assert slots_needed(lengths, groups, shape.rows) <= shape.slots
