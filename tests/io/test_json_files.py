"""Files of JSON: absent, unreadable and damaged ones are told apart; what is written is read as it was."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmath_jax.errors import InputError, readable
from cmath_jax.io.files import unreadable
from cmath_jax.io.json_files import (
    append_line,
    read_json,
    read_lines,
    read_object,
    read_whole_lines,
    write_json,
    write_lines,
)

text = st.text(st.characters(codec="utf-8"))
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=10)
rows = st.lists(st.dictionaries(text, plain, max_size=3), min_size=1, max_size=3)


@settings(deadline=None)
@given(values)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.json"
        write_json(path, value)
        assert read_json(path) == value
        assert path.read_bytes().decode() == json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@settings(deadline=None)
@given(rows, rows, st.data())
def test_a_row_that_is_torn_costs_only_itself(before: list[Any], after: list[Any], data: st.DataObject) -> None:
    """A process is killed while it writes the last row; the next one goes on."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        write_lines(path, before)
        assert [*read_lines(path)] == read_whole_lines(path) == before
        append_line(path, {"torn": "ü"})
        torn = path.read_bytes()
        begun = torn[: data.draw(st.integers(len(torn) - len(b'{"torn": "\xc3\xbc"}\n'), len(torn) - 2))]
        path.write_bytes(begun)
        assert read_whole_lines(path) == before
        for row in after:
            append_line(path, row)
        assert read_whole_lines(path) == before + after


def test_lines_are_not_written_with_what_json_has_not(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        for write in (write_json, append_line):
            with pytest.raises(ValueError, match="not JSON compliant"):
                write(tmp_path / "x", {"x": value})
    assert not [*tmp_path.iterdir()]


def test_whole_lines_of_no_file(tmp_path: Path) -> None:
    assert read_whole_lines(tmp_path / "none") == []


DAMAGED = {
    b'{"a": 1,\n "b": ': r"x: not JSON: Expecting value: line 2 column \d+ .*; it ends too early: write or copy it",
    b"": "x: not JSON: .*; it ends too early: write or copy it again$",
    b'{"a": 1,\n b}': r"x: not JSON: .*: line 2 column 2 \(char 10\); mend it, or write it again$",
    b'{"a": NaN}': "x: not JSON: NaN is no number of JSON",
    b"[" * 100_000: "x: not JSON: ",
    b"[1]": r"x: not a JSON object: it holds \[1\]$",
    b'{"a": "caf\xe9"}': "x: not UTF-8 text: byte 10 is 0xe9$",
}


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_told_with_line_and_remedy(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=DAMAGED[content]):
        read_object(tmp_path / "x")


def test_a_damaged_line_has_its_number(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"a": 1}\n\n{"a": \n')
    with pytest.raises(InputError, match=r"x, line 3: not JSON: .*; it ends too early"):
        list(read_lines(tmp_path / "x"))


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{}", encoding="utf-8-sig")
    assert read_object(tmp_path / "x") == {}


def test_what_the_system_does_not_give_has_the_true_reason(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    reasons = {"none": "there is no such file", "folder": "it is a folder"}
    for name, words in {**reasons, "loop": "Too many levels", "x" * 300: "File name too long"}.items():
        for read in (read_json, lambda path: list(read_lines(path))):
            with pytest.raises(OSError, match=r"\[Errno") as refused:
                read(tmp_path / name)
            assert isinstance(refused.value, FileNotFoundError) == (name == "none")
            assert readable(refused.value).startswith(f"reading {tmp_path / name}: ")
            told = str(unreadable(tmp_path / name, refused.value))
            assert name in told and words in told
