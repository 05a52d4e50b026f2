"""Writes the report of scaling studies from `result.json` alone: a table, figures, an HTML page that opens offline."""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cmath_jax.errors import doing
from cmath_jax.io.tables import text_table
from cmath_jax.io.whole import write_whole
from cmath_jax.pages.drawing import Graphic
from cmath_jax.pages.web import fill
from cmath_jax.scaling.columns import COLUMNS
from cmath_jax.scaling.datasheets import SHEETS, Sheet, name_of
from cmath_jax.scaling.figures import compiled_drawing, measured_drawing, si, study_figure

# Kind of a study -> its title, its axis, and what a reader has to know.
TITLES = {
    "devices_strong": ("Devices, strong scaling", "devices", "The same batch on more and more devices."),
    "devices_weak": (
        "Devices, weak scaling",
        "devices",
        "A batch that grows with them: each has the same work.",
    ),
    "engine": ("Engine", "engine", "The same step on all devices at hand; one device where there is one."),
    "width": ("Width of the model", "width", "One device. Work grows with the square of the width."),
    "batch": ("Conversations in a step", "conversations in a step", "One device."),
    "length": (
        "Length of a conversation",
        "utterances in a conversation",
        "One device, one conversation in a step. Attention compares every utterance with every other.",
    ),
    "population": ("Population", "runs side by side", "One device, runs with different seeds as one trainer."),
    "precision": ("Precision", "precision of the computation", "Parameters, losses and the update are float32."),
}
COMPILED_TITLES = {
    "division": (
        "One run on all devices, or several",
        "runs side by side",
        "The same devices and conversations a step of each run: its rows dealt out over all of them, or fewer.",
    ),
    "tiles": (
        "Width and heads in tiles",
        "width of the model . width of a head",
        "A TPU computes with whole tiles of 128: a head of 40 takes the room of one of 128.",
    ),
}
OVER_DEVICES = ("devices_strong", "devices_weak")
SIMULATED = "Simulated devices: parts of one processor, no statement about speed"
LISTED = ("step_seconds",)


