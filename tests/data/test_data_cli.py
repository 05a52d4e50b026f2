"""`python -m cmath_jax.data`: exit codes, the summary of `check`, and what `convert` makes of what."""

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import content, dump
from layouts import corpus as sample
from own_samples import LINES, assert_equal, odd_corpus, put
from test_meld_csv import put as put_csv
from test_meld_csv import row

from cmath_jax.config import Config, override
from cmath_jax.data.__main__ import main
from cmath_jax.data.load import load_corpus
from cmath_jax.data.sources import counts
from cmath_jax.data.sources.own import read_own, write_own
from cmath_jax.data.sources.published import read_published
from cmath_jax.errors import InputError
from cmath_jax.training.corpora import check_usable

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "COUNTS", dict.fromkeys(counts.COUNTS, ()))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints that must succeed."""
    code = main([*map(str, arguments)])
    out, errors = capsys.readouterr()
    assert (code, errors) == (0, "")
    return out


def fail(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command answers with that must fail."""
    code = main([*map(str, arguments)])
    out, errors = capsys.readouterr()
    assert (code, out) == (2, "") and errors.startswith("error: ") and errors.count("\n") == 1
    return errors


def cells(summary: str, name: str) -> list[str]:
    """The columns of a row of the table, or what is said of a name."""
    line = next(line for line in summary.splitlines() if line.strip().startswith(name))
    return [cell.strip() for cell in line.strip().removeprefix(name).split("  ") if cell.strip()]


def test_check_tells_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = json.loads(json.dumps(LINES))
    said = "one two three four  five"
    lines[0]["utterances"][1] |= {"text": said, "audio": "there.wav", "video": "gone.mp4"}
    lines[1]["utterances"][0] |= {"text": said, "audio": "gone.wav"}
    lines[2]["utterances"][0] |= {"text": "Hi."}
    folder = put(tmp_path / "mine", lines, license="CC BY 4.0")
    np.savez(folder / "audio.npz", a=np.float32([[1, 2, 3], [np.nan] * 3, [4, 5, 6]]))
    np.savez(folder / "video.npz", a=np.ones((3, 2)))
    (folder / "there.wav").touch()
    (folder / "features.json").write_text('{"text": {"encoder": "some-encoder", "layer": -1}}')
    summary = run(capsys, "check", folder)
    assert summary.startswith("mine: sound\n")
    assert cells(summary, "classes") == ["anger, joy"]
    assert cells(summary, "license") == ["CC BY 4.0"]
    assert cells(summary, "text") == ["2 features; encoder some-encoder, layer -1"]
    assert cells(summary, "audio") == ["3 features; not known how extracted"]
    assert cells(summary, "fingerprint") == [read_own(folder).fingerprint()]
    assert cells(summary, "train") == ["validation", "test"]
    rows = {
        "conversations": ["2", "-", "1"],
        "utterances": ["5", "-", "1"],
        "labelled": ["3", "-", "1"],
        "length, least": ["2", "-", "1"],
        "length, median": ["2.5", "-", "1"],
        "length, most": ["3", "-", "1"],
        "speakers of a conversation, most": ["2", "-", "1"],
        "class anger": ["1 (33.3 %)", "-", "0 (0.0 %)"],
        "class joy": ["2 (66.7 %)", "-", "1 (100.0 %)"],
        "utterances without text": ["0", "-", "0"],
        "utterances without audio": ["3", "-", "1"],
        "conversations without audio": ["1", "-", "1"],
    }
    assert {name: cells(summary, name) for name in rows} == rows
    assert "texts of 5 words or more in both train and test: 1\n" in summary
    assert "texts of 5 words or more in both train and validation: 0\n" in summary
    assert f"recordings named: 3; not there: 2: {folder}/gone.mp4, {folder}/gone.wav\n" in summary
    assert summary.endswith("not read, since features are named text, audio, visual: video.npz\n")


