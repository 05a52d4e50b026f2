"""The cost of the tiles of a TPU, read in the text of a program: padding of arrays, and cycles by its compiler.

A TPU keeps an array in tiles, of 8 x 128 numbers for the most part, and computes with whole ones. `T(8,128)` in the
layout of an array says so; the tile covers the axes that vary fastest.
"""

import math
import re

from cmath_jax.scaling.hlo import SIZES, of_step

_RESULT = re.compile(r"^\s+(?:ROOT )?%[\w.-]+ = (\(.*?\)|\S+) ([\w-]+)\(")
_ARRAY = re.compile(r"\b(\w+)\[([\d,]+)\]\{([\d,]+):T\(([\d,]+)\)")
UNKNOWN = 2**62  # libtpu writes the largest number that it has where it has no estimate
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_FREE = {"bitcast", "get-tuple-element", "parameter", "constant", "tuple"}  # write nothing


def tile_padding(text: str) -> float | None:
    """Returns the share of padding in the bytes that a step writes; None for a program without tiles."""
    filled = whole = 0
    for each in of_step(text):
        result = _RESULT.match(each.text)
        if result is None or result[2] in _FREE:
            continue
        for dtype, sizes, layout, tile in _ARRAY.findall(result[1]):
            shape, order, of_tile = ([int(x) for x in part.split(",")] for part in (sizes, layout, tile))
            fastest_first = [shape[axis] for axis in order]
            one = SIZES.get(dtype, 0) * each.times
            filled += one * math.prod(shape)
            whole += one * math.prod(_padded(fastest_first, of_tile[::-1]))
    return 1 - filled / whole if whole else None


def _padded(sizes: list[int], tile: list[int]) -> list[int]:
    """Returns the sizes of axes, the fastest first, as multiples of the tile, which has ones beyond its end."""
    return [-(-size // part) * part for size, part in zip(sizes, tile + [1] * len(sizes), strict=False)]


def estimated_cycles(text: str) -> int | None:
    """Sums what the compiler estimates of the fusions of a step; None where it says nothing, or not of all.

    It is a model's guess. What is not in it: exchanges between devices, copies between memories that are not hidden,
    kernels.
    """
    found = [(each.times, int(cycles)) for each in of_step(text) for cycles in _CYCLES.findall(each.text)]
    if not found or max(cycles for _, cycles in found) >= UNKNOWN:
        return None
    return sum(times * cycles for times, cycles in found)
