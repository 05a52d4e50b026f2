"""Lines end at \\n, \\r\\n and \\r alone, in a text, a file and standard input; bytes are UTF-8 or else cp1252."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmath_jax.commands import predict
from cmath_jax.data.sources.plain_text import lines_of, numbered_lines, numbered_lines_of, read_text, text_of
from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.data.sources.transcripts import from_lines, read_transcripts, to_json
from cmath_jax.errors import InputError

# What `str.splitlines` takes for the end of a line, and what is none to people.
INSIDE = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
ENDS = ("\n", "\r\n", "\r")
FILES = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

pieces = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\ufeff") | st.sampled_from(INSIDE))
words = pieces.filter(lambda text: text == text.strip() and ":" not in text)
names = words.filter(lambda text: bool(text) and not text.startswith(("{", "[")))


class Slow(io.BytesIO):
    """One that has a byte at a time, as a terminal may."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return super().read1(1)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@FILES
@given(st.lists(st.tuples(pieces, st.sampled_from(ENDS))))
def test_a_text_and_a_file_have_the_same_lines(tmp_path: Path, lines: list[tuple[str, str]]) -> None:
    text = "".join(line + end for line, end in lines)
    # Between \r and \n there is no empty line, if one line ends so and the next is empty.
    expected = re.findall(r"([^\r\n]*)(?:\r\n|\r|\n)", text)
    path = write(tmp_path / "x", text)
    assert lines_of(text) == expected
    assert [*numbered_lines(path)] == [*enumerate(expected, start=1)]
    assert [*numbered_lines_of(Slow(text.encode()), "x")] == [*enumerate(expected, start=1)]
    assert lines_of(read_text(path)) == expected
    assert lines_of(text + "x") == [*expected, "x"]


@FILES
@given(st.lists(st.tuples(names, words, st.sampled_from(ENDS)), min_size=1))
def test_what_is_written_as_lines_is_read_again(tmp_path: Path, said: list[tuple[str, str, str]]) -> None:
    text = "".join(f"{speaker}: {words}{end}" for speaker, words, end in said)
    expected = [(speaker, words) for speaker, words, _ in said]
    for given_text in (text, read_text(write(tmp_path / "talk.txt", text))):
        assert [(u.speaker, u.text) for u in from_lines(given_text, "talk").utterances] == expected
    streams = [io.TextIOWrapper(io.BytesIO(text.encode())), io.TextIOWrapper(Slow(text.encode()))]
    for stream in (*streams, *(io.StringIO(text, newline=newline) for newline in ("", "\n", None))):
        (utterances,) = [[*c] for c in predict._conversations(predict._lines(stream))]
        assert [(u.speaker, u.text) for _, u in utterances] == expected


@FILES
@given(st.lists(st.tuples(pieces.filter(bool), pieces), min_size=1))
def test_what_is_written_as_json_is_read_again(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    transcripts = [Transcript(str(i), (Utterance(*one),), "test") for i, one in enumerate(said)]
    path = write(tmp_path / "conversations.jsonl", "".join(to_json(t) + ENDS[i % 3] for i, t in enumerate(transcripts)))
    assert [*read_transcripts(path)] == transcripts


@pytest.mark.parametrize("inside", INSIDE)
def test_a_separator_begins_no_utterance(inside: str) -> None:
    said = from_lines(f"Ann: Look{inside}note: it is late", "talk").utterances
    assert [(u.speaker, u.text) for u in said] == [("Ann", f"Look{inside}note: it is late")]


@pytest.mark.parametrize("end", ENDS)
def test_file_and_standard_input_agree_on_the_number_of_a_line(tmp_path: Path, end: str) -> None:
    text = f"\u2028 {end}{end}: no name{end}"
    for number, wrong in ((3, text), (1, text.split(end)[2])):
        with pytest.raises(InputError, match=f"^talk, line {number}: write it as SPEAKER: WORDS"):
            from_lines(read_text(write(tmp_path / "talk.txt", wrong)), "talk")
        stream = io.TextIOWrapper(io.BytesIO(wrong.encode()))
        with pytest.raises(InputError, match=f"^standard input, line {number}: write it as SPEAKER: WORDS"):
            [[*c] for c in predict._conversations(predict._lines(stream))]
    path = write(tmp_path / "c.jsonl", f"{end}{end}{json.dumps({'utterances': []})}")
    with pytest.raises(InputError, match=r"c\.jsonl, line 3, conversation '3': it is empty"):
        [*read_transcripts(path)]


def test_the_page_splits_as_all_else_does() -> None:
    source = (Path(predict.__file__).parents[1] / "serve" / "app.js").read_text(encoding="utf-8")
    assert r"pasted.split(/\r\n|\r|\n/)" in source


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfone\r\rthr\xc3\xa9e\nf\x92r")
    with pytest.raises(InputError, match=r"x\.txt, line 4: cannot be read as UTF-8 text: byte 2 is 0x92$"):
        read_text(tmp_path / "x.txt")
    stream = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfAnn: one\r\r\nf\x92r"))
    said = predict._conversations(predict._lines(stream))
    assert [u.text for _, u in next(said)] == ["one"]  # is heard before what is wrong comes
    with pytest.raises(InputError, match=r"^standard input, line 3: cannot be read as UTF-8 text: byte 2 is 0x92$"):
        next(said)
    (tmp_path / "x.txt").write_bytes("Ann: hi".encode("utf-16"))
    with pytest.raises(InputError, match=r"line 1: .* it is UTF-16: save it as UTF-8"):
        read_text(tmp_path / "x.txt")
    with pytest.raises(InputError, match=r"^there is no file .*none$"):
        read_text(tmp_path / "none")


@given(st.text())
def test_utf_8_is_read_as_such(text: str) -> None:
    assert text_of(text.encode()) == text


CP1252 = [bytes([b]).decode("cp1252") for b in range(256) if b not in b"\x81\x8d\x8f\x90\x9d"]


@given(st.text(st.sampled_from(CP1252)))
def test_what_is_not_utf_8_is_cp1252(text: str) -> None:
    data = text.encode("cp1252")
    try:
        data.decode()
    except UnicodeDecodeError:
        assert text_of(data) == text


@given(st.binary())
def test_any_bytes_are_some_text(data: bytes) -> None:
    text: Any = text_of(data)
    assert type(text) is str and text.encode().decode() == text


def test_the_bytes_that_cp1252_leaves_open_are_control_characters() -> None:
    assert text_of(b"\x81\x8d\x8f\x90\x9d\xe9") == "\x81\x8d\x8f\x90\x9d\u00e9"