def test_check_without_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put(tmp_path / "mine", LINES, features=False)
    summary = run(capsys, "check", folder)
    assert cells(summary, "features") == [
        f"none yet; extract them with `python -m cmath_jax.extract {folder} --text` (or --audio, --video)"
    ]
    assert cells(summary, "conversations") == ["2", "-", "1"]
    assert "without text" not in summary and "fingerprint" not in summary and "recordings" not in summary


def talks(split: str, count: int, label: str | None = "joy") -> list[dict[str, Any]]:
    words = [{"speaker": 0, "label": label}, {"speaker": 1, "label": label}]
    return [{"id": f"{split}{label}{i}", "split": split, "utterances": words} for i in range(count)]


@pytest.mark.parametrize(
    ("lines", "lacking"),
    [
        ([*talks("train", 3), *talks("test", 1)], None),
        ([*talks("train", 1), *talks("validation", 1), *talks("test", 1)], None),
        ([*talks("train", 3)], "it has no test split"),
        ([*talks("test", 3)], "it has no train split"),
        (
            [*talks("train", 2), *talks("test", 1)],
            "it has no validation split, and 2 of train are too few to draw one from",
        ),
        (
            [*talks("train", 2)],
            "it has no validation split, and 2 of train are too few to draw one from; it has no test split",
        ),
        ([*talks("train", 3), *talks("test", 1, None)], "no utterance of its test split is labelled"),
        (
            [*talks("train", 1), *talks("validation", 2, None), *talks("test", 1)],
            "no utterance of its validation split is labelled",
        ),
        (
            [*talks("train", 2, None), *talks("train", 1), *talks("test", 1)],
            "no utterance of its train split is labelled",  # of what is left of it
        ),
    ],
)
def test_check_says_what_training_would_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: list[dict[str, Any]], lacking: str | None
) -> None:
    folder = put(tmp_path / "mine", lines, classes=["joy", "anger"])
    said = run(capsys, "check", folder).splitlines()
    assert said[0] == "mine: sound"
    assert said[1].startswith("  classes") if lacking is None else said[1] == f"not yet for training: {lacking}"
    with contextlib.nullcontext() if lacking is None else pytest.raises(InputError):
        check_usable(override(Config(), {"data.modalities": "t"}), load_corpus(str(folder)))
    (folder / "text.npz").unlink()
    without = ["it has no features", *([] if lacking is None else [lacking])]
    assert run(capsys, "check", folder).splitlines()[1] == f"not yet for training: {'; '.join(without)}"


def test_check_names_some_of_the_recordings_that_are_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = json.loads(json.dumps(LINES))
    for k, line in enumerate(lines):
        for i, utterance in enumerate(line["utterances"]):
            utterance["audio"] = f"{k}{i}.wav"
    folder = put(tmp_path / "mine", lines, features=False)
    gone = ", ".join(f"{folder}/{name}.wav" for name in ("00", "01", "02"))
    assert f"recordings named: 6; not there: 6: {gone}, ...\n" in run(capsys, "check", folder)


def test_check_of_a_published_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dump(tmp_path / "some.pkl", content("F", sample("meld")))
    layers = [run(capsys, "check", path, "--text-layer", k) for k in (1, 2, 0)]
    assert [cells(x, "fingerprint")[0] for x in layers] == [
        read_published(path, text_layer=k).fingerprint() for k in (1, 2, 0)
    ]
    assert cells(layers[0], "conversations") == ["4", "2", "2"]


def test_check_of_other_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # with the published counts
    path = dump(tmp_path / "some.pkl", content("F", sample("meld")))
    assert "the counts are not those of meld" in fail(capsys, "check", path)
    with pytest.warns(UserWarning, match="the counts are not those of meld"):
        assert run(capsys, "check", path, "--check-counts", "warn").startswith("meld: sound")


