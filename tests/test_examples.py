"""examples/talk: sound, trainable, small, and its recordings are as long as its utterances say."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cmath_jax.data.__main__ import main
from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.sources.own import CONVERSATIONS, read_folder
from cmath_jax.data.sources.schema import Transcript
from cmath_jax.data.sources.transcripts import from_lines, read_transcripts

EXAMPLES = Path(__file__).parents[1] / "examples"
TALK, GALLERY = EXAMPLES / "talk", EXAMPLES / "gallery.jsonl"


def recordings() -> Iterator[tuple[Path, Transcript]]:
    for path in (TALK / CONVERSATIONS, GALLERY):
        for transcript in read_transcripts(path):
            for name in {u.audio for u in transcript.utterances if u.audio is not None}:
                yield path.parent / name, transcript


def test_every_split_has_every_label() -> None:
    folder = read_folder(TALK)
    for split in SPLITS:
        labels = [u.label for c in folder.lines(split) for u in folder.transcripts[c].utterances]
        counts = [labels.count(name) for name in folder.classes]
        assert len(counts) >= 2 and min(counts) >= 3


def test_with_features_it_is_sound_and_trainable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = read_folder(TALK)
    shutil.copytree(TALK, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.npz", "features.json", ".*"))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "text.npz", **{t.id: rng.normal(size=(len(t), 4)) for t in folder.transcripts})
    assert main(["check", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "talk: sound\n" in said and "not yet" not in said
    assert f"recordings named: {len(folder.transcripts)}; not there: 0" in said


def test_utterances_lie_in_their_recordings_one_after_another() -> None:
    soundfile = pytest.importorskip("soundfile", reason="requirements-serve.txt is not installed")
    found = [*recordings()]
    assert len(found) == 22
    for path, transcript in found:
        recording = soundfile.info(str(path))
        assert (recording.samplerate, recording.channels) == (16_000, 1)
        spans = [(u.start or 0.0, u.end or recording.duration) for u in transcript.utterances if u.audio is not None]
        edges = [edge for span in spans for edge in span]
        assert edges == sorted(edges) and edges[-1] <= recording.duration + 0.01
        assert all(end - start > 0.3 for start, end in spans)


def test_it_is_small() -> None:
    named = {path for path, _ in recordings()}
    there = {path for path in EXAMPLES.rglob("*.ogg")}
    assert there == named  # none is without an utterance
    assert sum(path.stat().st_size for path in there) < 500_000


def test_the_words_of_the_gallery_are_those_of_its_recording() -> None:
    (spoken,) = read_transcripts(GALLERY)
    written = from_lines(GALLERY.with_suffix(".txt").read_text(encoding="utf-8"), spoken.id)
    assert [(u.speaker, u.text) for u in written.utterances] == [(u.speaker, u.text) for u in spoken.utterances]
