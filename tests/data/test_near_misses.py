"""What is near to a source of data is said to be what it looks like, and what is to be done, wherever it is given."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmath_jax.commands.predict import Input
from cmath_jax.data.__main__ import main
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import InputError
from cmath_jax.extract.folder import read_conversations

LINE = json.dumps({"id": "a", "split": "train", "utterances": [{"speaker": "Ann", "text": "Hi", "label": "joy"}]})
CSV = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, a=np.zeros((2, 3)))
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((2, 3)))
    return file.getvalue()


def packed(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return file.getvalue()


FILES = {  # name -> content, what is said
    "train.csv": (CSV, "one of MELD's three CSV files; give the folder with .* which lacks dev.csv and test.csv"),
    "Dev_sent_emo.CSV": (CSV, "one of MELD's three CSV files; .* which lacks train.csv and test.csv"),
    "other.csv": ("a,b\n1,2\n", "CSV with the columns a, b, which are not MELD's"),
    "train.csv.gz": (gzip.compress(CSV.encode()), "a gzip archive; unpack it with `gunzip .*train.csv.gz`"),
    "MELD_features_raw1.pkl.gz": (gzip.compress(b"\x80\x02N."), "a gzip archive; unpack it"),
    "MELD.Raw.tar.gz": (gzip.compress(b""), "a tar archive; unpack it with `tar xf"),
    "MELD.zip": (packed("MELD/", "MELD/train.csv"), "a zip archive that holds MELD/train.csv; unpack it"),
    "odd.zip": (packed("a\nb"), r"a zip archive that holds a\?b; unpack it"),
    "table.xlsx": (
        packed("[Content_Types].xml"),
        "a workbook or document of an office program; save its table as CSV in UTF-8",
    ),
    "features.pt": (packed("archive/data.pkl"), "a file of PyTorch"),
    "empty.zip": (packed(), "a zip archive"),
    "text.npz": (npz(), "an .npz archive of arrays; features are read from a folder, beside conversations.jsonl"),
    "audio.npy": (npy(), "a .npy array; features are read from a folder, beside conversations.jsonl"),
    "features.h5": (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
    "data.parquet": (b"PAR1\0", "a Parquet file"),
    "lfs.pkl": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a git LFS pointer, not the file itself"),
    "annex.pkl": ("/annex/objects/SHA256E-s1--0.pkl\n", "a git-annex pointer"),
    "page.pkl": ("\n<!DOCTYPE html><html></html>", "an HTML or XML page, not a data file; the download went wrong"),
    "gone.pkl": ("404: Not Found", "the answer of a server without the file"),
    "conversations.jsonl": (LINE, "JSON text; give its folder, .*"),
    "talks.jsonl": (LINE, "JSON text, a conversation; name the file conversations.jsonl and give its folder"),
    "conversations.json": (json.dumps([json.loads(LINE)]), "JSON text; conversations are read from a folder"),
    "talk.txt": ("Ann: Hi.\nBob: Ho.\n", "lines SPEAKER: WORDS; .*predict` labels them"),
    "notes.txt": ("hello", "a text; conversations are read from a folder"),
    "utf16.csv": (CSV.encode("utf-16"), "text in UTF-16; save it as UTF-8"),
    "talk.wav": (b"RIFF\0\0\0\0WAVE", "a recording"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    content, said = FILES[name]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    for use in (
        lambda: load_corpus(str(path)),
        lambda: load_corpus("meld", file=str(path), prepared_dir=tmp_path / "prepared"),
    ):
        with pytest.raises(InputError, match=f"{name}: not a pickle; it looks like {said}"):
            use()
    if name != "conversations.jsonl":
        with pytest.raises(InputError, match=rf"{name} is no folder with conversations\.jsonl, .* looks like {said}"):
            load_corpus("conversations", dir=path)
    for command in (["check", str(path)], ["convert", str(path), str(tmp_path / "new")]):
        assert main(command) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("error: ") and errors.count("\n") == 1 and "fetch it again" not in errors
    assert not (tmp_path / "new").exists()


FOLDERS = {  # name -> names in it, what is said
    "meld": (
        ("train.csv", "dev_sent_emo.csv", "TEST.csv"),
        r"MELD's CSV files \(train.csv, dev_sent_emo.csv, TEST.csv",
    ),
    "part": (("train.csv", "test.csv"), "a part of MELD's CSV files; dev.csv not there"),
    "packed": (("train_sent_emo.csv.gz",), "MELD's CSV files, packed; unpack train_sent_emo.csv.gz"),
    "dyadic": (("train_sent_emo_dya.csv",), "MELD_Dyadic's CSV files, .*--check-counts=warn"),
    "json": (("conversations.json",), "conversations under another name, conversations.json"),
    "upper": (("Conversations.JSONL",), "conversations under another name, Conversations.JSONL"),
    "text": (("conversations.jsonl.txt",), "conversations under another name, conversations.jsonl.txt"),
    "gz": (("conversations.jsonl.gz",), "conversations, packed; unpack conversations.jsonl.gz"),
    "pickles": (
        ("MELD_features_raw1.pkl", "README.md"),
        "a folder of published files; give one of them itself, such as .*raw1.pkl",
    ),
    "gz pickles": (("MELD_features_raw1.pkl.gz",), "a folder of published files; unpack MELD_features_raw1.pkl.gz"),
    "raw": (("train_splits/dia0_utt0.mp4",), "the recordings of MELD.Raw; .*--clips .*raw`"),
    "prepared": (("dataset_info.json", "features.json"), "a copy prepared by tensorflow-datasets"),
    "run": (("result.json", "metrics.jsonl"), "a run folder"),
    "features": (("text.npz",), r"features without their conversations \(text.npz\)"),
    "talks": (("talks.jsonl",), "JSON lines under another name, talks.jsonl"),
    "archive": (("MELD.tar.gz",), "a folder with an archive; unpack MELD.tar.gz"),
    "around": (
        ("README.md", "data/MELD/train_sent_emo.csv"),
        "a folder around the one that is meant; give .*data/MELD$",
    ),
    "around own": (("mine/conversations.jsonl",), "a folder around the one that is meant; give .*mine$"),
    "csv": (("labels.csv",), r"a folder with other CSV files than MELD's \(labels.csv\)"),
    "empty": ((), "an empty folder"),
}


def put(folder: Path, names: tuple[str, ...]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    names, said = FOLDERS[name]
    path = put(tmp_path / name, names)
    uses: dict[str, Callable[[], object]] = {
        "is a folder without": lambda: load_corpus(str(path)),
        "is a folder without conversations": lambda: load_corpus("conversations", dir=path),
        "is a folder, not a file": lambda: load_corpus("meld", file=str(path)),
        "is not there": lambda: read_conversations(path),
        "there is no file": lambda: Input.read(path, None),
    }
    for start, use in uses.items():
        with pytest.raises(InputError, match=f"{start}.*; it looks like {said}"):
            use()
    commands = [["check", str(path)], *([] if name in ("meld", "part") else [["convert", str(path), "new"]])]
    for command in commands:
        assert main(command) == 2
        assert "; it looks like " in capsys.readouterr().err


def test_one_part_of_meld_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train.csv", "train_sent_emo.csv", "dev.csv", "test.csv"):
        (tmp_path / name).write_text(CSV)
    for source in (tmp_path, tmp_path / "dev.csv"):
        assert main(["check", str(source)]) == 2
        error = capsys.readouterr().err
        assert "both train.csv and train_sent_emo.csv are there: move one of them away" in error
        assert "lacks" not in error and "other CSV" not in error


def test_a_folder_where_a_file_is_wanted(tmp_path: Path) -> None:
    put(tmp_path / "mine", ("conversations.jsonl",))
    with pytest.raises(InputError, match=r"a folder of one's own conversations; .*--config.data.dir=.*mine"):
        load_corpus("meld", file=str(tmp_path / "mine"))


def test_where_published_files_should_be(tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(InputError) as error:
            load_corpus("meld", feature_set="sdt", features_dir=folder)
        return str(error.value)

    assert "it looks like a folder of published files; unpack x.pkl.gz" in refused(put(tmp_path / "a", ("x.pkl.gz",)))
    (tmp_path / "x.pkl").touch()
    assert "(it is a file: name it with file=)" in refused(tmp_path / "x.pkl")
    assert "(there is no such folder)" in refused(tmp_path / "none")


@pytest.mark.parametrize(
    "content",
    ["<html></html>", CSV, "Ann: Hi.\n", b"\x80\x04N.", gzip.compress(b"x")],
    ids=["page", "csv", "lines", "pickle", "gzip"],
)
def test_what_should_be_conversations(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "conversations.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=r"line 1: .*; it looks like "):
        load_corpus(str(tmp_path))
    path.write_text(LINE + "\nAnn: Hi.", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: not JSON: Expecting value: line 1 column 1 \(char 0\)$"):
        load_corpus(str(tmp_path))
