"""`python -m cmath_jax.predict`, as a user runs it."""

import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import tiny

from cmath_jax.commands import predict as command
from cmath_jax.commands.predict import main
from cmath_jax.data.load import load_corpus
from cmath_jax.data.sources.own import write_own
from cmath_jax.data.sources.schema import Utterance
from cmath_jax.errors import InputError
from cmath_jax.extract import Extracted, Problem
from cmath_jax.prediction import predictor
from cmath_jax.prediction.predictor import predict
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.training.fit import fit

CONFIG = tiny(train__epochs=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "run"
    fit(CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = load_corpus("simulated", simulation=CONFIG.data.simulation)
    return write_own(corpus, tmp_path_factory.mktemp("own") / "talks")


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_with_features(run: Path, own: Path, tmp_path: Path, capsys: Any) -> None:
    """A line for each utterance, in order, with the numbers of `predict`; to a file as to standard output."""
    assert main(["--checkpoint", str(run), str(own)]) == 0
    printed = capsys.readouterr().out
    found = rows(printed)
    corpus = load_corpus(str(own))
    talks = [talk for split in ("train", "validation", "test") for talk in corpus.splits[split]]
    expected = [(t.id, i, p.label) for t, ps in zip(talks, predict(run, talks), strict=True) for i, p in enumerate(ps)]
    assert [(row["conversation"], row["utterance"], row["label"]) for row in found] == expected
    assert {"speaker", "text", "probabilities", "uncertainty", "entropy", "gates", "missing"} < {*found[0]}
    assert main(["--checkpoint", str(run), str(own), "-o", str(tmp_path / "out.jsonl")]) == 0
    assert (tmp_path / "out.jsonl").read_text() == printed
    out, err = capsys.readouterr()
    assert not out
    assert err == f"{len(found)} utterances of {len(talks)} conversations: {tmp_path / 'out.jsonl'}\n"


@pytest.mark.parametrize("streamed", [False, True])
def test_on_a_terminal_it_is_a_table(streamed: bool, run: Path, own: Path, monkeypatch: Any, capsys: Any) -> None:
    """The emotions and probabilities of the JSON lines, in lines that are as wide as the terminal at most."""
    monkeypatch.setenv("COLUMNS", "70")
    options = ["--checkpoint", str(run), str(own), *(["--stream"] if streamed else [])]
    assert main(options) == 0
    expected = [(row["label"], f"{row['probabilities'][row['label']]:.2f}") for row in rows(capsys.readouterr().out)]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(options) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["speaker", "text", "emotion", "probability"]
    assert max(map(len, lines)) <= 70
    assert [tuple(line.split()[-2:]) for line in lines if len(line.split()) > 2] == expected


def test_a_stream_of_features_is_told_from_the_past(run: Path, own: Path, capsys: Any) -> None:
    """The first utterance of each conversation as if it were alone; and a note that the model looks both ways."""
    assert main(["--checkpoint", str(run), str(own), "--stream"]) == 0
    out, err = capsys.readouterr()
    assert "both sides" in err
    found = rows(out)
    talks = load_corpus(str(own)).splits["test"]
    from cmath_jax.data.corpus import Conversation

    for talk in talks:
        first = {m: x_nd[:1] for m, x_nd in talk.features.items()}
        alone = predict(run, [Conversation(talk.id, first, np.zeros(1, np.int32), np.zeros(1, np.int32))])[0][0]
        row = next(row for row in found if row["conversation"] == talk.id and row["utterance"] == 0)
        if talk.speakers[0] == 0:
            assert row["probabilities"] == pytest.approx(alone.probabilities, abs=1e-5)
        last = next(row for row in found if (row["conversation"], row["utterance"]) == (talk.id, len(talk) - 1))
        assert last["probabilities"] == pytest.approx(predict(run, [talk])[0][-1].probabilities, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "RUN", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--checkpoint", "nowhere", "OWN"], "nowhere: there is no such folder"),
        (["--checkpoint", "RUN"], "INPUT"),
        (["OWN"], "--checkpoint"),
        (["--checkpoint", "RUN", "-"], "with --stream"),
        (["--checkpoint", "RUN", "BAD.jsonl"], "line 2: not JSON"),
        (["--checkpoint", "RUN", "EMPTY.jsonl"], "no conversation"),
        (["--checkpoint", "RUN", "NAMELESS.txt"], "line 1: write it as SPEAKER: WORDS"),
        (["--checkpoint", "RUN", "TALK.txt"], "text and audio features of unknown origin"),
        (["--checkpoint", "RUN", "LATIN.txt"], "UTF-8"),
        (["--checkpoint", "RUN", "OWN", "-o", "nowhere/out.jsonl"], "nowhere/out.jsonl"),
        (["--checkpoint", "RUN", "OWN", "-o", "."], "it is a folder"),
        (["--checkpoint", "RUN", "OWN", "-o", "/"], "it is a folder"),
        (["--checkpoint", "RUN", "TWINS"], "two conversations have the id 'train-0'"),
        (["--checkpoint", "RUN", "TEXTLESS"], "none of text"),
    ],
)
def test_bad_input(
    run: Path, own: Path, arguments: list[str], message: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("BAD.jsonl").write_text('{"utterances": [{"speaker": "A"}]}\n{"utter\n')
    Path("EMPTY.jsonl").write_text("\n")
    Path("NAMELESS.txt").write_text("hello\n")
    Path("TALK.txt").write_text("Ann: hello\n")
    Path("LATIN.txt").write_bytes("Ann: é".encode("latin1"))
    corpus = load_corpus(str(own))
    for split in corpus.splits.values():
        for talk in split:
            talk.features.pop("t")  # type: ignore[attr-defined]
    write_own(corpus, Path("TEXTLESS"))
    shutil.copytree(own, "TWINS")
    lines = Path("TWINS/conversations.jsonl").read_text().splitlines()
    Path("TWINS/conversations.jsonl").write_text("\n".join([*lines, lines[0]]))
    places = {"RUN": str(run), "OWN": str(own)}
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err and err.startswith("error: ") and err.count("\n") == 1
    assert not out


def test_lines_from_standard_input_are_answered_one_by_one() -> None:
    """Each before the next is read; an empty line begins a new conversation; JSON, plain lines, words alone."""
    lines = [
        "\n",
        "Ann: hello there\n",
        '{"speaker": "Bob", "text": "hi"}\n',
        "and you\n",
        "\n",
        "\n",
        "Cid: you: here?",
    ]
    read: list[str] = []

    def reading() -> Any:
        for line in lines:
            read.append(line)
            yield line

    found: list[list[Utterance]] = []
    for conversation in command._conversations(reading()):
        found.append([])
        for place, utterance in conversation:
            assert place == f"standard input, line {len(read)}"
            found[-1].append(utterance)
            assert read[-1].strip()
    said = [Utterance("Ann", "hello there"), Utterance("Bob", "hi"), Utterance("Bob", "and you")]
    assert found == [said, [Utterance("Cid", "you: here?")]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"nobody\n", "line 1: write it as SPEAKER: WORDS"),
        (b"Ann: hi\n{broken\n", "line 2: not JSON"),
        (b"[" * 100_000, "line 1: not JSON"),
        (b'{"speaker": ' + b"1" * 5000 + b"}", "line 1: not JSON"),
        ("Ann: é".encode("latin1"), "standard input, line 1: cannot be read as UTF-8 text: byte 6 is 0xe9"),
    ],
)
def test_bad_lines(given: bytes, message: str) -> None:
    lines = command._lines(io.TextIOWrapper(io.BytesIO(given), encoding="ascii"))
    with pytest.raises(InputError, match=message):
        for conversation in command._conversations(lines):
            list(conversation)