def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = put(tmp_path / "mine", LINES)
    np.savez(folder / "text.npz", a=np.ones((2, 2)))
    assert "text.npz: conversation 'a'" in fail(capsys, "check", folder)
    assert "is no folder with conversations.jsonl" in fail(capsys, "check", tmp_path / "none")
    (tmp_path / "x.pkl").write_bytes(b"x")
    assert "x.pkl: not a pickle" in fail(capsys, "check", tmp_path / "x.pkl")
    assert "--help says more" in fail(capsys, "check")
    assert "--help says more" in fail(capsys)
    assert "invalid choice: 'repair'" in fail(capsys, "repair", folder)
    assert "--text-layer" in fail(capsys, "check", folder, "--text-layer", "5")


def test_from_a_published_file_to_a_folder_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dump(tmp_path / "F.pkl", content("F", sample("meld")))
    assert run(capsys, "convert", path, tmp_path / "own", "--text-layer", 3) == f"written: {tmp_path / 'own'}\n"
    run(capsys, "convert", path, tmp_path / "all", "--text-layer", 0)
    assert_equal(read_own(tmp_path / "all"), read_published(path, text_layer=0))
    third = read_published(path, text_layer=3)
    assert_equal(read_own(tmp_path / "own"), third)
    run(capsys, "convert", tmp_path / "own", tmp_path / "D.pkl")
    assert read_published(tmp_path / "D.pkl").fingerprint() == third.fingerprint()
    run(capsys, "convert", path, tmp_path / "D1.pkl")
    assert read_published(tmp_path / "D1.pkl").fingerprint() == sample("meld").fingerprint()


def test_from_iemocap_to_a_folder_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = dump(tmp_path / "E.pkl", content("E", sample("iemocap")))
    run(capsys, "convert", path, tmp_path / "own")
    run(capsys, "convert", tmp_path / "own", tmp_path / "A.pkl")
    assert read_published(tmp_path / "A.pkl").fingerprint() == sample("iemocap").fingerprint()


def test_from_meld_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train.csv", "dev.csv", "test.csv"):
        put_csv(tmp_path, name, row(0, 0), row(0, 1, Speaker="Ross"))
    clip = tmp_path / "raw" / "train_splits" / "dia0_utt1.mp4"
    clip.parent.mkdir(parents=True)
    clip.touch()
    said = run(capsys, "convert", tmp_path, tmp_path / "deep" / "own", "--clips", tmp_path / "raw")
    gone = [f"{tmp_path}/raw/{name}" for name in ("train_splits/dia0_utt0.mp4", "dev_splits_complete/dia0_utt0.mp4")]
    assert said.splitlines() == [
        f"written: {tmp_path / 'deep' / 'own'}",
        f"recordings named: 6; not there: 5: {', '.join(gone)}, {gone[1].replace('utt0', 'utt1')}, ...",
    ]
    line = json.loads((tmp_path / "deep" / "own" / "conversations.jsonl").read_text().splitlines()[0])
    assert [u["speaker"] for u in line["utterances"]] == ["Joey", "Ross"]
    assert line["utterances"][1]["video"] == "../../raw/train_splits/dia0_utt1.mp4"
    summary = run(capsys, "check", tmp_path / "deep" / "own")
    assert "recordings named: 6; not there: 5: " in summary
    assert cells(summary, "speaker indices") == ["9"]
    assert "no folder" in fail(capsys, "convert", tmp_path, tmp_path / "new", "--clips", tmp_path / "none")
    assert "extract features" in fail(capsys, "convert", tmp_path, tmp_path / "new.pkl")
    (tmp_path / "empty").mkdir()
    said = run(capsys, "convert", tmp_path, tmp_path / "again", "--clips", tmp_path / "empty")
    assert "recordings named: 6; not there: 6: " in said and said.endswith(
        f"none of them is there: {tmp_path / 'empty'} should hold train_splits, dev_splits_complete, "
        "output_repeated_splits_test\n"
    )


