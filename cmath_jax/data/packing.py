"""The conversations that share a step or a row: integers only, pure functions of the lengths and a seed.

A step holds a fixed number of conversations, of ragged lengths, in an array of fixed shape [rows, slots]. The groups
are drawn at random and then mended by a few swaps, so that no group is much longer than the mean: that keeps the
padding low with one compiled shape. The groups do not depend on the number of devices; only their rows do. Time grows
with the number of conversations, not with its square: 200,000 are ordered in a second.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

SLACK = 1.04  # how far a group may exceed the mean length of a group
ATTENTION_SLOTS = 400  # a row this long costs as much for its attention as for all else
BLOCK = 512  # groups that are mended among themselves
PROBED_EPOCHS = 8  # the shape is the smallest that holds every group of so many epochs, ...
PROBED_GROUPS = 20_000  # or of fewer, and of some epochs of a curriculum alone, if they have so many groups, ...
ROW_MARGIN = 1.06  # ... and so much more where a group is spread over rows
PROBED_CONVERSATIONS = 10_000  # so many are spread over rows to find the longest row; the others are bounded


class Shape(NamedTuple):
    """The shape of a batch: how many rows, and how many utterances fit into one."""

    rows: int
    slots: int


def groups_of_epoch(length_b: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Draws the conversations of every step of an epoch: each conversation once, `size` a step (fewer in the last one).

    A pure function of its arguments: a run that is resumed or moved to other devices sees the same groups.
    """
    rng = np.random.Generator(np.random.PCG64([seed, epoch]))
    groups = np.split(rng.permutation(len(length_b)), range(size, len(length_b), size))
    mean = length_b.sum() / len(groups)
    limit = max(int(np.ceil(SLACK * mean)), int(length_b.max()))
    # Dealt out by length, so that every block has heavy and light groups and can be mended by itself.
    heaviest_first = np.argsort(-_loads(length_b, groups), kind="stable")
    blocks = -(-len(groups) // BLOCK)
    for block in range(blocks):
        _mend(length_b, [groups[s] for s in np.sort(heaviest_first[block::blocks])], limit)
    return groups


def rows_of_group(length_b: np.ndarray, group: Sequence[int] | np.ndarray, rows: int) -> list[np.ndarray]:
    """Spreads a group over rows as evenly as it goes: the longest first, each to the emptiest row; then by swaps."""
    packed: list[list[int]] = [[] for _ in range(rows)]
    load_r = np.zeros(rows, np.int64)
    for b in sorted(group, key=lambda b: (-length_b[b], b)):
        emptiest = int(load_r.argmin())
        packed[emptiest].append(b)
        load_r[emptiest] += length_b[b]
    result = [np.array(row, np.int64) for row in packed]
    _mend(length_b, result, int(np.ceil(load_r.mean())))
    return result


def _loads(length_b: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Counts the utterances of each group, int64 [s]."""
    return np.array([length_b[group].sum() for group in groups])


def _mend(length_b: np.ndarray, groups: Sequence[np.ndarray], limit: int) -> None:
    """Swaps conversations between groups, in place, until none is longer than the limit or no swap helps."""
    load_s = _loads(length_b, groups)
    while load_s.max() > limit:
        heavy = int(load_s.argmax())
        for light in _lightest_first(load_s):
            gap = load_s[heavy] - load_s[light]
            gain_bb = length_b[groups[heavy]][:, None] - length_b[groups[light]][None, :]
            # A swap that moves less than the gap lowers the sum of squared loads, so this ends.
            off_bb = np.where((gain_bb > 0) & (gain_bb < gap), np.abs(gain_bb - gap / 2), np.inf)
            if np.isfinite(off_bb).any():
                break
        else:
            return
        i, j = np.unravel_index(int(off_bb.argmin()), off_bb.shape)
        groups[heavy][i], groups[light][j] = groups[light][j], groups[heavy][i]
        load_s[heavy] -= gain_bb[i, j]
        load_s[light] += gain_bb[i, j]


def _lightest_first(load_s: np.ndarray) -> Iterator[int]:
    yield int(load_s.argmin())  # nearly always the last one that is asked for
    yield from np.argsort(load_s, kind="stable")[1:].tolist()


def slots_needed(length_b: np.ndarray, groups: Sequence[np.ndarray], rows: int) -> int:
    """Returns the length of the longest row of any of the groups, each spread over so many rows.

    Of very many groups some are only bounded, and the result may be some slots too long.
    """
    bound_s = _longest_unmended(length_b, groups, rows)
    longest, tried = 0, max(1, PROBED_CONVERSATIONS // max(map(len, groups)))
    worst_first = np.argsort(-bound_s, kind="stable")
    for s in worst_first[:tried]:
        if bound_s[s] <= longest:
            return longest
        longest = max(longest, longest_row(length_b, [rows_of_group(length_b, groups[s], rows)]))
    return max(longest, int(bound_s[worst_first[tried:]].max(initial=0)))


def longest_row(length_b: np.ndarray, rows_s: Iterable[Sequence[np.ndarray]]) -> int:
    """Counts the utterances of the longest row of any step."""
    return max(int(length_b[row].sum()) for rows in rows_s for row in rows)


def _longest_unmended(length_b: np.ndarray, groups: Sequence[np.ndarray], rows: int) -> np.ndarray:
    """Returns the longest row of each group, int64 [s], before the swaps of `rows_of_group`, which lengthen none."""
    size = max(map(len, groups))
    length_sb = np.zeros((len(groups), size), np.int64)
    for s, group in enumerate(groups):
        length_sb[s, : len(group)] = length_b[group]
    length_sb = -np.sort(-length_sb)
    load_sr = np.zeros((len(groups), rows), np.int64)
    for j in range(size):
        load_sr[np.arange(len(groups)), load_sr.argmin(1)] += length_sb[:, j]
    return load_sr.max(1)


def _probed_counts(length_b: np.ndarray, size: int, bucket: int) -> list[int]:
    """Returns how many conversations the epochs have that are probed: of too many epochs, those of the longest groups.

    The one that has all conversations is among them, since all later ones have as many.
    """
    counts = np.arange(bucket, len(length_b) + bucket, bucket)
    means = np.cumsum(length_b)[np.minimum(counts, len(length_b)) - 1] / -(-counts // size)
    means[-1] = np.inf
    longest_first = np.argsort(-means, kind="stable")
    affordable = np.cumsum(counts[longest_first]) <= PROBED_GROUPS * size
    return sorted(counts[longest_first[: max(1, affordable.sum())]].tolist())


@functools.lru_cache(maxsize=8)
def training_shape(lengths: tuple[int, ...], size: int, devices: int = 1, bucket: int = 0) -> Shape:
    """Finds the cheapest shape that holds groups of `size` conversations; its rows are a multiple of the devices.

    Args:
      bucket: the first epoch has only so many conversations, the first ones, and each later one so many more; 0: all.
    """
    length_b = np.array(lengths, np.int64)
    counts = _probed_counts(length_b, size, bucket or len(lengths))
    epochs = max(1, min(PROBED_EPOCHS, PROBED_GROUPS * size // sum(counts)))
    draws = [groups_of_epoch(length_b[:count], size, 0, epoch) for count in counts for epoch in range(epochs)]
    probes = [group for groups in draws for group in groups]
    most = max(devices, -(-min(size, len(length_b)) // devices) * devices)
    longest, heaviest = int(length_b.max()), int(_loads(length_b, probes).max())

    def shape_of(rows: int, slots: int) -> Shape:
        # One row holds a group whose size is bounded. How evenly several rows are filled is up to the draw.
        margin = 1.0 if rows == 1 or slots == longest else ROW_MARGIN
        return Shape(rows, math.ceil(margin * slots))

    def cost(shape: Shape) -> float:
        return shape.rows * shape.slots * (1 + shape.slots / ATTENTION_SLOTS)

    # No row can be shorter than its share of the heaviest group: what would cost too much even so is not probed.
    ideal = [shape_of(rows, max(longest, -(-heaviest // rows))) for rows in range(devices, most + 1, devices)]
    best: Shape | None = None
    for shape in sorted(ideal, key=cost):
        if best is not None and cost(shape) > cost(best):
            break
        found = shape_of(shape.rows, slots_needed(length_b, probes, shape.rows))
        if best is None or (cost(found), found.rows) < (cost(best), best.rows):
            best = found
    assert best is not None
    return best


def rows_of_all(length_b: np.ndarray, slots: int) -> list[list[int]]:
    """Packs every conversation once into as few rows as it goes: the longest first, each to the fullest row it fits."""
    packed: list[list[int]] = []
    room_r: list[int] = []
    for b in np.argsort(-length_b, kind="stable"):
        fitting = [r for r, room in enumerate(room_r) if room >= length_b[b]]
        if fitting:
            best = min(fitting, key=lambda r: room_r[r])
        else:
            best = len(packed)
            packed.append([])
            room_r.append(slots)
        packed[best].append(int(b))
        room_r[best] -= int(length_b[b])
    return packed
