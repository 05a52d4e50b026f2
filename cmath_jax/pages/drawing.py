"""Draws figures in one style, for the page and for files.

A figure is drawn once, in the colours of the light page. In the page every colour becomes a CSS variable, so that the
same drawing follows the reader's light or dark setting; the file beside the page keeps the colours and is white behind.
"""

import functools
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar
from xml.etree import ElementTree

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

# Name of the CSS variable -> its colour on a light and on a dark page. The hues were moved apart until those of one
# data set differ by 0.085 or more in OKLab, for eyes without red, green or blue cones too.
COLOURS = {
    "page": ("#ffffff", "#14171c"),
    "ink": ("#1c2128", "#e4e8ee"),
    "muted": ("#626b78", "#9aa4b2"),
    "line": ("#dde1e7", "#333a45"),
    "night": ("#15181d", "#15181d"),
    "grey": ("#8b929c", "#8f98a5"),
    "yellow": ("#d4ae0c", "#f0db55"),
    "cyan": ("#38b4e7", "#9ad6ef"),
    "red": ("#ca3c53", "#ed5d67"),
    "blue": ("#1461de", "#5d84ef"),
    "green": ("#267307", "#50cf93"),
    "purple": ("#8f3fa8", "#cb98f3"),
    "orange": ("#d87821", "#ff9d4a"),
}
INK, MUTED, LINE, PAGE, NIGHT = (COLOURS[name][0] for name in ("ink", "muted", "line", "page", "night"))
BLUE, ORANGE, GREEN = (COLOURS[name][0] for name in ("blue", "orange", "green"))
HUES = ("blue", "orange", "green", "purple", "cyan", "red", "yellow", "grey")
FEELING = {
    "neutral": "grey",
    "joy": "yellow",
    "happy": "yellow",
    "happiness": "yellow",
    "sadness": "blue",
    "sad": "blue",
    "anger": "red",
    "angry": "red",
    "fear": "purple",
    "frustrated": "purple",
    "frustration": "purple",
    "disgust": "green",
    "surprise": "cyan",
    "excited": "orange",
    "excitement": "orange",
}
MODALITY_COLOURS = {"t": (BLUE, PAGE), "a": (ORANGE, NIGHT), "v": (GREEN, PAGE)}  # of a bar, and of a text on it
HEAT_LEVELS = 40
DARK_FROM = 0.5  # the share of a heat map's range from which its cells are dark on a light page
WIDTH = 4.2  # inches; on a phone still large enough to read
LONGEST_LABEL = 16

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cmath_jax",
    "path.simplify": False,
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.prop_cycle": cycler(color=[INK]),
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
Given = ParamSpec("Given")
Drawing = TypeVar("Drawing")
_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"


def heat(share: float) -> str:
    """Returns the colour of a heat map's cell on a light page; `share` is in [0, 1]."""
    return _heat(round(HEAT_LEVELS * min(max(share, 0.0), 1.0)), dark=False)


def on_heat(share: float) -> str:
    """Returns the colour of a text on such a cell."""
    return PAGE if share > DARK_FROM else INK


