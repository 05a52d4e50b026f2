"""MELD's CSV files as conversations: ids, splits, words and times, what is wrong, and the feature file beside them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.sources.meld_csv import STATED, is_meld, read_meld_csv
from cmath_jax.data.sources.own import read_folder, write_transcripts
from cmath_jax.data.sources.published import read_published
from cmath_jax.data.sources.schema import Utterance
from cmath_jax.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"
COLUMNS = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
HEAD = [*COLUMNS.split(",")]


def row(dialogue: int, utterance: int, **changes: str) -> dict[str, str]:
    values = ("1", "Hi.", "Joey", "joy", "positive", str(dialogue), str(utterance), "8", "21")
    return dict(zip(HEAD, (*values, "00:16:16,059", "0:16:21,731"), strict=True)) | changes


def put(folder: Path, name: str, *rows: dict[str, str], head: list[str] = HEAD) -> None:
    with open(folder / name, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, head, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(
        tmp_path,
        "train.csv",
        row(2, 1, Utterance="You must\u2019ve, \u201creally\u201d\x92 \u2026", Speaker="The Interviewer"),
        row(0, 3),
        row(2, 0, Emotion="anger"),
        row(10, 0),
    )
    put(tmp_path, "dev.csv", row(0, 0))
    put(tmp_path, "test.csv", row(0, 0, EndTime="00:16:16,59"), row(0, 1, EndTime="00:16:16,060"))
    return tmp_path


def test_ids_and_splits_are_those_of_the_feature_files(folder: Path) -> None:
    found = [(t.id, t.split, [u.id for u in t.utterances]) for t in read_meld_csv(folder)]
    assert found == [
        ("0", "train", ["dia0_utt3"]),
        ("2", "train", ["dia2_utt0", "dia2_utt1"]),
        ("10", "train", ["dia10_utt0"]),
        ("1039", "validation", ["dia0_utt0"]),
        ("1153", "test", ["dia0_utt0", "dia0_utt1"]),
    ]


def test_words_are_as_they_are_and_times_are_seconds(folder: Path) -> None:
    text = "You must\u2019ve, \u201creally\u201d\x92 \u2026"
    transcripts = [*read_meld_csv(folder)]
    assert transcripts[1].utterances == (
        Utterance("Joey", "Hi.", "anger", "dia2_utt0", 976.059, 981.731),
        Utterance("The Interviewer", text, "joy", "dia2_utt1", 976.059, 981.731),
    )
    # An empty span is none, and what follows the comma counts thousandths.
    assert [(u.start, u.end) for u in transcripts[-1].utterances] == [(None, None), (976.059, 976.06)]


def test_clips_are_named_as_they_are_released(folder: Path, tmp_path: Path) -> None:
    found = [u for t in read_meld_csv(folder, tmp_path / "raw", tmp_path / "own") for u in t.utterances]
    assert {(u.start, u.end, u.audio) for u in found} == {(None, None, None)}
    assert [u.video for u in found] == [
        "../raw/train_splits/dia0_utt3.mp4",
        "../raw/train_splits/dia2_utt0.mp4",
        "../raw/train_splits/dia2_utt1.mp4",
        "../raw/train_splits/dia10_utt0.mp4",
        "../raw/dev_splits_complete/dia0_utt0.mp4",
        "../raw/output_repeated_splits_test/dia0_utt0.mp4",
        "../raw/output_repeated_splits_test/dia0_utt1.mp4",
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (row(1, 0, Emotion="Joy"), r"train\.csv, line 2: Emotion is 'Joy', none of neutral, surprise"),
        (row(1, 0, Dialogue_ID="-1"), r"line 2: Dialogue_ID is '-1', not a number"),
        (row(1, 0, Utterance_ID="x"), r"line 2: Utterance_ID is 'x', not a number"),
        (row(1, 0, StartTime="16:16"), r"line 2: StartTime is '16:16', not a time such as"),
        (row(1, 0, EndTime=""), r"line 2: EndTime is '', not a time"),
        (row(1, 0, Speaker=""), None),
    ],
)
def test_rows_that_are_wrong(folder: Path, wrong: dict[str, str], message: str | None) -> None:
    put(folder, "train.csv", wrong)
    if message is None:
        assert next(read_meld_csv(folder)).utterances[0].speaker == ""
        return
    with pytest.raises(InputError, match=message):
        [*read_meld_csv(folder)]


def test_files_that_are_wrong(folder: Path) -> None:
    def fails(message: str) -> None:
        with pytest.raises(InputError, match=message):
            [*read_meld_csv(folder)]

    put(folder, "test.csv", row(3, 1), row(3, 1))
    fails(r"test\.csv, line 3: dialogue 3 has utterance 1 twice")
    put(folder, "test.csv", row(3, 1), head=HEAD[:-1])
    fails(r"test\.csv: it has no column EndTime; MELD's files have Utterance, Speaker")
    (folder / "test.csv").write_text(",".join(HEAD) + "\n1,2\n")
    fails(r"test\.csv, line 2: it has not as many columns as the first line")
    (folder / "test.csv").write_text(",".join(HEAD) + "\n" + ",".join("1" * 12) + "\n")
    fails(r"test\.csv, line 2: it has not as many columns")
    (folder / "test.csv").write_text(",".join(HEAD) + '\n"1')
    fails(r"test\.csv: cannot be read as MELD's CSV: unexpected end of data")
    (folder / "test.csv").write_text(";".join(HEAD) + "\n")
    fails(r"test\.csv: it has no column Utterance; .* \(they are separated by ';', not by commas\)")
    (folder / "test.csv").unlink()
    fails(r"it lacks test\.csv; MELD's files are train\.csv, dev\.csv and test\.csv, or train_sent_emo\.csv")
    (folder / "dev.csv").rename(folder / "Train_sent_emo.CSV")
    fails(r"both Train_sent_emo\.CSV and train\.csv are there: move one of them away")


def test_the_names_of_its_own_repository(folder: Path) -> None:
    expected = [*read_meld_csv(folder)]
    for i, (old, new) in enumerate(
        [("dev.csv", "dev_sent_emo.csv"), ("test.csv", "TEST.CSV"), ("train.csv", "train_sent_emo.csv")]
    ):
        (folder / old).rename(folder / new)
        assert is_meld(folder) and [*read_meld_csv(folder)] == expected, i


def test_what_is_not_utf_8_is_cp1252(folder: Path) -> None:
    words = "It\u2019s a na\u00efve caf\u00e9 \u2026"
    put(folder, "dev.csv", row(0, 0), *(row(0, i, Utterance=words) for i in (1, 2, 3)))
    expected = [*read_meld_csv(folder)]
    lines = (folder / "dev.csv").read_text(encoding="utf-8").split("\n")
    for codecs, warned in (
        (("utf-8", "cp1252", "utf-8"), r"line 4 is not"),  # one such line takes nothing from the others
        (("cp1252", "cp1252", "cp1252"), r"line 3 and 2 more are not"),
    ):
        parts = [line.encode(dict(zip((2, 3, 4), codecs, strict=True)).get(i, "utf-8")) for i, line in enumerate(lines)]
        (folder / "dev.csv").write_bytes(b"\n".join(parts))
        with pytest.warns(UserWarning, match=rf"dev\.csv: {warned} UTF-8, and read as cp1252"):
            assert [*read_meld_csv(folder)] == expected


def test_numbers_without_room_for_the_ids_of_the_feature_files(folder: Path) -> None:
    """As in MELD_Dyadic, whose files have the same columns and more dialogues."""
    put(folder, "dev.csv", row(0, 0), row(114, 0))
    ids = [t.id for t in read_meld_csv(folder)]
    assert ids == ["train_0", "train_2", "train_10", "dev_0", "dev_114", "test_0"]
    put(folder, "dev.csv", row(113, 0))
    put(folder, "train.csv", row(1039, 0))
    assert [t.id for t in read_meld_csv(folder)] == ["train_1039", "dev_113", "test_0"]


def test_the_published_files_agree_with_the_feature_file(tmp_path: Path) -> None:
    features = SHARED / "meld_minilm_simulated_av.pkl"
    if not (SHARED / "meld_csv").is_dir() or not features.is_file():
        pytest.skip(f"{SHARED} has no meld_csv and meld_minilm_simulated_av.pkl")
    own = read_folder(write_transcripts(read_meld_csv(SHARED / "meld_csv"), tmp_path / "meld", STATED))
    corpus = read_published(features)
    assert (own.name, own.classes, own.speakers) == (corpus.name, corpus.classes, corpus.speakers)
    assert [len(own.lines(split)) for split in SPLITS] == [1038, 114, 280]
    assert [sum(len(own.transcripts[c]) for c in own.lines(split)) for split in SPLITS] == [9989, 1109, 2610]
    for split in SPLITS:
        for c, there in zip(own.lines(split), corpus.splits[split], strict=True):
            here = own.conversation(c, {})
            assert (here.id, here.utterance_ids, here.sentences) == (there.id, there.utterance_ids, there.sentences)
            np.testing.assert_array_equal(here.labels, there.labels)
            np.testing.assert_array_equal(here.speakers, there.speakers)
