"""The table of a terminal: as wide as it is, whatever is said, and nothing of it is obeyed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmath_jax.prediction import terminal
from cmath_jax.prediction.terminal import cut, shown, table_lines, width_of

CLASSES = ("joy", "anger")


def row(utterance: int, text: str | None, speaker: str | int = "Ann", warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    said = {"conversation": "talk", "utterance": utterance, "speaker": speaker, "text": text}
    return said | {"label": "joy", "probabilities": {"joy": 0.734, "anger": 0.266}, "warnings": list(warnings)}


def test_a_table_is_easy_to_read() -> None:
    rows = [row(0, "You came!"), row(1, "Of course I did, and I have brought a cake with cherries.", 1), row(2, None)]
    assert [*table_lines(rows, CLASSES, 60)] == [
        "speaker       text                      emotion  probability",
        "",
        "talk",
        "Ann           You came!                 joy             0.73",
        "1             Of course I did, and I…   joy             0.73",
        "Ann                                     joy             0.73",
    ]


def test_a_warning_is_told_once_for_a_conversation() -> None:
    rows = [row(0, "a", warnings=("loud",)), row(1, "b", warnings=("loud", "odd")), row(0, "c", warnings=("loud",))]
    lines = [*table_lines(rows, CLASSES, 80)]
    assert [line for line in lines if "warning" in line] == ["  warning: loud", "  warning: odd", "  warning: loud"]
    assert lines.count("talk") == 2


@given(st.text(max_size=60), st.text(max_size=30), st.integers(60, 100))
def test_no_line_is_wider_than_the_terminal(text: str, speaker: str, width: int) -> None:
    for line in table_lines([row(0, text, speaker, (text,))], CLASSES, width):
        assert width_of(line) <= width
        assert line.isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("abc", "abc"), ("abcdefg", "abcd…"), ("ab   cdefg", "ab c…"), ("你好世界", "你好…"), ("", "")],
)
def test_what_is_cut(text: str, expected: str) -> None:
    assert cut(text, 5) == expected and width_of(expected) <= 5


def test_a_long_text_is_cut_as_fast_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    def counted(text: str) -> int:
        nonlocal looked_at
        looked_at += len(text)
        assert looked_at <= 10**6
        return width_of(text)

    monkeypatch.setattr(terminal, "width_of", counted)
    assert cut("a" * 10**5, 40) == "a" * 39 + "…"


def test_a_terminal_obeys_nothing() -> None:
    assert shown("\x1b[31mred\x07\r\nnext\u202e\u2028end") == "[31mred next end"
    assert width_of("e\u0301") == 1
