"""Draws the figure of a study: six small pictures with the points along the same axis."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from cmath_jax.pages.drawing import BLUE, INK, MUTED, ORANGE, Graphic, canvas, drawn, finish

LOGARITHMIC_FROM = 4.0  # the ratio of the highest and the lowest value
PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """A curve of a picture.

    Attributes:
      value: what is drawn of each point.
      quartiles: the lower and the upper one, where there are any.
      limit: whether it is dashed, and not measured in itself.
    """

    value: Callable[[Numbers], float]
    quartiles: Callable[[Numbers], tuple[float, float]] | None = None
    limit: bool = False


@dataclass(frozen=True)
class Panel:
    """A small picture of the figure; with `from_zero` its axis is linear, whatever the values are."""

    title: str
    curves: tuple[Curve, ...]
    from_zero: bool = False


def si(value: float, digits: int = 3) -> str:
    """Returns a number with a prefix: 1234 as 1.23 k."""
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.{digits}g} {prefix}"
    return f"{value:.{digits}g}"


@dataclass(frozen=True)
class Drawing:
    """The pictures of a figure, and what is said of them.

    Attributes:
      columns: the numbers of its table.
      caption: the end of a sentence that begins with the title of the study.
      said: of a point, for whoever cannot see the figure.
    """

    panels: tuple[Panel, ...]
    columns: tuple[str, ...]
    caption: str
    said: Callable[[Numbers], str]


def measured_drawing(first: Numbers, over_devices: bool) -> Drawing:
    """Returns the drawing of what was measured; `first` is what others are compared with where devices are added."""
    throughput = [Curve(lambda n: n["throughput"], lambda n: (n["throughput_low"], n["throughput_high"]))]
    if over_devices:
        per_device = first["throughput"] / first["devices"]
        throughput.append(Curve(lambda n: per_device * n["devices"], limit=True))
    step = Curve(lambda n: 1e3 * n["step_median"], lambda n: (1e3 * n["step_low"], 1e3 * n["step_high"]))
    shown = (
        Panel("utterances/s" + (", dashed: in proportion" if over_devices else ""), tuple(throughput)),
        Panel("step, ms; dashed: roofline", (step, Curve(lambda n: 1e3 * n["bound"], limit=True))),
        Panel(
            "FLOP/s; dashed: plain product",
            (
                Curve(lambda n: n["achieved_flops"]),
                Curve(lambda n: n["product_rate"] * n["devices"], limit=True),
            ),
        ),
        Panel("share of the roofline, %", (Curve(lambda n: 100 * n["bound_share"]),), from_zero=True),
        Panel("memory of a device, bytes", (Curve(lambda n: n["memory"]),)),
        Panel("compilation, s", (Curve(lambda n: n["compile_seconds"]),), from_zero=True),
    )
    columns = ("throughput", "step_median", "bound", "achieved_flops", "product_rate", "bound_share", "memory")
    return Drawing(
        shown,
        (*columns, "compile_seconds"),
        "medians, and quartiles where a bar is seen",
        lambda n: f"{si(n['throughput'])} utterances/s",
    )


def compiled_drawing(first: Numbers) -> Drawing:
    """Returns the drawing of what was compiled and not run; `first` is any point of the study."""
    tiles = first["tile_padding"] is not None
    estimate = first["cycle_seconds"] is not None
    empty = [Curve(lambda n: 100 * n["tile_padding"])] if tiles else []
    last = (
        Panel("compiler's estimate, ms", (Curve(lambda n: 1e3 * n["cycle_seconds"]),), from_zero=True)
        if estimate
        else Panel("compilation, s", (Curve(lambda n: n["compile_seconds"]),), from_zero=True)
    )
    shown = (
        Panel("memory, bytes; dashed: quoted", _two("memory", "device_memory")),
        Panel("FLOPs of a device in a step", (Curve(lambda n: n["flops"]),), from_zero=True),
        Panel("bytes a device gets in a step", (Curve(exchanged),), from_zero=True),
        Panel("bound at quoted rates, ms", (Curve(lambda n: 1e3 * n["bound"]),), from_zero=True),
        Panel(
            "padding, %: " + ("tiles; dashed: slots" if tiles else "slots (dashed)"),
            (*empty, Curve(lambda n: 100 * n["padding"], limit=True)),
            from_zero=True,
        ),
        last,
    )
    columns = ("memory", "flops", "bound", "bound_by", "compute_seconds", "memory_seconds", "interconnect_seconds")
    return Drawing(
        shown,
        (*columns, "padding", "tile_padding", "cycle_seconds", "compile_seconds"),
        "what the compiler says, and bounds at quoted rates",
        lambda n: f"{si(n['memory'])}B on a device",
    )


def exchanged(n: Numbers) -> int:
    """Returns the bytes that a device gets in a step of a compiled program."""
    return sum(int(each["bytes"]) for each in n["collectives"].values())


def _two(name: str, limit: str) -> tuple[Curve, Curve]:
    return Curve(lambda n: n[name]), Curve(lambda n: n[limit], limit=True)


@drawn
def study_figure(
    name: str, title: str, axis: str, points: Mapping[str, Numbers], drawing: Drawing, note: str
) -> Graphic:
    """Draws every point of a study that has numbers.

    Args:
      points: name -> `Measurement.summary`, or `compiled.compile_point`.
      note: what must be said wherever the picture is shown; "" for nothing.
    """
    figure, axes_grid = canvas(10.0, 5.2, nrows=2, ncols=3)
    numeric = all(point.isdigit() for point in points)
    at = [float(point) if numeric else float(i) for i, point in enumerate(points)]
    for axes, panel in zip(axes_grid.flat, drawing.panels, strict=True):
        values = [_draw(axes, at, list(points.values()), curve, numeric) for curve in panel.curves]
        _draw_y_axis(axes, [value for curve in values for value in curve], numeric and not panel.from_zero)
        _draw_x_axis(axes, at, list(points), numeric)
        axes.set_title(panel.title)
    for axes in axes_grid[-1]:
        axes.set_xlabel(axis)
    if note:
        figure.suptitle(note, x=0.01, ha="left", fontsize=9, color=ORANGE)
    said = ", ".join(f"{point}: {drawing.said(numbers)}" for point, numbers in points.items())
    return finish(
        figure,
        name,
        f"{title}: {drawing.caption}." + (f" {note}." if note else ""),
        f"{title}. {note + '. ' if note else ''}{said}",
        [
            ["point", *drawing.columns],
            *([point, *(numbers[c] for c in drawing.columns)] for point, numbers in points.items()),
        ],
    )


def _draw(axes: Axes, at: Sequence[float], points: Sequence[Numbers], curve: Curve, numeric: bool) -> list[float]:
    values = [curve.value(numbers) for numbers in points]
    if curve.limit:
        dashes: dict[str, Any] = {"color": MUTED, "linestyle": (0, (4, 3)), "linewidth": 1.4}
        if numeric and len(at) > 1:
            axes.plot(at, values, **dashes)
        for x, value in zip(at, values, strict=True) if not numeric or len(at) == 1 else ():
            axes.plot([x - 0.3, x + 0.3], [value, value], **dashes)
        return values
    bars: dict[str, Any] = {}
    if curve.quartiles:
        quartiles = [curve.quartiles(numbers) for numbers in points]
        low = [value - q[0] for value, q in zip(values, quartiles, strict=True)]
        bars = {"yerr": [low, [q[1] - value for value, q in zip(values, quartiles, strict=True)]]}
    style: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 4.5, "capsize": 3, "ecolor": INK}
    axes.errorbar(at, values, linestyle="-" if numeric else "none", elinewidth=1.2, **style, **bars)
    return values


def _draw_x_axis(axes: Axes, at: Sequence[float], names: Sequence[str], numeric: bool) -> None:
    if numeric and len(at) > 1:
        axes.set_xscale("log", base=2)
    elif len(at) > 0:
        axes.set_xlim(min(at) - 0.6, max(at) + 0.6)
    axes.set_xticks(at, names)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=8)


def _draw_y_axis(axes: Axes, values: Sequence[float], may_be_logarithmic: bool) -> None:
    if may_be_logarithmic and max(values) > LOGARITHMIC_FROM * min(values):
        axes.set_yscale("log")
        few = math.log10(max(values) / min(values)) < 2.5
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, 1.12 * max(values) or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
    axes.tick_params(axis="y", labelsize=8)
