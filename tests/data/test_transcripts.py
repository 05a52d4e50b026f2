"""Conversations as people write them: what is read, what is written, and every message about what is wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmath_jax.data.sources.schema import Transcript, Utterance, decode
from cmath_jax.data.sources.transcripts import (
    from_lines,
    numbered_transcripts,
    read_transcripts,
    to_json,
    transcript_of,
)
from cmath_jax.errors import InputError

WHOLE: dict[str, Any] = {
    "id": "c1",
    "split": "train",
    "utterances": [
        {
            "speaker": "Ann",
            "text": "You came! \u2026 \u2028 \0",
            "label": "joy",
            "id": "u0",
            "start": 0,
            "end": 1.5,
            "audio": "a/é.wav",
            "video": "v.mp4",
        },
        {"speaker": "Bob"},
    ],
}


def write(folder: Path, *lines: str) -> Path:
    path = folder / "conversations.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_every_field_is_read() -> None:
    transcript = transcript_of(WHOLE, "here")
    first = Utterance("Ann", "You came! \u2026 \u2028 \0", "joy", "u0", 0.0, 1.5, "a/é.wav", "v.mp4")
    assert transcript == Transcript("c1", (first, Utterance("Bob")), "train")
    assert len(transcript) == 2


def test_a_line_is_read_as_it_was_written(tmp_path: Path) -> None:
    transcripts = [transcript_of(WHOLE, "here"), Transcript("c2", (Utterance(3, ""), Utterance(0, "x\ny\r")), "test")]
    path = write(tmp_path, *map(to_json, transcripts))
    assert [*read_transcripts(path)] == transcripts
    assert set(json.loads(to_json(transcripts[1]))["utterances"][0]) == {"speaker", "text"}


def test_blank_lines_count_and_ids_default_to_line_numbers(tmp_path: Path) -> None:
    line = json.dumps({"utterances": [{"speaker": 0}]})
    path = write(tmp_path, "", line, "  ", line)
    assert [(number, t.id) for number, t in numbered_transcripts(path)] == [(2, "2"), (4, "4")]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "conversations.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(WHOLE).encode())
    assert [t.id for t in read_transcripts(path)] == ["c1"]


def test_names_are_numbered_by_appearance_and_numbers_stay() -> None:
    def indices(*speakers: str | int) -> list[int]:
        found = Transcript("c", tuple(map(Utterance, speakers))).speaker_indices()
        assert found.dtype == np.int32
        return found.tolist()

    assert indices("Bob", "Ann", "Bob", "1") == [0, 1, 0, 2]
    assert indices(4, 0, 4) == [4, 0, 4]


def changed(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda conversation: conversation.update(fields)


def said(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda conversation: conversation["utterances"][1].update(fields)


@pytest.mark.parametrize(
    ("break_", "message"),
    [
        (changed(id=5), r"^here: id is 5 \(int\), not text$"),
        (changed(id=""), "^here: the conversation has no id$"),
        (changed(id="\ud800"), "^here: id is not Unicode text"),
        (changed(split="dev"), "^here, conversation 'c1': split 'dev' is not one of train, validation, test$"),
        (changed(splits="test"), "^here: unknown field 'splits'; did you mean split"),
        (lambda conversation: conversation.update({1: 2}), "^here: unknown field 1; there are id"),
        (changed(utterance=[], utterances=None), "^here: unknown field 'utterance'; did you mean utterances"),
        (changed(zzz=1), "^here: unknown field 'zzz'; there are id, utterances, split$"),
        (changed(utterances=None), "^here, conversation 'c1': utterances is missing, not a list$"),
        (changed(utterances={}), r"utterances is \{\} \(dict\), not a list$"),
        (changed(utterances=[]), r"^here, conversation 'c1': it is empty \(0 utterances\)$"),
        (changed(utterances=["Ann: hi"]), "utterance 0: 'Ann: hi' .str. stands where an object is wanted"),
        (said(speaker=0), "^here, conversation 'c1': some speakers are names and some are numbers$"),
        (said(speaker=None), "^here, conversation 'c1', utterance 1: speaker is missing, neither a name nor a number$"),
        (said(speaker=True), "utterance 1: speaker is True"),
        (said(speaker=-1), "utterance 1: speaker -1 is not an index"),
        (said(speaker=2**31), "utterance 1: speaker 2147483648 is not an index"),
        (said(speaker="\udc00"), "utterance 1: speaker is not Unicode text"),
        (said(text=["a"]), r"utterance 1: text is \['a'\] \(list\), not text"),
        (said(emotion="joy"), "utterance 1: unknown field 'emotion'"),
        (said(Label="joy"), "utterance 1: unknown field 'Label'; did you mean label"),
        (said(start="1"), "utterance 1: start is '1' .str., not a number"),
        (said(start=True), "utterance 1: start is True"),
        (said(start=float("nan")), "utterance 1: start is nan"),
        (said(end=float("inf")), "utterance 1: end is inf"),
        (said(start=-1), "utterance 1: start -1.0 and end None are no span of time"),
        (said(start=2, end=2), "utterance 1: start 2.0 and end 2.0 are no span of time"),
        (said(end=0), "utterance 1: start None and end 0.0 are no span of time"),
    ],
)
def test_what_is_wrong_is_named(break_: Callable[[dict[str, Any]], None], message: str) -> None:
    conversation = json.loads(json.dumps(WHOLE))
    break_(conversation)
    with pytest.raises(InputError, match=message):
        transcript_of(conversation, "here")


def test_what_decodes_is_imported_where_there_is_something_to_decode() -> None:
    """A slip on the command line is answered sooner."""
    program = "import sys, cmath_jax.commands.predict, cmath_jax.data.load; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("value", [None, 3, "x", []])
def test_an_utterance_is_an_object(value: Any) -> None:
    with pytest.raises(InputError, match="stands where an object is wanted"):
        decode(Utterance, value, "here")


@pytest.mark.parametrize("line", ["{", "nonsense", "[" * 100_000, '{"id": ' + "1" * 5000 + "}"])
def test_a_line_that_is_not_json_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, json.dumps(WHOLE), line)
    with pytest.raises(InputError, match=r"conversations\.jsonl, line 2: not JSON"):
        list(read_transcripts(path))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes("é".encode("latin1"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "late").write_bytes(json.dumps(WHOLE).encode() + b"\r\n\r{}\x92")
    (tmp_path / "utf16").write_bytes(json.dumps(WHOLE).encode("utf-16"))
    for name, message in {
        "latin1": "latin1, line 1: cannot be read as UTF-8 text: byte 1 is 0xe9$",
        "late": "late, line 3: cannot be read as UTF-8 text: byte 3 is 0x92$",
        "utf16": "line 1: cannot be read as UTF-8 text: .* it is UTF-16: save it as UTF-8",
        "none": "^there is no file .*none$",
        "folder": "folder: cannot be read: Is a directory",
    }.items():
        with pytest.raises(InputError, match=message):
            list(read_transcripts(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps([WHOLE, WHOLE]), "line 1: a list of JSON; write each conversation of it as a line of its own"),
        (json.dumps([WHOLE, WHOLE], indent=2), "line 1: not JSON: .*it begins here and goes on"),
        (
            json.dumps(WHOLE, indent=2),
            "line 1: not JSON: .*it begins here and goes on: all of it has to be on one line",
        ),
    ],
)
def test_json_that_is_no_line_for_each_conversation(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(read_transcripts(write(tmp_path, text)))


def test_lines_of_speaker_and_words() -> None:
    text = "Ann: You came!\n\nBob:  I said: yes\n and more\nAnn:"
    said = [(u.speaker, u.text) for u in from_lines(text, "talk").utterances]
    assert said == [("Ann", "You came!"), ("Bob", "I said: yes and more"), ("Ann", "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^talk: it is empty \(0 utterances\)$"),
        ("\nhello", "^talk, line 2: write it as SPEAKER: WORDS; 'hello' names no speaker$"),
        (": hello", "^talk, line 1: write it as SPEAKER: WORDS"),
        ("Ann: hi\n\ud800", "^talk, line 1: text is not Unicode text"),
        ("Ann: \ud800", "^talk, line 1: text is not Unicode text"),
    ],
)
def test_lines_that_are_no_conversation(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_lines(text, "talk")
