"""The page in a real browser, as it is seen: what fits, what can be read, and by whom."""

from collections.abc import Iterator
from typing import Any

import browsers
import pytest
import serve_samples as samples
from browsers import opened

from cmath_jax.serve.limits import Limits

samples.skip_without_packages()

pytestmark = browsers.needed
DEVICES = [(1440, "light"), (1440, "dark"), (360, "light"), (360, "dark")]
# The WCAG contrast of every text that can be seen, with the first ground behind it that is not transparent.
CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => {
    const [r, g, b] = rgba(colour).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const colour = element ? getComputedStyle(element).backgroundColor : "white";
    return rgba(colour)[3] ? light(colour) : ground(element.parentElement);
  };
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const box = element.getBoundingClientRect();
    if (!(own(element) || element.value) || !box.width || box.width === 1 || element.closest("script")) continue;
    const style = getComputedStyle(element);
    const text = light(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const behind = ground(element);
    found.push([(Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05), element.outerHTML.slice(0, 80)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with samples.served(samples.StandIn(), Limits(utterances=40, characters=300)) as url:
        yield url


def ask(page: Any) -> None:
    page.click("#predict")
    page.wait_for_selector(".result")


def test_one_can_ask_without_scrolling(desk: Any) -> None:
    assert desk.evaluate("document.getElementById('predict').getBoundingClientRect().bottom < window.innerHeight")
    assert desk.evaluate("document.getElementById('read-title').getBoundingClientRect().top < 0.4 * window.innerHeight")


@pytest.mark.parametrize("width", [1440, 360])
@pytest.mark.parametrize("speakers", [1, 3, 4, 12])
def test_however_many_speak_the_lines_are_near(browser: Any, url: str, width: int, speakers: int) -> None:
    """The courses of many are folded; names are shown in full, and the words are explained before they are used."""
    page, wrong = opened(browser, url, width)
    long = "Bartholomew of the Seven Very Distant and Mostly Uninhabited Islands"
    names = [f"{long} {i}" if i % 2 else "B" + 80 * chr(97 + i) for i in range(speakers)]
    page.click("#paste summary")
    page.fill("#pasted", "\n".join(f"{names[i % speakers]}: so it is" for i in range(24)))
    page.click("#use")
    ask(page)
    assert page.get_attribute("#course", "open") == ("" if speakers <= 3 else None)
    top = "document.querySelector('{}').getBoundingClientRect().top"
    if speakers > 3:
        assert page.evaluate(top.format(".result") + "-" + top.format("#read-title")) < 450
        page.click("#course-title")
    assert page.evaluate(top.format("#legend")) < page.evaluate(top.format(".verdict"))
    page.wait_for_selector("#courses svg")
    assert page.locator("#courses .speaker").all_inner_texts() == names
    cut = """() => [...document.querySelectorAll("#courses .speaker, .who")].filter((one) =>
      one.scrollWidth > one.clientWidth + 1 || one.getBoundingClientRect().right > window.innerWidth).length"""
    assert page.evaluate(cut) == 0
    page.evaluate("document.getElementById('courses').scrollLeft = 10000")
    page.focus("#courses")  # whoever has no mouse can scroll it, too
    assert page.evaluate("document.activeElement.id") == "courses"
    assert page.evaluate("document.querySelector('#courses .speaker').getBoundingClientRect().left >= 0")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert wrong == []
    page.close()


@pytest.mark.parametrize(("width", "scheme"), DEVICES)
def test_it_fits_and_can_be_read(browser: Any, url: str, width: int, scheme: str) -> None:
    page, wrong = opened(browser, url, width, scheme)
    page.click("#paste summary")
    page.click("#clear")
    page.click("#predict")  # shows an error
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    before = page.evaluate(CONTRASTS)
    assert browsers.barriers(page) == []
    assert page.evaluate(fits)
    page.fill(
        "#pasted", "\n".join(f"{'Ann' if i % 2 else 'Bartholomew' * 4}: {'happy' * (1 + i % 9)}" for i in range(40))
    )
    page.click("#use")
    ask(page)
    after = page.evaluate(CONTRASTS)
    assert page.evaluate(fits)
    assert min(before + after) >= [4.5], min(before + after)
    assert len(after) > 500
    assert browsers.barriers(page) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    assert dark == (scheme == "dark")
    if width < 500:
        # The answer is where one looks, and fingers are large.
        assert page.evaluate("document.getElementById('read-title').getBoundingClientRect().top < 361")
        heights = page.locator("button:visible").evaluate_all("all => all.map((b) => b.getBoundingClientRect().height)")
        assert min(heights) >= 24
    assert wrong == []
    page.close()


def test_it_can_be_used_without_eyes(desk: Any) -> None:
    ask(desk)
    nameless = """() => [...document.querySelectorAll("input, textarea, button")].filter((field) =>
      !(field.labels?.[0]?.textContent.trim() || field.getAttribute("aria-label") || field.textContent.trim())
    ).map((field) => field.outerHTML)"""
    assert desk.evaluate(nameless) == []
    assert desk.locator("h1").count() == 1
    assert desk.get_attribute("#status", "role") == "status"
    assert desk.get_attribute("#error", "role") == "alert"
    assert desk.evaluate("[...document.querySelectorAll('section')].every((s) => s.getAttribute('aria-labelledby'))")
    assert desk.evaluate("document.documentElement.lang") == "en"
    # Every field can be reached, and shows that it has been.
    desk.focus("#speaker-1")
    seen = set()
    for _ in range(4):
        seen.add(desk.evaluate("document.activeElement.id || document.activeElement.className"))
        desk.keyboard.press("Tab")
    assert seen == {"speaker-1", "text-1", "audio-1", "remove"}
