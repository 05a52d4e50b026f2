"""The role of an option: what it decides. It is metadata of the field: `learning_rate: float = option(2e-4, HYPER)`.

All comparisons of configs follow from the roles: `config.differences`, `structure`, `source_of`.
"""

from dataclasses import Field, field
from enum import Flag, auto
from typing import Any


class Role(Flag):
    """Parts of what an option decides; a role is put together of them.

    Attributes:
      NUMBERS: the numbers of a run; two runs of one folder agree in it.
      SIMULATED: the same, but of runs on the built-in corpus alone.
      RESULT: what a finished run holds, whose numbers stay as they are.
      PROGRAM: the compiled program; runs that share one agree in it.
      SWITCH: the compiled program too, but only by being 0 or not.
      CORPUS: which corpus is loaded; runs that share one, or a program, agree in it.
    """

    NUMBERS = auto()
    SIMULATED = auto()
    RESULT = auto()
    PROGRAM = auto()
    SWITCH = auto()
    CORPUS = auto()


FREE = Role(0)  # may differ between two runs of one folder: it changes no number beyond rounding
HYPER = Role.NUMBERS  # a number that is data of the compiled step
STRUCTURAL = Role.NUMBERS | Role.PROGRAM  # all else
SOURCE = STRUCTURAL | Role.CORPUS  # which data
PLACE = FREE | Role.CORPUS  # where the data lie; whether they are the same, their fingerprint tells


def option(default: Any, role: Role) -> Any:
    """Returns the field of an option; one that is made without this is `STRUCTURAL`."""
    return field(default=default, metadata=stated(role))


def stated(role: Role) -> dict[str, Role]:
    """Returns the metadata of a field; at a group of options, it is the role of those in it that state none."""
    return {"role": role}


def role_of(each: Field[Any], otherwise: Role) -> Role:
    """Returns the role that a field states, or else the other one."""
    role: Role = each.metadata.get("role", otherwise)
    return role
