"""The page in a real browser: one can write, paste and ask, by mouse and by keyboard, and sees what the model says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsers
import pytest
import serve_samples as samples
from browsers import EMPTY_ICON

from cmath_jax.serve.limits import Limits

samples.skip_without_packages()
pytestmark = browsers.needed
DEVICES = [(1440, "light"), (1440, "dark"), (360, "light"), (360, "dark")]
HOSTILE = "<img src=x onerror=\"document.title='x'\">"
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
def model() -> samples.StandIn:
    return samples.StandIn()


@pytest.fixture(scope="module")
def url(model: samples.StandIn) -> Iterator[str]:
    with samples.served(model, Limits(utterances=40, characters=300)) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsers.chromium() as browser:
        yield browser


def opened(browser: Any, url: str, width: int = 1440, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page, and what goes wrong or goes out to others from now on."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    page.set_default_timeout(10_000)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith((url, EMPTY_ICON)) else wrong.append(sent.url))
    page.goto(url)
    return page, wrong


@pytest.fixture
def desk(browser: Any, url: str) -> Iterator[Any]:
    """The page on a desk, with which nothing may go wrong."""
    page, wrong = opened(browser, url)
    yield page
    page.close()
    assert wrong == []


def ask(page: Any) -> None:
    page.click("#predict")
    page.wait_for_selector(".result")


def labels(page: Any) -> list[str]:
    return list(page.eval_on_selector_all(".verdict .emotion", "all => all.map((one) => one.textContent)"))


def test_the_example_is_answered(desk: Any, model: samples.StandIn) -> None:
    lines = desk.locator(".line").count()
    assert lines > 5
    assert desk.is_hidden("#result")
    ask(desk)
    assert labels(desk)[1:4] == ["surprise", "neutral", "joy"]
    assert desk.locator(".result").count() == lines
    first = desk.locator(".result").nth(1)
    assert "No way! What did they say?" in first.inner_text()
    # Few draws may disagree where no emotion is probable: a reader shall not take that for certainty.
    assert re.search(r"doubt 62 %\s+draws that disagree: (\d|1\d) %", first.inner_text())
    assert "uncertainty" not in desk.inner_text("main").lower()
    for words in ("Doubt: ", "Draws that disagree: ", "Listened to: "):
        assert words in desk.inner_text("#legend")
    assert "listened to text 100 %" in first.inner_text()
    assert "without audio" in first.inner_text()
    assert first.locator(".shares div").count() == len(model.classes)
    shares = first.locator(".bar").evaluate_all(
        "all => all.map((bar) => parseFloat(bar.style.getPropertyValue('--share')))"
    )
    assert sum(shares) == pytest.approx(100, abs=0.1)
    grounds = first.locator(".bar").evaluate_all("all => all.map((bar) => getComputedStyle(bar).backgroundImage)")
    assert len(set(grounds)) == len(model.classes)


def test_one_can_ask_without_scrolling(desk: Any) -> None:
    assert desk.evaluate("document.getElementById('predict').getBoundingClientRect().bottom < window.innerHeight")
    assert desk.evaluate("document.getElementById('read-title').getBoundingClientRect().top < 0.4 * window.innerHeight")


def test_the_course_of_each_speaker_is_drawn(desk: Any, model: samples.StandIn) -> None:
    ask(desk)
    panels = desk.locator("#courses svg")
    assert [panel.get_attribute("aria-label").partition(":")[0] for panel in panels.all()] == ["Maya", "Ben"]
    ben = panels.nth(1)
    assert "line 4 joy" in ben.get_attribute("aria-label")
    own = desk.locator(".who", has_text="Ben").count()
    assert ben.locator("circle").count() == own
    assert ben.locator("rect").count() == own * len(model.classes)
    # Each dot lies at the height of its emotion.
    heights = ben.evaluate(
        "(svg) => [[...svg.querySelectorAll('text[text-anchor=end]')]"
        ".map((text) => [text.textContent, +text.getAttribute('y')]),"
        "[...svg.querySelectorAll('circle')].map((c) => +c.getAttribute('cy'))]"
    )
    named = {y - 4: name for name, y in heights[0]}
    assert [named[y] for y in heights[1]] == labels(desk)[1::2]
    opacities = ben.locator("rect").evaluate_all("all => all.map((cell) => +cell.getAttribute('fill-opacity'))")
    assert sum(opacities) == pytest.approx(own, abs=0.02)


def test_a_conversation_is_typed_with_the_keyboard_alone(desk: Any) -> None:
    desk.focus("#clear")
    desk.keyboard.press("Enter")
    assert desk.evaluate("document.activeElement.id") == "speaker-1"
    desk.keyboard.type("Ann")
    desk.keyboard.press("Tab")
    desk.keyboard.type("I am so happy")
    desk.keyboard.press("Enter")
    assert desk.evaluate("document.activeElement.id") == "text-2"
    desk.keyboard.type("I am scared")
    desk.keyboard.press("Shift+Tab")
    desk.keyboard.press("Shift+Tab")
    desk.focus("#speaker-2")
    desk.keyboard.type("Bob")
    desk.focus("#text-2")
    desk.keyboard.press("Enter")
    assert desk.input_value("#speaker-3") == "Ann"
    desk.keyboard.type("ugh")
    desk.keyboard.press("Control+Enter")
    desk.wait_for_selector(".result")
    assert labels(desk) == ["joy", "fear", "disgust"]
    assert desk.inner_text("#status") == "3 lines: 1 fear, 1 joy, 1 disgust."


def test_a_conversation_is_pasted(desk: Any) -> None:
    desk.click("#paste summary")
    desk.fill("#pasted", "Ann: happy: yes\r\n\r\n  and so\nBob : no way\n")
    desk.click("#use")
    assert desk.locator(".line").count() == 2
    assert desk.input_value("#text-1") == "happy: yes and so"
    assert desk.input_value("#speaker-2") == "Bob"
    ask(desk)
    assert labels(desk) == ["joy", "surprise"]
    desk.click("#paste summary")
    desk.fill("#pasted", "no speaker here")
    desk.click("#use")
    assert "Line 1 names no speaker" in desk.inner_text("#error")


def test_lines_come_and_go(desk: Any) -> None:
    desk.click("#clear")
    for _ in range(2):
        desk.click("[aria-label='Remove line 1']")
    assert desk.locator(".line").count() == 1
    desk.click("#add")
    assert desk.locator(".line").count() == 2
    assert desk.get_attribute(".line:nth-child(2) .remove", "aria-label") == "Remove line 2"
    desk.click("#example")
    assert desk.locator(".line").count() > 5


def test_it_says_what_is_missing(desk: Any) -> None:
    desk.click("#clear")
    desk.click("#predict")
    assert desk.inner_text("#error") == "Write a line first."
    desk.fill("#text-2", "hello")
    desk.click("#predict")
    assert desk.inner_text("#error") == "Line 2 has no speaker."
    assert desk.evaluate("document.activeElement.id") == "speaker-2"
    assert desk.get_attribute("#speaker-2", "aria-invalid") == "true"
    desk.fill("#speaker-2", "Ann")
    ask(desk)
    assert desk.is_hidden("#error")
    assert desk.get_attribute("#speaker-2", "aria-invalid") is None


def test_it_shows_what_the_server_refuses(browser: Any, url: str) -> None:
    page, wrong = opened(browser, url)
    page.click("#clear")
    page.fill("#speaker-2", "Ann")
    page.fill("#text-2", "poison")
    page.click("#predict")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == "Not done. Line 2: cannot be used"  # and not of utterance 0
    assert page.evaluate("document.activeElement.id") == "text-2"
    assert page.is_hidden("#result")
    # The browser itself notes an answer of 422, and nothing else went wrong.
    assert [text for text in wrong if "422" not in text] == []
    page.close()


def test_errors_and_warnings_name_the_line_and_the_file_as_they_are_known(
    browser: Any, url: str, tmp_path: Path
) -> None:
    """Though two lines have files of the same name, of different folders, and some lines are empty."""
    page, _ = opened(browser, url)
    names = ('my "holiday" é.wav', "cut.wav", "cut.wav")
    paths = [tmp_path / str(i) / name for i, name in enumerate(names)]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(samples.recording())
    page.click("#clear")
    page.click("#add")
    page.click("#add")
    for line, path in enumerate(paths, start=2):
        page.fill(f"#speaker-{line}", "Ann")
        page.fill(f"#text-{line}", "odd" if line != 3 else "so")
        page.set_input_files(f"#audio-{line}", path)
    ask(page)
    found = page.locator(".result").all()
    warned = [one.locator(".warnings li").all_inner_texts() for one in found]
    assert warned == [
        ['Line 2, my "holiday" é.wav: it is cut', "Line 2: the words are odd"],
        [],
        ["Line 4, cut.wav (2): it is cut", "Line 4: the words are odd"],
    ]
    assert [one.locator(".who").inner_text() for one in found] == ["2 · Ann", "3 · Ann", "4 · Ann"]
    assert page.locator("#courses .axis").all_text_contents() == ["2", "3", "4"]
    assert "There are warnings at 2 lines." in page.inner_text("#status")
    paths[1].write_bytes(b"no sound")
    page.set_input_files("#audio-3", paths[1])
    page.click("#predict")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error").startswith("Not done. Line 3, cut.wav, is no recording; send WAV")
    assert page.evaluate("document.activeElement.id") == "text-3"
    page.close()


@pytest.mark.parametrize("share", [0.0, 1 / 256])
def test_draws_are_not_spoken_of_where_every_line_would_say_0_percent(browser: Any, share: float) -> None:
    with samples.served(samples.StandIn(disagree=share), Limits()) as url:
        page, wrong = opened(browser, url)
        ask(page)
        assert "draws" not in page.inner_text("main").lower()
        assert "doubt 62 %" in page.inner_text(".result")
        assert wrong == []
        page.close()


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


def test_lines_end_where_all_programs_see_an_end(desk: Any) -> None:
    desk.click("#paste summary")
    desk.evaluate(
        "document.getElementById('pasted').value = 'Ann: Look\\u0085note: it is\\u2028late: so\\fx: y\\nBob: happy'"
    )
    desk.click("#use")
    assert desk.locator(".line").count() == 2
    assert desk.input_value("#speaker-2") == "Bob"


def test_a_server_that_is_gone(browser: Any, url: str) -> None:
    page, _ = opened(browser, url)
    page.context.set_offline(True)
    page.click("#predict")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == "The server cannot be reached."
    page.close()


def test_recordings_are_sent(desk: Any, tmp_path: Path, model: samples.StandIn) -> None:
    (tmp_path / "a b.wav").write_bytes(samples.recording())
    desk.click("#clear")
    desk.fill("#speaker-1", "Ann")
    desk.set_input_files("#audio-1", tmp_path / "a b.wav")
    assert "a b.wav" in desk.inner_text(".file:visible")
    desk.fill("#speaker-2", "Bob")
    desk.fill("#text-2", "happy")
    ask(desk)
    assert labels(desk) == ["neutral", "joy"]
    assert "without text" in desk.inner_text(".result:nth-child(1)")
    assert "audio 40 %" in desk.inner_text(".result:nth-child(1)")
    assert model.batches[-1][0].utterances[0].audio
    desk.click(".file:visible button")
    desk.fill("#text-1", "so")
    ask(desk)
    assert model.batches[-1][0].utterances[0].audio is None


def test_a_model_of_text_asks_for_no_recordings(browser: Any) -> None:
    with samples.served(samples.StandIn(raw="t", modalities="t"), Limits()) as url:
        page, wrong = opened(browser, url)
        assert page.locator("input[type=file]").count() == 0
        ask(page)
        assert wrong == []
        page.close()


def test_what_people_write_is_text(desk: Any) -> None:
    desk.click("#paste summary")
    desk.fill("#pasted", f"{HOSTILE}: {HOSTILE}\n</script><b>x: happy")
    desk.click("#use")
    ask(desk)
    assert HOSTILE in desk.inner_text(".result:nth-child(1) .who")
    assert HOSTILE in desk.inner_text(".result:nth-child(1) .said")
    assert desk.locator("main img, main b").count() == 0
    assert desk.title() == "Emotions in a conversation"
    assert desk.locator("#courses .speaker").first.text_content() == HOSTILE


def test_the_policy_holds(browser: Any, url: str) -> None:
    page, wrong = opened(browser, url)
    assert page.evaluate("fetch('https://example.org').then(() => 'sent', () => 'refused')") == "refused"
    assert any("Content Security Policy" in text for text in wrong)
    assert not any(text.startswith("https://") for text in wrong)
    page.close()


@pytest.mark.parametrize(("width", "scheme"), DEVICES)
def test_it_fits_and_can_be_read(browser: Any, url: str, width: int, scheme: str) -> None:
    page, wrong = opened(browser, url, width, scheme)
    page.click("#paste summary")
    page.click("#clear")
    page.click("#predict")  # shows an error
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    before = page.evaluate(CONTRASTS)
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


def test_it_tells_of_the_model(desk: Any) -> None:
    about = desk.inner_text("section.about >> nth=0")
    for words in ("It can be wrong", "decisions about people", "meld", "weighted F1 65.4 %", "none needed"):
        assert words in about
    assert desk.evaluate("fetch('openapi.json').then((answer) => answer.status)") == 200
    assert "api/predict" in desk.inner_text("#curl")
