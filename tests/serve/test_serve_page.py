"""The page in a real browser: one can write, paste and ask, by mouse and by keyboard, and sees what the model says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browsers
import pytest
import serve_samples as samples
from browsers import opened

from cmath_jax.serve.limits import Limits

samples.skip_without_packages()
pytestmark = browsers.needed
HOSTILE = "<img src=x onerror=\"document.title='x'\">"


@pytest.fixture(scope="module")
def model() -> samples.StandIn:
    return samples.StandIn()


@pytest.fixture(scope="module")
def url(model: samples.StandIn) -> Iterator[str]:
    with samples.served(model, Limits(utterances=40, characters=300)) as url:
        yield url


def ask(page: Any) -> None:
    # What an earlier question has left on the page is no answer to this one.
    page.evaluate("document.querySelectorAll('.result').forEach((one) => one.remove())")
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


def test_it_tells_of_the_model(desk: Any) -> None:
    about = desk.inner_text("section.about >> nth=0")
    for words in ("It can be wrong", "decisions about people", "meld", "weighted F1 65.4 %", "none needed"):
        assert words in about
    assert desk.evaluate("fetch('openapi.json').then((answer) => answer.status)") == 200
    assert "api/predict" in desk.inner_text("#curl")
