"""Splits sweeps over machines: `--shard I/N` trains part I of the N parts of an experiment.

A part is a sweep of some of the points, in a folder of its own, and knows what it is a part of; parts share no file.
`python -m cmath_jax.report DIR/part-*` merges them.
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cmath_jax.config import Config, structure
from cmath_jax.errors import InputError
from cmath_jax.sweeps.experiment import Experiment


@dataclass(frozen=True)
class Shard:
    """Part `index`, counted from 0, of `parts`."""

    index: int
    parts: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Returns the part of a text. Raises InputError for anything but I/N with 0 <= I < N."""
        numbers = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        shard = cls(*map(int, numbers.groups())) if numbers else cls(0, 0)
        if not shard.index < shard.parts:
            raise InputError(
                f"--shard {text!r} is not I/N with 0 <= I < N; the first of 8 parts is 0/8, the last of them 7/8"
            )
        return shard

    @property
    def folder(self) -> str:
        return f"part-{self.index}-of-{self.parts}"

    def of(self, experiment: Experiment) -> Experiment:
        """Returns the points of the runs that are of this part; without sections, if there are fewer runs than parts.

        Raises:
          InputError: for an experiment that has no sweep, is a part already, or is to be trained by several processes.
        """
        if not experiment.sections:
            raise InputError("--shard splits the points of a sweep, and this experiment has none: it is a single run")
        if experiment.whole:
            raise InputError("--shard: this experiment is a part of a sweep already; it runs again without --shard")
        if experiment.config.parallel.distributed:
            raise InputError("--shard and parallel.distributed=true do not go together: a part is for one process")
        dealt = deal(dict(experiment.runs.values()), self.parts)
        names = dealt[self.index] if self.index < len(dealt) else []
        kept = [
            replace(
                section,
                points={p: o for p, o in section.points.items() if experiment.runs[section.kind, p][0] in names},
            )
            for section in experiment.sections
        ]
        return replace(experiment, sections=tuple(s for s in kept if s.points), whole=experiment.sections)


def deal(runs: Mapping[str, Config], parts: int) -> list[list[str]]:
    """Returns the names of runs, dealt out into parts of equally many seeds; into fewer, if there are fewer runs.

    The runs of one structure share a compilation. They are beside each other when the runs are cut into parts, which
    differ by one run at most where all have as many seeds; N parts compile at most N - 1 programs more than one would.
    """
    groups: dict[Config, list[str]] = {}
    for name, config in runs.items():
        groups.setdefault(structure(config), []).append(name)
    group_of = {name: group for group, names in enumerate(groups.values()) for name in names}
    left = deque(group_of)
    dealt: list[list[str]] = []
    while left:
        fair = sum(runs[name].seeds for name in left) / (parts - len(dealt))
        part: list[str] = []
        load = 0
        while left:
            # More than its share only of runs that share a compilation with those that it has.
            same = not part or group_of[left[0]] == group_of[part[-1]]
            full = load >= fair if same else load + runs[left[0]].seeds > fair
            if full:
                break
            part.append(left.popleft())
            load += runs[part[-1]].seeds
        dealt.append(part)
    return dealt
