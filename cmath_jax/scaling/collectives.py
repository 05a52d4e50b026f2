"""The exchanges between the devices of a compiled program, read in its text."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cmath_jax.scaling.hlo import SIZES, instructions

_KINDS = r"(?:ragged-)?all-to-all|all-reduce|all-gather|reduce-scatter|collective-\w+"
_COLLECTIVE = re.compile(rf"= (\(.*?\)|\S+) ({_KINDS})(-start)?\(.*")
SUM = "all-reduce"


@dataclass(frozen=True)
class Collective:
    """An exchange between devices.

    Attributes:
      kind: all-reduce, all-gather, ...
      shapes: type and shape of each array that a device gets.
      groups: which devices exchange with each other, by their place in the mesh; empty for sends from one to another.
      where: the path of the operation in the traced function.
      times: how often a step does it.
    """

    kind: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    groups: frozenset[frozenset[int]]
    where: str
    times: int

    @property
    def numbers(self) -> int:
        """Returns how many numbers a device gets."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    @property
    def bytes(self) -> int:
        """Returns how many bytes a device gets."""
        return sum(SIZES.get(dtype, 0) * math.prod(shape) for dtype, shape in self.shapes)


def collectives(text: str) -> list[Collective]:
    """Returns the collectives of an optimized program."""
    found = ((_COLLECTIVE.search(each.text), each.times) for each in instructions(text))
    return [_collective(match, times) for match, times in found if match]


def by_kind(found: Iterable[Collective]) -> dict[str, dict[str, int]]:
    """Returns kind -> how many a step has, and how many bytes a device gets by them."""
    sums: dict[str, dict[str, int]] = {}
    for each in found:
        entry = sums.setdefault(each.kind, {"count": 0, "bytes": 0})
        entry["count"] += each.times
        entry["bytes"] += each.times * each.bytes
    return sums


def _collective(match: re.Match[str], times: int) -> Collective:
    shapes = re.findall(r"\b(\w+)\[([\d,]*)\]", match[1])
    if match[3] and match[2] != SUM:
        shapes = shapes[len(shapes) // 2 :]  # what is given comes first, and then what is got
    if re.search(r"to_apply=\S+_promoted", match[0]):
        # A processor adds up bfloat16 in float32, which another device would not.
        shapes = [("bf16", dimensions) for _, dimensions in shapes]
    where = re.search(r'op_name="(.*?)"', match[0])
    return Collective(
        kind=match[2],
        shapes=tuple((dtype, tuple(map(int, filter(None, sizes.split(","))))) for dtype, sizes in shapes),
        groups=_groups(match[0]),
        where=where[1] if where else "",
        times=times,
    )


def _groups(line: str) -> frozenset[frozenset[int]]:
    """Returns the replica groups: listed, the rows of an array of counted devices, or those along axes of a mesh."""
    if listed := re.search(r"replica_groups=\{(\{.*?\})\}", line):
        groups = [[int(x) for x in group.split(",")] for group in re.findall(r"\{(.*?)\}", listed[1])]
    elif counted := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line):
        shape, sizes, axes = ([int(x) for x in (part or "").split(",") if x] for part in counted.groups())
        groups = np.arange(math.prod(sizes)).reshape(sizes).transpose(axes or range(len(sizes))).reshape(shape).tolist()
    elif along := re.search(r"replica_groups=mesh\[([^]]*)\] ?\{([^}]*)\}", line):  # since jax 0.12
        sizes_of = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", along[1])}
        within = re.findall(r"'(\w+)'", along[2])
        order = [list(sizes_of).index(name) for name in (*(x for x in sizes_of if x not in within), *within)]
        devices = np.arange(math.prod(sizes_of.values())).reshape(tuple(sizes_of.values())).transpose(order)
        groups = devices.reshape(-1, math.prod(sizes_of[name] for name in within)).tolist()
    else:
        groups = []
    return frozenset(map(frozenset, groups))
