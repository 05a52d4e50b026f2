"""Reads the text of an optimized program: its instructions, and how often a training step goes through each.

A program consists of computations, each a list of instructions, a line each. Of `train_steps` the one loop whose trips
are not known to the compiler is that over steps; an inner one, such as attention by chunks, says how often it goes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4} | {
    kind: 8 for kind in ("s64", "u64", "f64", "c64")
}  # bytes of a number; of none, such as those of tokens, there is nothing to count
_HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) .*\{$")
_CALLED = re.compile(
    r"(?:to_apply|branch_computations|(?:true|false)_computation|async_\w+)=\{?(%?[\w.-]+(?:, %?[\w.-]+)*)"
)
_CALLS = re.compile(r" (?:call|conditional|async-start)\(")
_BODY = re.compile(r" while\(.*body=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass(frozen=True)
class Instruction:
    """A line of a program.

    Attributes:
      text: the line.
      times: how often a step goes through it.
      in_loop: whether it is inside of a loop: of that over steps, or of one in a program without steps.
    """

    text: str
    times: int
    in_loop: bool


def instructions(text: str) -> Iterator[Instruction]:
    """Yields the instructions that are run, in the order of the program; not the parts of fusions."""
    computations, entry = _computations(text)
    yield from _walk(computations, entry, 1, False)


def of_step(text: str) -> list[Instruction]:
    """Returns the instructions of a step: those in loops, or all where there is no loop."""
    found = list(instructions(text))
    return [each for each in found if each.in_loop] or found


def _walk(computations: Mapping[str, Sequence[str]], name: str, times: int, in_loop: bool) -> Iterator[Instruction]:
    for line in computations.get(name, ()):
        yield Instruction(line, times, in_loop)
        if body := _BODY.search(line):
            trips = _TRIPS.search(line)
            yield from _walk(computations, body[1], times * (int(trips[1]) if trips else 1), True)
        elif _CALLS.search(line):
            for called in _CALLED.findall(line):
                for each in called.split(", "):
                    yield from _walk(computations, each.lstrip("%"), times, in_loop)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Returns the lines of each computation by its name, and the name of the one that the program begins with."""
    found: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if line.startswith(" "):
            lines.append(line)
        elif head := _HEAD.match(line):
            lines = found.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
    return found, entry
