"""What calls itself MELD or IEMOCAP has the counts of that data set, by whichever way it comes, or is not accepted."""

import csv
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import content, dump
from layouts import corpus as sample
from test_meld_csv import put as put_csv
from test_meld_csv import row

from cmath_jax.config import COUNT_CHECKS as OF_CONFIG
from cmath_jax.data.__main__ import main
from cmath_jax.data.corpus import CLASSES, SPLITS, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.sources import counts
from cmath_jax.data.sources.own import read_folder, read_own, write_own
from cmath_jax.data.sources.published import read_published
from cmath_jax.data.tools.check import check
from cmath_jax.data.tools.convert import convert
from cmath_jax.errors import InputError

MELD_CSV = Path(__file__).parents[3] / "shared" / "data" / "meld_csv"
REFUSED = r"the counts are not those of (meld|iemocap): .*expected \d+, found \d+.* \(check_counts=warn accepts it"


def counts_of(corpus: Corpus) -> tuple[Any, ...]:
    together = (
        (("train",), ("validation",), ("test",)) if corpus.name == "meld" else (("train", "validation"), ("test",))
    )
    return tuple(
        (
            splits,
            sum(len(corpus.splits[split]) for split in splits),
            tuple(map(int, sum(corpus.class_counts(split) for split in splits))),  # type: ignore[arg-type]
        )
        for splits in together
    )


