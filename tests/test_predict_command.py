"""`python -m cmath_jax.predict`, as a user runs it."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import tiny

from cmath_jax.data.load import load_corpus
from cmath_jax.data.own import write_own
from cmath_jax.data.transcripts import Utterance
from cmath_jax.prediction import command
from cmath_jax.prediction.command import main
from cmath_jax.prediction.predictor import predict
from cmath_jax.train import fit

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
    assert not capsys.readouterr().out


def test_a_stream_of_features_is_told_from_the_past(run: Path, own: Path, capsys: Any) -> None:
    """The first utterance of each conversation as if it were alone; and a note that the model looks both ways."""
    assert main(["--checkpoint", str(run), str(own), "--stream"]) == 0
    out, err = capsys.readouterr()
    assert "both sides" in err
    found = rows(out)
    talks = load_corpus(str(own)).splits["test"]
    from cmath_jax.data.conversations import Conversation

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
        (["--checkpoint", "nowhere", "OWN"], "nowhere: there is no model.json"),
        (["--checkpoint", "RUN"], "INPUT"),
        (["OWN"], "--checkpoint"),
        (["--checkpoint", "RUN", "-"], "with --stream"),
        (["--checkpoint", "RUN", "BAD.jsonl"], "line 2: not JSON"),
        (["--checkpoint", "RUN", "EMPTY.jsonl"], "no conversation"),
        (["--checkpoint", "RUN", "NAMELESS.txt"], "line 1: write it as SPEAKER: WORDS"),
        (["--checkpoint", "RUN", "TALK.txt"], "text and audio features of unknown origin"),
        (["--checkpoint", "RUN", "LATIN.txt"], "UTF-8"),
        (["--checkpoint", "RUN", "OWN", "-o", "nowhere/out.jsonl"], "nowhere/out.jsonl"),
        (["--checkpoint", "RUN", "TEXTLESS"], "none of the modality 't'"),
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
    places = {"RUN": str(run), "OWN": str(own)}
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert message in err and err.startswith("error: ") and err.count("\n") == 1
    assert not out


def test_lines_from_standard_input_are_answered_one_by_one(monkeypatch: Any) -> None:
    """Each before the next is read; an empty line begins a new conversation; JSON and plain lines."""
    lines = ["\n", "Ann: hello there\n", '{"speaker": "Bob", "text": "hi"}\n', "\n", "\n", "Cid: you: here?\n"]
    read: list[str] = []

    def reading() -> Any:
        for line in lines:
            read.append(line)
            yield line

    found: list[list[Utterance]] = []
    for conversation in command._conversations(reading()):
        found.append([])
        for utterance in conversation:
            found[-1].append(utterance)
            assert read[-1].strip()
    assert found == [[Utterance("Ann", "hello there"), Utterance("Bob", "hi")], [Utterance("Cid", "you: here?")]]


def test_standard_input_needs_an_extractor(run: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Ann: hello\n"))
    assert main(["--checkpoint", str(run), "-", "--stream"]) == 2
    assert "unknown origin" in capsys.readouterr().err
