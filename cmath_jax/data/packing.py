"""Which conversations share a step and which share a row: integers only, pure functions of the lengths and a seed.

A step holds a fixed number of conversations, of ragged lengths, in an array of fixed shape [rows, slots]. The groups
are drawn at random and then mended by a few swaps, so that no group is much longer than the mean: that keeps the
padding low with one compiled shape. The groups do not depend on the number of devices; only their rows do.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

SLACK = 1.04  # how far a group may exceed the mean length of a group
ATTENTION_SLOTS = 400  # a row this long costs as much for its attention as for all else
PROBED_EPOCHS = 8  # the shape is the smallest that holds every group of so many epochs ...
ROW_MARGIN = 1.06  # ... and so much more where a group is spread over rows


class Shape(NamedTuple):
    """Of a batch: how many rows, and how many utterances fit into one."""

    rows: int
    slots: int


def groups_of_epoch(length_c: np.ndarray, size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The conversations of every step of an epoch: each conversation once, `size` a step (fewer in the last one).

    A pure function of its arguments: a run that is resumed or moved to other devices sees the same groups.
    """
    rng = np.random.Generator(np.random.PCG64([seed, epoch]))
    groups = np.split(rng.permutation(len(length_c)), range(size, len(length_c), size))
    mean = length_c.sum() / len(groups)
    _mend(length_c, groups, max(int(np.ceil(SLACK * mean)), int(length_c.max())))
    return groups


def rows_of_group(length_c: np.ndarray, group: Sequence[int] | np.ndarray, rows: int) -> list[np.ndarray]:
    """Spreads a group over rows as evenly as it goes: the longest first, each to the emptiest row; then by swaps."""
    packed: list[list[int]] = [[] for _ in range(rows)]
    load_r = np.zeros(rows, np.int64)
    for c in sorted(group, key=lambda c: (-length_c[c], c)):
        emptiest = int(load_r.argmin())
        packed[emptiest].append(c)
        load_r[emptiest] += length_c[c]
    result = [np.array(row, np.int64) for row in packed]
    _mend(length_c, result, int(np.ceil(load_r.mean())))
    return result


def _mend(length_c: np.ndarray, groups: Sequence[np.ndarray], limit: int) -> None:
    """Swaps conversations between groups, in place, until none is longer than the limit or no swap helps."""
    load_s = np.array([length_c[group].sum() for group in groups])
    while load_s.max() > limit:
        heavy = int(load_s.argmax())
        # The lightest partner first; if it has no fitting conversation, the next.
        for light in np.argsort(load_s, kind="stable"):
            gap = load_s[heavy] - load_s[light]
            gain_ij = length_c[groups[heavy]][:, None] - length_c[groups[light]][None, :]
            # A swap that moves less than the gap lowers the sum of squared loads, so this ends.
            off_ij = np.where((gain_ij > 0) & (gain_ij < gap), np.abs(gain_ij - gap / 2), np.inf)
            if np.isfinite(off_ij).any():
                break
        else:
            return
        i, j = np.unravel_index(int(off_ij.argmin()), off_ij.shape)
        groups[heavy][i], groups[light][j] = groups[light][j], groups[heavy][i]
        load_s[heavy] -= gain_ij[i, j]
        load_s[light] += gain_ij[i, j]


def slots_needed(length_c: np.ndarray, groups: Sequence[np.ndarray], rows: int) -> int:
    """The longest row of any of the groups, each spread over so many rows."""
    return longest_row(length_c, (rows_of_group(length_c, group, rows) for group in groups))


def longest_row(length_c: np.ndarray, rows_s: Iterable[Sequence[np.ndarray]]) -> int:
    """How many utterances the longest row of any step has."""
    return max(int(length_c[row].sum()) for rows in rows_s for row in rows)


@functools.lru_cache(maxsize=8)
def training_shape(lengths: tuple[int, ...], size: int, devices: int = 1) -> Shape:
    """The cheapest shape that holds groups of `size` conversations; its rows are a multiple of the devices."""
    length_c = np.array(lengths, np.int64)
    probes = [group for epoch in range(PROBED_EPOCHS) for group in groups_of_epoch(length_c, size, 0, epoch)]
    most = max(devices, -(-min(size, len(length_c)) // devices) * devices)
    shapes = []
    for rows in range(devices, most + 1, devices):
        slots = slots_needed(length_c, probes, rows)
        # One row holds a group whose size is bounded. How evenly several rows are filled is up to the draw.
        margin = 1.0 if rows == 1 or slots == length_c.max() else ROW_MARGIN
        shapes.append(Shape(rows, math.ceil(margin * slots)))
    return min(shapes, key=lambda shape: shape.rows * shape.slots * (1 + shape.slots / ATTENTION_SLOTS))


def rows_of_all(length_c: np.ndarray, slots: int) -> list[list[int]]:
    """Packs every conversation once into as few rows as it goes: the longest first, each to the fullest row it fits."""
    packed: list[list[int]] = []
    room_r: list[int] = []
    for c in np.argsort(-length_c, kind="stable"):
        fitting = [r for r, room in enumerate(room_r) if room >= length_c[c]]
        if fitting:
            best = min(fitting, key=lambda r: room_r[r])
        else:
            best = len(packed)
            packed.append([])
            room_r.append(slots)
        packed[best].append(int(c))
        room_r[best] -= int(length_c[c])
    return packed
