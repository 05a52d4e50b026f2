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


def panels(first: Numbers, over_devices: bool) -> list[Panel]:
    """Returns the six pictures; `first` is the point that others are compared with where devices are added."""
    throughput = [Curve(lambda n: n["throughput"], lambda n: (n["throughput_low"], n["throughput_high"]))]
    if over_devices:
        per_device = first["throughput"] / first["devices"]
        throughput.append(Curve(lambda n: per_device * n["devices"], limit=True))
    step = Curve(lambda n: 1e3 * n["step_median"], lambda n: (1e3 * n["step_low"], 1e3 * n["step_high"]))
    return [
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
    ]


@drawn
def study_figure(
    name: str, title: str, axis: str, points: Mapping[str, Numbers], over_devices: bool, note: str
) -> Graphic:
    """Draws every measured point of a study.

    Args:
      points: name -> `Measurement.summary`.
      over_devices: whether the points differ in their devices.
      note: what must be said wherever the picture is shown; "" for nothing.
    """
    figure, axes_grid = canvas(10.0, 5.2, nrows=2, ncols=3)
    numeric = all(point.isdigit() for point in points)
    at = [float(point) if numeric else float(i) for i, point in enumerate(points)]
    shown = panels(next(iter(points.values())), over_devices)
    for axes, panel in zip(axes_grid.flat, shown, strict=True):
        values = [_draw(axes, at, list(points.values()), curve, numeric) for curve in panel.curves]
        _draw_y_axis(axes, [value for curve in values for value in curve], numeric and not panel.from_zero)
        _draw_x_axis(axes, at, list(points), numeric)
        axes.set_title(panel.title)
    for axes in axes_grid[-1]:
        axes.set_xlabel(axis)
    if note:
        figure.suptitle(note, x=0.01, ha="left", fontsize=9, color=ORANGE)
    columns = ["throughput", "step_median", "bound", "achieved_flops", "product_rate", "bound_share"]
    columns += ["memory", "compile_seconds"]
    said = ", ".join(f"{point}: {si(numbers['throughput'])} utterances/s" for point, numbers in points.items())
    return finish(
        figure,
        name,
        f"{title}: medians, and quartiles where a bar is seen." + (f" {note}." if note else ""),
        f"{title}. {note + '. ' if note else ''}{said}",
        [["point", *columns], *([point, *(numbers[c] for c in columns)] for point, numbers in points.items())],
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
        axes.set_ylim(0, 1.12 * max(values))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value)))
    axes.tick_params(axis="y", labelsize=8)
