"""The page in a real browser: it opens offline, is whole on a phone and on paper, and can be read in light and dark."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsers
import pytest
import report_samples as samples
from browsers import EMPTY_ICON

from cmath_jax.report import paper, write_report

pytestmark = browsers.needed
# The WCAG contrast of every text of the figures and of the page, with what lies behind it.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = light(numbers(getComputedStyle(document.body).backgroundColor));
  const found = [];
  for (const element of document.querySelectorAll(".over-page text, p, dt, dd, td, h1, h2, h3, figcaption")) {
    const style = getComputedStyle(element);
    const text = light(numbers(element.tagName === "text" ? style.fill : style.color));
    found.push((Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05));
  }
  return found;
}"""
# The texts of figures that reach beyond their figure.
OUTSIDE = """() => [...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const whole = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter((text) => {
    const box = text.getBoundingClientRect();
    const [left, right] = [box.left - whole.left, whole.right - box.right];
    return Math.min(left, right, box.top - whole.top, whole.bottom - box.bottom) < -2;
  }).map((text) => text.textContent);
})"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    split = samples.make_split(14, mean_length=12, hostile=True)
    samples.write_sweep(folder, split, failed={"wo_cma": "the loss is nan"}, collapsed=["v"])
    with pytest.MonkeyPatch.context() as patch:  # with the paper's columns the tables are widest
        patch.setitem(paper._numbers()["datasets"]["meld"], "test_utterances", int((split.label_n >= 0).sum()))
        return write_report([folder])


@pytest.fixture(params=[(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")], ids=lambda p: f"{p[0]}-{p[1]}")
def opened(request: pytest.FixtureRequest, browser: Any, page_file: Path) -> Iterator[tuple[Any, list[str]]]:
    """The page with all its folds open, and what went wrong or went out while it was opened."""
    width, scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request", lambda sent: wrong.append(sent.url) if sent.url not in (page_file.as_uri(), EMPTY_ICON) else None
    )
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    yield page, wrong
    page.close()


def test_it_is_whole(opened: tuple[Any, list[str]]) -> None:
    page, wrong = opened
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map((svg) => svg.getBoundingClientRect())"
        ".map((box) => [box.width, box.height])"
    )
    assert len(boxes) > 15
    assert all(width > 200 and height > 50 for width, height in boxes)
    # Nothing that was drawn lies outside of its figure.
    assert page.evaluate(OUTSIDE) == []


def test_it_can_be_read(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    # Texts on heat maps and on bars have a ground of their own.
    page.evaluate(
        "document.querySelectorAll('figure').forEach((figure) => figure.classList.toggle("
        "'over-page', !/^(confusion|gammas|gate)/.test(figure.id)))"
    )
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 500
    assert min(contrasts) >= 4.5
    assert browsers.barriers(page) == []


def test_it_can_be_found_one_s_way_in(opened: tuple[Any, list[str]]) -> None:
    page, _ = opened
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.evaluate("[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))")
    assert page.evaluate("[...document.querySelectorAll('th')].every((th) => th.scope)")
    assert page.evaluate(
        "[...document.querySelectorAll('table')].every((table) => table.caption || !table.tHead.rows[1])"
    )
    assert page.evaluate("[...document.querySelectorAll('figure svg')].every((svg) => svg.getAttribute('aria-label'))")
    assert page.evaluate("[...document.querySelectorAll('figure')].every((f) => f.querySelector('figcaption'))")


def test_dark_is_dark(browser: Any, page_file: Path) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(page_file.as_uri())
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.close()
    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}


def test_utterances_are_text(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    said = page.evaluate("[...document.querySelectorAll('.said')].map((said) => said.textContent)")
    assert any(text.startswith('<script>alert("x")</script> & $\\frac{$') for text in said)
    assert page.evaluate("document.scripts.length") == 0
    page.close()


@pytest.mark.parametrize("width", [320, 375])
def test_the_main_score_needs_no_scrolling_on_a_phone(browser: Any, page_file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    heads = page.evaluate(
        "[...document.querySelectorAll('.scores')].filter((t) => t.querySelector('.score'))"
        ".map((t) => t.tHead.rows[0].cells[1].textContent.trim())"
    )
    assert heads.count("Weighted F1") >= 5  # a table for each kind of section
    ends = page.evaluate(
        "[...document.querySelectorAll('.scores tbody tr')].map((row) => row.cells[1].querySelector('.score'))"
        ".filter(Boolean).map((score) => score.getBoundingClientRect().right)"
    )
    assert len(ends) > 30 and max(ends) <= width
    page.close()


def test_what_is_folded_is_open_on_paper(browser: Any, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 794, "height": 1123})
    page.goto(page_file.as_uri())
    shown = (
        "[...document.querySelectorAll('details')].map((fold) => "
        "[...fold.children].slice(1).every((child) => child.checkVisibility({contentVisibilityAuto: true}) "
        "&& child.getBoundingClientRect().height > 10))"
    )
    assert page.evaluate(shown).count(False) >= 9  # the conversations that go wrong, and more
    page.emulate_media(media="print")
    page.wait_for_function(f"{shown}.every((open) => open)")  # the browser opens them one frame later, or some
    page.close()


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext, of poppler-utils, is not installed")
@pytest.mark.parametrize("height", ["24cm", "25.4cm", "27cm", "29.7cm"])
def test_no_page_ends_with_a_heading(browser: Any, page_file: Path, height: str, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    headings = page.evaluate("[...document.querySelectorAll('h2, h3')].map((h) => h.textContent.trim())")
    intros = page.evaluate("[...document.querySelectorAll('.intro')].map((p) => p.textContent.replace(/\\s+/g, ' '))")
    page.pdf(path=tmp_path / "page.pdf", width="21cm", height=height)
    page.close()
    command = ["pdftotext", "-layout", str(tmp_path / "page.pdf"), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    sheets = [sheet.strip() for sheet in text.split("\f") if sheet.strip()]
    assert len(sheets) > 8 and "Where it goes wrong" in text
    for sheet in sheets[:-1]:
        last = " ".join(sheet.splitlines()[-1].split())
        assert last not in headings and not any(len(last) > 12 and last in intro for intro in intros), last


@pytest.mark.slow
def test_on_paper(browser: Any, page_file: Path) -> None:
    page = browser.new_page(viewport={"width": 794, "height": 1123}, color_scheme="dark")
    page.goto(page_file.as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(
        "[...document.querySelectorAll('*')].every((e) => !['sticky', 'fixed'].includes(getComputedStyle(e).position))"
    )
    assert page.evaluate(
        "[...document.querySelectorAll('figure')].every((f) => getComputedStyle(f).breakInside === 'avoid')"
    )
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