def test_clips_are_found_from_a_folder_behind_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv, far = tmp_path / "csv", tmp_path / "a" / "b" / "c"
    csv.mkdir()
    far.mkdir(parents=True)
    for name in ("train.csv", "dev.csv", "test.csv"):
        put_csv(csv, name, row(0, 0))
    for part in ("train_splits", "dev_splits_complete", "output_repeated_splits_test"):
        (tmp_path / "raw" / part).mkdir(parents=True)
        (tmp_path / "raw" / part / "dia0_utt0.mp4").touch()
    (tmp_path / "link").symlink_to(far)
    (tmp_path / "clips").symlink_to(tmp_path / "raw")
    said = run(capsys, "convert", csv, tmp_path / "link" / "own", "--clips", tmp_path / "clips")
    assert said.endswith("recordings named: 3; not there: 0\n")
    assert "recordings named: 3; not there: 0\n" in run(capsys, "check", far / "own") + "\n"


def test_doubtful_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """A class that is most likely misspelled is warned of by `check` and by training, and refused by neither."""
    lines = [
        {"id": f"{i}", "split": split, "utterances": [{"speaker": "Ann", "label": label} for label in labels]}
        for i, (split, labels) in enumerate(
            [("train", ["neutral", "fear"]), ("train", ["netural", "fear"]), ("test", ["neutral", "fear"])]
        )
    ]
    folder = put(tmp_path / "mine", [*lines, {**lines[0], "id": "9", "split": "validation"}])
    alike = "the classes 'netural' (once) and 'neutral' (3 times) are nearly spelled the same: if they are one, "
    warned = [line for line in run(capsys, "check", folder).splitlines() if line.startswith("warning: ")]
    assert warned == [
        f"warning: {alike}write it in one way",
        "warning: the class 'netural' occurs once, from which nothing can be learned",
    ]
    for stream in (False, True):
        caplog.clear()
        load_corpus(str(folder), stream=stream, prepared_dir=tmp_path / "prepared")
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert line.startswith(f"{folder}: {alike}") and line.endswith(f"(python -m cmath_jax.data check {folder})")
    (folder / "corpus.json").write_text('{"classes": ["fear", "netural", "neutral", "Fear"]}')
    assert "warning: the classes 'Fear' (never) and 'fear' (4 times) differ in case" in run(capsys, "check", folder)


def test_what_cannot_be_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_own(odd_corpus(), tmp_path / "odd")
    assert "conversation 'file': the id is no number" in fail(capsys, "convert", folder, tmp_path / "x.pkl")
    assert "is a folder already" in fail(capsys, "convert", folder, tmp_path / "new")
    assert "--clips is for MELD's CSV files" in fail(capsys, "convert", folder, tmp_path / "x.pkl", "--clips", tmp_path)
    assert "is a folder without" in fail(capsys, "convert", tmp_path, tmp_path / "x.pkl")
    assert "none.pkl: cannot be read" in fail(capsys, "check", tmp_path / "none.pkl")
    path = dump(tmp_path / "F.pkl", content("F", sample("meld")))
    assert "is there already" in fail(capsys, "convert", path, folder)
    assert fail(capsys, "convert", path, "/") == "error: / is there already: name a new folder\n"
    assert "is there already" in fail(capsys, "convert", path, path)
    assert "cannot be read" in fail(capsys, "convert", tmp_path / "none.pkl", tmp_path / "new")
    assert_equal(read_own(folder), odd_corpus())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["F.pkl", "odd"]


def test_missing_rows_stay_missing_in_a_copy_that_lacks_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = odd_corpus()
    folder = write_own(replace(corpus, splits={**corpus.splits, "test": []}), tmp_path / "odd")
    missing = sum(int(np.isnan(c.features["a"]).all(1).sum()) for c in corpus.splits["train"])
    assert cells(run(capsys, "check", folder), "utterances without audio")[::2] == [str(missing), "-"]


def test_the_command_is_a_module(tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cmath_jax.data", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert call("check", str(put(tmp_path / "mine", LINES))).returncode == 0
    wrong = call("check", str(tmp_path))
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ") and "Traceback" not in wrong.stderr
    assert "convert" in call("--help").stdout
