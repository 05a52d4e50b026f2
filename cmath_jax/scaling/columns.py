"""The columns of the table of points that are compiled and not run, on the page and in the terminal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cmath_jax.scaling.figures import si

Numbers = Mapping[str, Any]
NOTHING = "–"  # where the compiler says nothing


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
      text: what stands in the row of a point, whose numbers are those of `compiled.compile_point`.
      brief: whether it is in the terminal too.
    """

    title: str
    text: Callable[[Numbers], str]
    brief: bool = True


def of_bytes(name: str) -> Callable[[Numbers], str]:
    """Returns the text of a number of bytes."""
    return lambda n: f"{si(n[name])}B"


def milliseconds(name: str) -> Callable[[Numbers], str]:
    """Returns the text of a time, in ms."""
    return lambda n: NOTHING if n[name] is None else f"{1e3 * n[name]:.3g}"


def kinds(n: Numbers) -> str:
    """Returns the exchanges of a step in words."""
    told = (f"{each['count']} {kind}, {si(each['bytes'])}B" for kind, each in n["collectives"].items())
    return "; ".join(told) or "none"


COLUMNS = (
    Column("engine", lambda n: n["engine"], brief=False),
    Column("devices", lambda n: str(n["devices"])),
    Column("runs", lambda n: str(n["members"])),
    Column("conversations", lambda n: f"{n['conversations']:.4g}", brief=False),
    Column("empty slots", lambda n: f"{100 * n['padding']:.0f} %", brief=False),
    Column("fits", lambda n: "yes" if n["fits"] else "no"),
    Column("memory", of_bytes("memory")),
    Column("arguments", of_bytes("argument"), brief=False),
    Column("temporary", of_bytes("temporary"), brief=False),
    Column("output", of_bytes("output"), brief=False),
    Column("FLOPs", lambda n: si(n["flops"])),
    Column("by compiler", lambda n: si(n["counted_flops"]) if n["counted_flops"] else NOTHING, brief=False),
    Column("exchanged", kinds),
    Column("tiles", lambda n: NOTHING if n["tile_padding"] is None else f"{100 * n['tile_padding']:.0f} %"),
    Column("cycles", lambda n: si(n["cycles"]) if n["cycles"] else NOTHING, brief=False),
    Column("estimate, ms", milliseconds("cycle_seconds")),
    Column("compute, ms", milliseconds("compute_seconds")),
    Column("memory, ms", milliseconds("memory_seconds")),
    Column("links, ms", milliseconds("interconnect_seconds")),
    Column("bound, ms", milliseconds("bound")),
    Column("bound by", lambda n: n["bound_by"]),
    Column("compiled in, s", lambda n: f"{n['compile_seconds']:.0f}", brief=False),
)
