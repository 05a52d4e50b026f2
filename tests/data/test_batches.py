"""Packing: every utterance once, low padding, one shape, and the same groups whatever the devices."""

import csv
import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from samples import conversations

from cmath_jax.data.batches import Table, TrainingBatches, evaluation_plans, evaluation_shape
from cmath_jax.data.packing import Shape, groups_of_epoch, rows_of_all, rows_of_group, slots_needed, training_shape
from cmath_jax.data.sources.simulate import Simulation, simulate
from cmath_jax.errors import InputError

MELD = Path(__file__).parents[3] / "shared" / "data" / "meld_csv" / "train.csv"


def iemocap_lengths() -> np.ndarray:
    """96 conversations of 8 to 110 utterances, 48 on average, as in IEMOCAP."""
    lengths = np.random.default_rng(0).gamma(6, 48.4 / 6, 96).clip(8, 110).astype(np.int64)
    lengths[0] = 110
    return lengths


def meld_lengths() -> np.ndarray:
    """Of MELD's 1038 training conversations, or of a simulated stand-in of their shape."""
    if MELD.exists():
        with open(MELD, encoding="utf-8") as file:
            return np.array([*Counter(row["Dialogue_ID"] for row in csv.DictReader(file)).values()])
    splits = simulate(Simulation(train=1038, validation=0, test=0)).splits
    return np.array([len(c) for c in splits["train"]])


LENGTHS = {"meld": (meld_lengths, 4), "iemocap": (iemocap_lengths, 16)}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_groups_hold_every_conversation_once_and_fit(name: str, devices: int) -> None:
    lengths, size = LENGTHS[name][0](), LENGTHS[name][1]
    shape = training_shape(tuple(lengths), size, devices)
    assert shape.rows % devices == 0
    for epoch in (0, 1, 50):
        groups = groups_of_epoch(lengths, size, seed=3, epoch=epoch)
        assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
        assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
        for group in groups:
            rows = rows_of_group(lengths, group, shape.rows)
            assert sorted(c for row in rows for c in row) == sorted(group)


@pytest.mark.parametrize("name", LENGTHS)
def test_one_shape_with_little_padding_at_the_settings_of_the_paper(name: str) -> None:
    lengths, size = LENGTHS[name][0](), LENGTHS[name][1]
    shape = training_shape(tuple(lengths), size)
    for seed, epoch in itertools.product(range(3), range(20)):
        groups = groups_of_epoch(lengths, size, seed, epoch)
        assert slots_needed(lengths, groups, shape.rows) <= shape.slots
    assert 1 - lengths.sum() / (len(groups) * shape.rows * shape.slots) <= 0.15


@pytest.mark.parametrize(("size", "devices"), [(4, 1), (4, 4), (16, 2)])
def test_the_shape_is_the_cheapest_of_all(size: int, devices: int) -> None:
    """By trying every number of rows, with every group of eight epochs."""
    lengths = meld_lengths()[:200]
    probes = [group for epoch in range(8) for group in groups_of_epoch(lengths, size, 0, epoch)]

    def shape_of(rows: int) -> Shape:
        slots = max(int(lengths[row].sum()) for group in probes for row in rows_of_group(lengths, group, rows))
        return Shape(rows, math.ceil(slots * (1 if rows == 1 or slots == lengths.max() else 1.06)))

    shapes = [shape_of(rows) for rows in range(devices, size + 1, devices)]
    cheapest = min(shapes, key=lambda shape: shape.rows * shape.slots * (1 + shape.slots / 400))
    assert training_shape(tuple(lengths), size, devices) == cheapest


def test_large_corpora_are_mended_in_blocks() -> None:
    lengths = np.random.default_rng(0).gamma(2, 5, 24_001).clip(1, 33).astype(np.int64)
    limit = math.ceil(1.04 * lengths.sum() / 6001)
    shape = training_shape(tuple(lengths), 4)
    for epoch in range(3):
        groups = groups_of_epoch(lengths, 4, seed=2, epoch=epoch)
        assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
        assert max(lengths[group].sum() for group in groups) <= limit
        assert slots_needed(lengths, groups, shape.rows) <= shape.slots
    # What is only bounded is never too short, and hardly too long.
    for rows in (2, 3):
        longest = max(int(lengths[row].sum()) for group in groups for row in rows_of_group(lengths, group, rows))
        assert longest <= slots_needed(lengths, groups, rows) <= 1.1 * longest