@pytest.fixture(params=["meld", "iemocap"])
def whole(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A small corpus, the counts of which are taken to be those of its data set."""
    corpus = sample(request.param)
    monkeypatch.setitem(counts.COUNTS, corpus.name, counts_of(corpus))
    return corpus


def part(corpus: Corpus) -> Corpus:
    """The same cut after some conversations."""
    return replace(corpus, splits={**corpus.splits, "train": corpus.splits["train"][:-1]})


def own_folder(corpus: Corpus, folder: Path) -> Path:
    """A folder as other programs write it."""
    bare = write_own(replace(corpus, name="bare"), folder)
    stated = json.loads((bare / "corpus.json").read_text())
    (bare / "corpus.json").write_text(json.dumps({**stated, "name": corpus.name}))
    return bare


def pickled(corpus: Corpus, folder: Path) -> Path:
    folder.mkdir()
    return dump(folder / "x.pkl", content("F" if corpus.name == "meld" else "E", corpus))


def load(**options: Any) -> Callable[[Path, str], object]:
    return lambda path, check: load_corpus(
        str(path), check_counts=check, prepared_dir=path.parent / "prepared", **options
    )


READERS: dict[str, tuple[Callable[[Corpus, Path], Path], Callable[[Path, str], object]]] = {
    "pickle": (pickled, lambda path, check: read_published(path, check_counts=check)),
    "pickle, checked": (pickled, lambda path, how: check(path, check_counts=how)),
    "pickle, loaded": (pickled, load()),
    "pickle, streamed": (pickled, load(stream=True)),
    "pickle, to a folder": (pickled, lambda path, how: convert(path, path.parent / "new", check_counts=how)),
    "pickle, to a pickle": (pickled, lambda path, how: convert(path, path.parent / "new.pkl", check_counts=how)),
    "folder": (own_folder, lambda path, check: read_own(path, check_counts=check)),
    "folder, lazily": (own_folder, lambda path, check: read_own(path, lazy=True, check_counts=check)),
    "folder without features": (own_folder, lambda path, check: read_folder(path, check_counts=check)),
    "folder, checked": (own_folder, lambda path, how: check(path, check_counts=how)),
    "folder, loaded": (own_folder, load()),
    "folder, streamed": (own_folder, load(stream=True)),
    "folder, published": (own_folder, lambda path, how: convert(path, path.with_suffix(".pkl"), check_counts=how)),
}


@pytest.mark.parametrize("way", READERS)
def test_every_way_in(tmp_path: Path, whole: Corpus, way: str) -> None:
    put, read = READERS[way]
    read(put(whole, tmp_path / "whole"), "error")
    path = put(part(whole), tmp_path / "part")
    there = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(InputError, match=REFUSED):
        read(path, "error")
    assert {entry.name for entry in tmp_path.iterdir()} - there <= {"prepared"}
    for _ in range(2 if "to a" not in way and "published" not in way else 1):  # also when it is prepared already
        with pytest.warns(UserWarning, match="the counts are not those of"):
            read(path, "warn")
    with pytest.raises(InputError, match="check_counts is 'no'; it can be error or warn"):
        read(path, "no")


def test_whatever_the_name_is_written_like(tmp_path: Path, whole: Corpus) -> None:
    for i, name in enumerate((whole.name.upper(), f" {whole.name.title()} ")):
        folder = own_folder(replace(part(whole), name=name), tmp_path / str(i))
        with pytest.raises(InputError, match=REFUSED):
            read_own(folder)
    shutil.copytree(folder, tmp_path / whole.name)
    (tmp_path / whole.name / "corpus.json").unlink()  # then it is called as its folder
    with pytest.raises(InputError, match=REFUSED):
        read_own(tmp_path / whole.name)
    (tmp_path / whole.name).rename(tmp_path / "mine")
    read_own(tmp_path / "mine")


def test_other_classes_are_other_counts(tmp_path: Path, whole: Corpus) -> None:
    classes = (*whole.classes[:-1], "netural")
    with pytest.raises(InputError, match=r"(train|validation) netural: expected 0, found [12]"):
        read_own(own_folder(replace(whole, classes=classes), tmp_path / "own"))
    turned = replace(whole, classes=whole.classes[::-1])
    flipped = {s: [replace(c, labels=len(whole.classes) - 1 - c.labels) for c in whole.splits[s]] for s in SPLITS}
    read_own(own_folder(replace(turned, splits=flipped), tmp_path / "turned"))  # the order of classes is one's own


def test_a_folder_that_is_accepted_for_good(tmp_path: Path, whole: Corpus) -> None:
    """What is written with `warn` notes it, so that `check` accepts it as it stands, and says what is missing."""
    with pytest.raises(InputError, match=REFUSED):
        write_own(part(whole), tmp_path / "own")
    assert not (tmp_path / "own").exists()
    folder = write_own(replace(part(whole), name=whole.name.upper()), tmp_path / "own", check_counts="warn")
    assert json.loads((folder / "corpus.json").read_text())["check_counts"] == "warn"
    for stream in (False, True, True):
        with pytest.warns(UserWarning, match="the counts are not those of"):
            load_corpus(str(folder), stream=stream, prepared_dir=tmp_path / "prepared")
    with pytest.warns(UserWarning, match="the counts are not those of"):
        assert ": sound\n" in check(folder)
    right = write_own(whole, tmp_path / "right", check_counts="warn")
    assert "check_counts" not in json.loads((right / "corpus.json").read_text())
    (right / "corpus.json").write_text('{"check_counts": "never"}')
    with pytest.raises(InputError, match=r"corpus\.json: \"check_counts\" is 'never'; it can be error or warn"):
        read_own(right)


def test_classes_of_meld_under_another_name(tmp_path: Path, whole: Corpus) -> None:
    """It is one's own as a folder, but in the layout of published files it would be MELD."""
    folder = write_own(replace(part(whole), name="mine"), tmp_path / "mine")
    check(folder)
    with pytest.raises(InputError, match=REFUSED):
        convert(folder, tmp_path / "mine.pkl")
    convert(folder, tmp_path / "mine.pkl", check_counts="warn")
    with pytest.warns(UserWarning, match="the counts are not those of"):
        read_published(tmp_path / "mine.pkl", check_counts="warn")


def test_unlabelled_utterances_are_utterances(tmp_path: Path, whole: Corpus) -> None:
    bare = {**whole.splits, "test": [replace(c, labels=np.full_like(c.labels, -1)) for c in whole.splits["test"]]}
    with pytest.raises(InputError, match=REFUSED) as error:
        read_own(own_folder(replace(whole, splits=bare), tmp_path / "own"))
    assert "test utterances" not in str(error.value) and "test conversations" not in str(error.value)
    assert "found 0" in str(error.value)


def test_the_options_are_those_of_the_config() -> None:
    assert OF_CONFIG == counts.COUNT_CHECKS


# MELD's CSV files.


@pytest.fixture
def meld_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of them, of which the counts are taken to be those of MELD."""
    folder = tmp_path / "csv"
    folder.mkdir()
    for name, dialogues in (("train", 3), ("dev", 2), ("test", 2)):
        rows = [row(d, u, Emotion=CLASSES["meld"][(d + u) % 7]) for d in range(dialogues) for u in range(d + 1)]
        put_csv(folder, f"{name}.csv", *rows)
    with monkeypatch.context() as free:
        free.setitem(counts.COUNTS, "meld", ())
        convert(folder, tmp_path / "known")
        own = read_folder(tmp_path / "known")
    labels = own.labels()
    known = tuple(
        ((s,), len(labels[s]), tuple(np.bincount(np.concatenate(labels[s]), minlength=7).tolist())) for s in SPLITS
    )
    shutil.rmtree(tmp_path / "known")
    monkeypatch.setitem(counts.COUNTS, "meld", known)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([*map(str, arguments)])
    out, errors = capsys.readouterr()
    return code, out, errors


def test_csv_files_with_a_part_of_meld(tmp_path: Path, meld_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own"
    assert run(capsys, "convert", meld_csv, own) == (0, f"written: {own}\n", "")
    assert run(capsys, "check", own)[::2] == (0, "")
    whole = (meld_csv / "train.csv").read_text().splitlines(keepends=True)
    (meld_csv / "train.csv").write_text("".join(whole[:-1]))
    code, out, errors = run(capsys, "convert", meld_csv, tmp_path / "cut")
    assert (code, out) == (2, "") and errors.count("\n") == 1
    assert errors.startswith(
        f"error: {meld_csv}: the counts are not those of meld: train utterances: expected 6, found 5"
    )
    assert "--check-counts=warn" in errors and not (tmp_path / "cut").exists()
    with pytest.warns(UserWarning, match=r"csv: the counts are not those of meld: train utterances"):
        assert run(capsys, "convert", meld_csv, tmp_path / "cut", "--check-counts=warn")[0] == 0
    with pytest.warns(UserWarning, match=r"cut: the counts are not those of meld: train utterances"):
        assert run(capsys, "check", tmp_path / "cut")[0] == 0


def test_csv_files_of_other_dialogues(tmp_path: Path, meld_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As MELD_Dyadic's: there are numbers for which the ids of the feature files have no room."""
    put_csv(meld_csv, "train.csv", *(row(d, 0) for d in (0, 1039, 1153, 2000)))
    put_csv(meld_csv, "dev.csv", *(row(d, 0) for d in (0, 114, 900)))
    put_csv(meld_csv, "test.csv", *(row(0, u, Speaker=f"S{u}") for u in range(12)))  # and more speakers
    assert run(capsys, "convert", meld_csv, tmp_path / "own")[0] == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["csv"]
    with pytest.warns(UserWarning, match="the counts are not those of meld"):
        assert run(capsys, "convert", meld_csv, tmp_path / "own", "--check-counts=warn")[0] == 0
        assert run(capsys, "check", tmp_path / "own")[0] == 0


rows_of_a_file = st.lists(
    st.builds(
        row,
        st.integers(0, 1200) | st.integers(0, 3),
        st.integers(0, 3),
        Speaker=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=3),
        Utterance=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        Emotion=st.sampled_from([*CLASSES["meld"], "netural"]) | st.just("joy"),
        StartTime=st.sampled_from(["00:16:16,059", "0:16:23,1", "16:16"]) | st.just("00:00:00,000"),
    ),
    max_size=6,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.tuples(rows_of_a_file, rows_of_a_file, rows_of_a_file), st.sampled_from(["error", "warn"]), st.booleans())