def emotion_colours(classes: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each emotion: by custom where there is one, else a free one; they repeat if none is left."""
    chosen = {name: FEELING[name.lower()] for name in classes if name.lower() in FEELING}
    free = [hue for hue in HUES if hue not in chosen.values()] or list(HUES)
    others = [name for name in classes if name not in chosen]
    chosen |= {name: free[i % len(free)] for i, name in enumerate(others)}
    return {name: COLOURS[chosen[name]][0] for name in classes}


def css_variables(dark: bool) -> str:
    """Returns the CSS variables of a light or a dark page, as `--ink:#1c2128;...`."""
    named = {name: pair[dark] for name, pair in COLOURS.items()}
    levels = {f"heat{level}": _heat(level, dark) for level in range(HEAT_LEVELS + 1)}
    return "".join(f"--{name}:{colour};" for name, colour in {**named, **levels}.items())


def css_variable(colour: str) -> str:
    """Returns the CSS variable of a colour of the light page, as `var(--ink)`."""
    return f"var(--{_VARIABLES[colour]})"


def short(label: str) -> str:
    """Returns a label that leaves room for the figure."""
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"


@dataclass(frozen=True)
class Graphic:
    """A figure of the page.

    Attributes:
      name: of its files.
      alt: what a reader who cannot see it has to know.
      inline: SVG for the page, without a size of its own.
      svg: SVG for a file.
      data: header and rows of what is drawn.
    """

    name: str
    caption: str
    alt: str
    inline: str
    svg: str
    data: Sequence[Sequence[Any]]


def drawn(draw: Callable[Given, Drawing]) -> Callable[Given, Drawing]:
    """Returns a function that draws in the style of the report."""

    @functools.wraps(draw)
    def styled(*args: Given.args, **kwargs: Given.kwargs) -> Drawing:
        with mpl.rc_context(_SETTINGS):
            return draw(*args, **kwargs)

    return styled


def canvas(width: float = WIDTH, height: float = 3.0, **grid: Any) -> tuple[Figure, Any]:
    """Returns a figure and its axes (an array for a grid of several)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def finish(figure: Figure, name: str, caption: str, alt: str, data: Sequence[Sequence[Any]]) -> Graphic:
    """Returns the drawing in its two forms."""
    written = io.BytesIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with warnings.catch_warnings():
        # The reader's browser has the fonts; that ours lacks a glyph says nothing.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        figure.savefig(written, format="svg", metadata=nothing)
    return Graphic(
        name=name,
        caption=caption,
        alt=alt,
        inline=_serialized(written.getvalue(), name, alt, for_page=True),
        svg=_serialized(written.getvalue(), name, alt, for_page=False),
        data=data,
    )


def dots(axes: Axes, x_n: Sequence[float], y_n: Sequence[float], colour: str, size: float) -> None:
    """Draws round dots as one path: a tenth of the bytes of as many markers."""
    points = [point for point in zip(x_n, y_n, strict=True) for _ in range(2)]
    path = Outline(points, [Outline.MOVETO, Outline.LINETO] * len(x_n))
    # Lines without a length, of which only the round ends are seen.
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=size, capstyle="round", alpha=0.85))


def seed_dots(axes: Axes, values: Sequence[float], y: float) -> None:
    """Draws a small dot for each seed on a bar, if there are two."""
    if len(values) > 1:
        style: dict[str, Any] = {"color": PAGE, "markeredgecolor": INK, "markersize": 3.4, "mew": 0.8}
        axes.plot(values, [y] * len(values), "o", clip_on=False, **style)


def bare(axes: Axes) -> None:
    """Takes the frame and the grid away."""
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _heat(level: int, dark: bool) -> str:
    # Magma is perceptually uniform; light means little on a light page, and much on a dark one.
    share = 0.98 - 0.80 * level / HEAT_LEVELS if not dark else 0.16 + 0.78 * level / HEAT_LEVELS
    return to_hex(mpl.colormaps["magma"](share))


_VARIABLES = {pair[0]: name for name, pair in COLOURS.items()} | {
    _heat(level, dark=False): f"heat{level}" for level in range(HEAT_LEVELS + 1)
}


def _serialized(written: bytes, name: str, alt: str, for_page: bool) -> str:
    root = ElementTree.fromstring(written)
    _drop_unneeded(root)
    used = set(re.findall(rb"#([\w-]+)[\")]", written))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        identity = element.attrib.pop("id", "")
        if identity.encode() in used:
            element.set("id", f"{name}-{identity}")
        if _LINK in element.attrib:
            element.set("href", f"#{name}-" + element.attrib.pop(_LINK).removeprefix("#"))
        for key, value in element.attrib.items():
            if key in ("d", "x", "y", "points", "transform"):
                value = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)
                value = re.sub(r"\s*\n\s*", "", value)
            value = value.replace("url(#", f"url(#{name}-")
            if for_page and key in ("style", "fill", "stroke"):
                value = re.sub(r"#[0-9a-f]{6}", lambda colour: css_variable(colour[0]), value)
            element.set(key, value)
    root.attrib |= {"role": "img", "aria-label": alt}
    root.attrib.pop("version", None)
    if for_page:
        del root.attrib["width"], root.attrib["height"]
    else:
        root.set("xmlns", _SVG)
        root.insert(0, ElementTree.Element("rect", {"width": "100%", "height": "100%", "fill": PAGE}))
    return ElementTree.tostring(root, encoding="unicode")


def _drop_unneeded(root: ElementTree.Element) -> None:
    """Removes metadata and the style sheet, which would hold for all of a page; its two rules become attributes."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