@dataclass(frozen=True)
class StudyView:
    """A study as the page shows it.

    Attributes:
      measured: point -> `Measurement.summary`, or `compiled.compile_point`.
      efficiency: point -> utterances/s per device over those of the first point, where devices are added.
      missing: point -> why it has no numbers.
    """

    kind: str
    title: str
    intro: str
    measured: Mapping[str, Mapping[str, Any]]
    efficiency: Mapping[str, float]
    missing: Mapping[str, str]
    graphic: Graphic | None


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Writes `scaling.csv`, `figures/` and `report.html` into the folder. Returns the path of the page."""
    shown = views(result)
    figures = folder / "figures"
    with doing("writing", figures):
        figures.mkdir(parents=True, exist_ok=True)
    for view in shown:
        if view.graphic:
            write_whole(figures / f"{view.graphic.name}.svg", view.graphic.svg)
    write_whole(folder / "scaling.csv", table(result))
    page = folder / "report.html"
    write_whole(page, render(result, shown))
    return page


def views(result: Mapping[str, Any]) -> list[StudyView]:
    """Returns the studies in their order."""
    return [_view(study, note(result), compiled_for(result) != "") for study in result["studies"]]


def compiled_for(result: Mapping[str, Any]) -> str:
    """Returns the devices that the points were compiled for and not run; "" where they were measured."""
    target: str = result["environment"].get("compile_for", "")
    return target


def note(result: Mapping[str, Any]) -> str:
    """Returns what must be said wherever a number is shown; "" where numbers are measured on real devices."""
    if target := compiled_for(result):
        return f"Compiled for {target}, not run; rates are quoted from data sheets"
    return SIMULATED if result["environment"]["simulated"] else ""


def table(result: Mapping[str, Any]) -> str:
    """Returns all numbers as CSV: a line for each point of each study."""
    points = [(study["kind"], name, point) for study in result["studies"] for name, point in study["points"].items()]
    columns = list(dict.fromkeys(column for _, _, point in points for column in point.get("numbers", {})))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "point", "status", "reason", "simulated_devices", "date", *columns])
    simulated = str(result["environment"]["simulated"]).lower()
    for kind, name, point in points:
        numbers = {
            column: " ".join(map(str, value)) if column in LISTED else value
            for column, value in point.get("numbers", {}).items()
        }
        facts = [kind, name, point["status"], point.get("reason", ""), simulated, point.get("date", "")]
        writer.writerow([*facts, *(numbers.get(column, "") for column in columns)])
    return text.getvalue()


def readable(result: Mapping[str, Any]) -> str:
    """Returns the main numbers for the terminal."""
    if compiled_for(result):
        return _readable_compiled(result)
    lines = [f"on {devices(result['environment'])}"]
    if result["environment"]["simulated"]:
        lines.append(result["warning"])
    for view in views(result):
        lines.append(
            f"{view.title:<26}{'utterances/s':>14}{'step, ms':>12}{'quartiles':>22}{'FLOP/s':>10}{'of peak':>9}"
            f"{'of roofline':>13}{'memory':>10}{'compiled':>10}"
        )
        for point, n in view.measured.items():
            quartiles = f"{1e3 * n['step_low']:.2f} to {1e3 * n['step_high']:.2f}"
            lines.append(
                f"  {point:<24}{n['throughput']:>14.0f}{1e3 * n['step_median']:>12.2f}{quartiles:>22}"
                f"{si(n['achieved_flops']):>10}{100 * n['peak_share']:>7.0f} %{100 * n['bound_share']:>11.0f} %"
                f"{si(n['memory']) + 'B':>10}{n['compile_seconds']:>8.1f} s"
            )
        lines += [f"  {point:<24}{reason.splitlines()[0]}" for point, reason in view.missing.items()]
    return "\n".join(lines)


def _readable_compiled(result: Mapping[str, Any]) -> str:
    lines, columns = [note(result)], [column for column in COLUMNS if column.brief]
    for view in views(result):
        head = [f"{view.title:<32}", *(column.title for column in columns)]
        rows = [[f"  {point}", *(column.text(n) for column in columns)] for point, n in view.measured.items()]
        lines += text_table([head, *rows])
        lines += [f"  {point:<32}{reason}" for point, reason in view.missing.items()]
    return "\n".join(lines)


def render(result: Mapping[str, Any], shown: list[StudyView]) -> str:
    """Returns the HTML of the whole page."""
    return fill(
        "cmath_jax.scaling",
        {"si": si},
        result=result,
        views=shown,
        devices=devices(result["environment"]),
        peaks={} if compiled_for(result) else peaks(result),
        quoted=quoted(result["environment"]),
        dates=dates(result),
        simulated=SIMULATED if result["environment"]["simulated"] else "",
        compiled=note(result) if compiled_for(result) else "",
        columns=COLUMNS,
    )


def quoted(environment: Mapping[str, Any]) -> Sheet | None:
    """Returns the data sheet of the devices; None for a kind that there is none of."""
    name = name_of(environment["devices"][0])
    return None if name is None else SHEETS[name]


def devices(environment: Mapping[str, Any]) -> str:
    """Returns the devices in words, as `8 x NVIDIA H200`."""
    kinds = environment["devices"]
    counted = [f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds)]
    return ", ".join(counted) + (" (simulated devices)" if environment["simulated"] else "")


def peaks(result: Mapping[str, Any]) -> dict[str, float]:
    """Returns the rates of a device, medians over all points: products of each precision, FLOP/s; copies, bytes/s."""
    rates: dict[str, list[float]] = {}
    for study in result["studies"]:
        for point in study["points"].values():
            if numbers := point.get("numbers"):
                precision = point["options"].get("precision", result["config"]["precision"])
                rates.setdefault(precision, []).append(numbers["product_rate"])
                rates.setdefault("copy", []).append(numbers["copy_rate"])
    return {name: float(np.median(values)) for name, values in rates.items()}


def dates(result: Mapping[str, Any]) -> str:
    """Returns when the points were measured: the first and the last."""
    found = sorted(p["date"] for study in result["studies"] for p in study["points"].values() if "date" in p)
    return " to ".join(dict.fromkeys([found[0], found[-1]])) if found else ""


def growth(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a sentence on how time and memory grow with the length, between the two longest conversations."""
    if len(measured) < 2:
        return ""
    (short, before), (long, after) = list(measured.items())[-2:]
    factor = int(long) / int(short)
    power = {what: math.log(after[what] / before[what], factor) for what in ("memory", "step_median")}
    return (
        f"From {short} to {long} utterances memory grows with the length to the power of {power['memory']:.2f}, time "
        f"to the power of {power['step_median']:.2f}."
    )


def _view(study: Mapping[str, Any], note: str, compiled: bool) -> StudyView:
    kind = study["kind"]
    title, axis, intro = (TITLES | COMPILED_TITLES).get(kind, (kind, kind, ""))
    measured = {name: point["numbers"] for name, point in study["points"].items() if "numbers" in point}
    missing = {
        name: f"{point['status']}: {point['reason']}"
        for name, point in study["points"].items()
        if "numbers" not in point
    }
    over_devices = kind in OVER_DEVICES and not compiled
    first_point: Mapping[str, Any] = next(iter(measured.values()), {})
    drawing = compiled_drawing if compiled else partial(measured_drawing, over_devices=over_devices)
    per_device = {n: numbers["throughput"] / numbers["devices"] for n, numbers in measured.items() if over_devices}
    first = next(iter(per_device.values()), math.nan)
    alone = "One point was measured: nothing to compare." if over_devices and len(measured) == 1 else ""
    return StudyView(
        kind=kind,
        title=title,
        intro=" ".join(filter(None, [intro, growth(measured) if kind == "length" and not compiled else "", alone])),
        measured=measured,
        efficiency={name: value / first for name, value in per_device.items()},
        missing=missing,
        graphic=study_figure(kind, title, axis, measured, drawing(first_point), note) if len(measured) > 1 else None,
    )