def test_whatever_is_converted_is_sound(
    tmp_path: Path, files: tuple[list[dict[str, str]], ...], how: str, known: bool
) -> None:
    """Either nothing is written, or what `check` accepts without an option."""
    folder, target = tmp_path / "csv", tmp_path / "own"
    folder.mkdir(exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    for name, rows in zip(("train", "dev", "test"), files, strict=True):
        put_csv(folder, f"{name}.csv", *rows)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        if known:
            patch.setitem(counts.COUNTS, "meld", ())
        try:
            convert(folder, target, check_counts=how)
        except InputError:
            assert [entry.name for entry in tmp_path.iterdir()] == ["csv"]
        else:
            assert ": sound\n" in check(target)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["cmath_jax.data", "launch"])
def test_a_warning_is_a_line(tmp_path: Path, module: str) -> None:
    folder = own_folder(sample("meld"), tmp_path / "own")
    arguments = {
        "cmath_jax.data": ["check", str(folder), "--check-counts=warn"],
        "launch": [
            *("--config", "experiments/conversations.py", f"--config.data.dir={folder}", "--workdir", str(tmp_path)),
            *("--config.data.check_counts=warn", "--config.data.validation=drawn"),  # which there is already
        ],
    }
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", module, *arguments[module]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    first, *others = done.stderr.splitlines()
    assert first.startswith(f"warning: {folder}: the counts are not those of meld: train conversations: expected 1038")
    assert not [line for line in others if "Warning" in line or line.startswith(" ")]


@pytest.mark.slow
def test_the_real_csv_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not MELD_CSV.is_dir():
        pytest.skip(f"there is no {MELD_CSV}")
    assert run(capsys, "convert", MELD_CSV, tmp_path / "meld")[::2] == (0, "")
    assert run(capsys, "check", tmp_path / "meld")[1].startswith("meld: sound\n")
    own_names = tmp_path / "own names"
    own_names.mkdir()
    for name in ("train", "dev", "test"):
        shutil.copy(MELD_CSV / f"{name}.csv", own_names / f"{name}_sent_emo.csv")
    assert run(capsys, "convert", own_names, tmp_path / "again")[::2] == (0, "")
    for name in ("conversations.jsonl", "corpus.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "meld" / name).read_bytes()
    with open(own_names / "train_sent_emo.csv", encoding="utf-8-sig", newline="") as file:
        rows = [*csv.reader(file)]
    with open(own_names / "train_sent_emo.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows[:3001])
    code, out, errors = run(capsys, "convert", own_names, tmp_path / "cut")
    assert (code, out) == (2, "") and "train utterances: expected 9989, found 3000" in errors