def test_a_byte_order_mark_is_no_speaker(tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text("\ufeffAnn: hi\nBob: yes\nAnn: again\n", encoding="utf-8")
    (transcript,) = command.Input.read(tmp_path / "talk.txt", None).transcripts
    assert transcript.speaker_indices().tolist() == [0, 1, 0]
    lines = command._lines(io.TextIOWrapper(io.BytesIO("\ufeffAnn: hi".encode()), encoding="ascii"))
    assert [[u.speaker for _, u in conversation] for conversation in command._conversations(lines)] == [["Ann"]]


def test_features_of_another_extractor_are_refused(run: Path, own: Path, tmp_path: Path, capsys: Any) -> None:
    """Told by the hash of the weights, wherever they lie."""
    model = TrainedModel.load(run)
    settings = {"encoder": "/here/one", "weights_hash": "abc", "layer": -1}
    replace(model, extraction={"t": settings}).save(tmp_path / "model", card="")
    folder = Path(shutil.copytree(own, tmp_path / "talks"))
    for made, code in (
        ({**settings, "encoder": "/there/one"}, 0),
        ({**settings, "language": "en"}, 0),  # no number depends on it
        ({**settings, "weights_hash": "abd"}, 2),
        ({**settings, "layer": -2}, 2),
    ):
        (folder / "features.json").write_text(json.dumps({"text": made}))
        assert main(["--checkpoint", str(tmp_path / "model"), str(folder)]) == code
        assert ("its text features were extracted with" in capsys.readouterr().err) == (code == 2)


class Hard:
    """Stands in for an extractor that has something to say of what is said loudly."""

    settings = {"encoder": "stand-in"}  # noqa: RUF012
    dim = 9

    def features(self, transcripts: Any, folder: Path) -> Extracted:
        rows = [np.ones((len(transcript), 9), np.float32) for transcript in transcripts]
        loud = [(c, u) for c, t in enumerate(transcripts) for u, said in enumerate(t.utterances) if "!" in said.text]
        return Extracted(rows, [Problem(c, u, "too loud", "a/b.wav") for c, u in loud])


@pytest.mark.parametrize("streamed", [False, True])
def test_warnings_are_in_the_answer_and_name_the_place_in_the_file(
    streamed: bool, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    fit(tiny(train__epochs=1, model__causal=True, data__modalities="t"), tmp_path / "run")
    replace(TrainedModel.load(tmp_path / "run"), extraction={"t": Hard.settings}).save(tmp_path / "model", card="")
    monkeypatch.setattr(predictor, "make_extractor", lambda m, settings: Hard())
    speakers = [f"{'abcdefgh'[i]}: {'Oh!' if i in (1, 3) else 'so'}" for i in range(8)]
    (tmp_path / "talk.txt").write_text("\n" + speakers[0] + "\nand on\n" + "\n".join(speakers[1:]))
    written = {"id": "x", "utterances": [{"speaker": "A", "text": text} for text in ("so", "Oh!", "Ah!")]}
    (tmp_path / "talks.jsonl").write_text("\n" + json.dumps(written))
    options = ["--checkpoint", str(tmp_path / "model"), *(["--stream"] if streamed else [])]
    capsys.readouterr()

    assert main([*options, str(tmp_path / "talk.txt")]) == 0
    out, err = capsys.readouterr()
    loud, beyond = "a/b.wav: too loud", "the model tells 6 speakers of a conversation apart"
    found = [row["warnings"] for row in rows(out)]
    assert [bool(row) for row in found] == [False, True, False, True, False, False, True, True]
    assert found[1] == [loud] and found[6][0].startswith(beyond)
    lines = err.splitlines()
    assert len(lines) == 2  # what is the same of several utterances of a conversation is printed once
    assert lines[0] == f"warning: {tmp_path}/talk.txt, line 4: {loud}"
    assert lines[1].startswith(f"warning: {tmp_path}/talk.txt, line 9: {beyond}")

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main([*options, str(tmp_path / "talk.txt")]) == 0
    out, err = capsys.readouterr()
    assert not err and out.count("warning: ") == 2  # below the utterances that they are about
    assert f"\n  warning: {loud}\n" in out
    monkeypatch.undo()
    monkeypatch.setattr(predictor, "make_extractor", lambda m, settings: Hard())

    assert main([*options, str(tmp_path / "talks.jsonl")]) == 0
    out, err = capsys.readouterr()
    assert [row["warnings"] for row in rows(out)] == [[], [loud], [loud]]
    assert err == f"warning: {tmp_path}/talks.jsonl, line 2, conversation 'x', utterance 1: {loud}\n"


def test_standard_input_that_is_closed(run: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["--checkpoint", str(run), "-", "--stream"]) == 2
    assert "error: standard input is closed" in capsys.readouterr().err


def test_standard_input_needs_an_extractor(run: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Ann: hello\n"))
    assert main(["--checkpoint", str(run), "-", "--stream"]) == 2
    assert "unknown origin" in capsys.readouterr().err