def test_epochs_and_seeds_differ_and_are_repeatable() -> None:
    lengths = meld_lengths()

    def key(seed: int, epoch: int) -> str:
        return str([group.tolist() for group in groups_of_epoch(lengths, 4, seed, epoch)])

    assert key(0, 0) == key(0, 0)
    assert len({key(0, 0), key(0, 1), key(1, 0), key(1, 1)}) == 4
    # Partners change from epoch to epoch, although the groups are mended to be of like size.
    pairs = [
        {frozenset((a, b)) for g in groups_of_epoch(lengths, 4, 0, e) for a in g for b in g if a < b} for e in (0, 1)
    ]
    assert len(pairs[0] & pairs[1]) < 0.05 * len(pairs[0])


@pytest.mark.parametrize(("lengths", "size"), [((5,), 4), ((3, 1, 2), 4), ((40, 1, 1, 1, 1, 1), 2), ((2,) * 9, 4)])
@pytest.mark.parametrize("devices", [1, 4])
def test_odd_corpora(lengths: tuple[int, ...], size: int, devices: int) -> None:
    table = Table.of(conversations(lengths), "tav")
    batches = TrainingBatches(table, size, seed=0, devices=devices)
    seen = np.concatenate([b.utterance_rl[b.utterance_rl >= 0] for b in batches.epoch(0)])
    assert sorted(seen) == list(range(sum(lengths)))
    assert len([*batches.epoch(0)]) == batches.steps == -(-len(lengths) // size)


def test_a_batch_is_what_its_conversations_are() -> None:
    talks = conversations((5, 1, 4, 7, 3, 2))
    table = Table.of(talks, "tv")
    batches = TrainingBatches(table, 3, seed=1)
    numbers = table.start_b
    for step, batch in enumerate(batches.epoch(4)):
        ids = batches.conversations(4, step)
        assert len(ids) == 3
        assert set(batch.features) == {"t", "v"}
        found = []
        for r, slots in enumerate(batch.segment_rl):
            for segment in sorted(set(slots) - {0}):
                place = (r, np.flatnonzero(slots == segment))
                assert (np.diff(place[1]) == 1).all()  # in one piece
                c = int(np.flatnonzero(numbers == batch.utterance_rl[place][0])[0])
                found.append(talks[c].id)
                for m in "tv":
                    np.testing.assert_array_equal(batch.features[m][place], talks[c].features[m])
                np.testing.assert_array_equal(batch.label_rl[place], talks[c].labels)
                np.testing.assert_array_equal(batch.speaker_rl[place], talks[c].speakers)
                np.testing.assert_array_equal(batch.position_rl[place], np.arange(len(talks[c])))
        assert sorted(found) == sorted(ids)
        padding_rl = batch.segment_rl == 0
        assert (batch.label_rl[padding_rl] == -1).all()
        assert (batch.utterance_rl[padding_rl] == -1).all()
        assert not any(batch.features[m][padding_rl].any() for m in "tv")


def test_a_resumed_epoch_goes_on_with_the_same_batches() -> None:
    batches = TrainingBatches(Table.of(conversations((5, 1, 4, 7, 3, 2, 6)), "tav"), 2, seed=1)
    whole = [batch.utterance_rl for batch in batches.epoch(2)]
    rest = [batch.utterance_rl for batch in TrainingBatches(batches.table, 2, seed=1).epoch(2, first=2)]
    np.testing.assert_array_equal(whole[2:], rest)


def test_devices_do_not_change_what_a_step_sees() -> None:
    table = Table.of(conversations((5, 1, 4, 7, 3, 2, 6)), "tav")
    steps = [
        [sorted(batch.utterance_rl[batch.utterance_rl >= 0]) for batch in TrainingBatches(table, 3, 0, d).epoch(1)]
        for d in (1, 2, 4)
    ]
    assert steps[0] == steps[1] == steps[2]


@pytest.mark.parametrize("devices", [1, 3, 4])
def test_evaluation_sees_every_utterance_once(devices: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 34, 280)
    table = Table.of(conversations(lengths), "tav")
    shape = evaluation_shape([table], devices)
    assert shape.rows % devices == 0
    batches = [*evaluation_plans(table, shape)]
    seen = np.concatenate([b.utterance_rl[b.utterance_rl >= 0] for b in batches])
    assert sorted(seen) == list(range(lengths.sum()))
    assert all(b.position_rl.shape == shape for b in batches)
    assert lengths.sum() / sum(len(row) > 0 for row in rows_of_all(lengths, shape.slots)) > 0.9 * shape.slots


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(InputError, match="without conversations"):
        Table.of([], "tav")
