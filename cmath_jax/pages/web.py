"""Fills the templates of pages, and says how they look."""

from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cmath_jax.pages.drawing import css_variables


def fill(package: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """Returns the HTML of `page.html.j2` of a package. Whatever it shows is escaped; only our own drawings are not."""
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": lambda graphic: Markup(graphic.inline), **filters}
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    colours = {"light": Markup(css_variables(dark=False)), "dark": Markup(css_variables(dark=True))}
    return environment.get_template("page.html.j2").render(style=Markup(style), colours=colours, **values)
