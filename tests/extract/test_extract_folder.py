"""The command line writes feature files that are whole, computes nothing twice, and goes on where it was stopped."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from extraction import complete_torchvision, conversation, tiny_encoder, voice, write_conversations  # noqa: E402

complete_torchvision()
REASON = "requirements-extract.txt is not installed"
pytest.importorskip("transformers", reason=REASON)
soundfile = pytest.importorskip("soundfile", reason=REASON)
pytest.importorskip("opensmile", reason=REASON)

from cmath_jax.data.sources.schema import Utterance  # noqa: E402
from cmath_jax.errors import InputError  # noqa: E402
from cmath_jax.extract.__main__ import main  # noqa: E402
from cmath_jax.extract.encoders import Encoder  # noqa: E402
from cmath_jax.extract.folder import extract_folder  # noqa: E402
from cmath_jax.io import waiting  # noqa: E402
from cmath_jax.io.lock import held  # noqa: E402


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    talks = [
        conversation(Utterance("Ann", "so sad"), Utterance("Bob", audio="b.wav"), id="file", split="train"),
        conversation(Utterance("Ann", "no !", audio="a.wav"), id="a/b", split="train"),
        conversation(Utterance("Ann"), Utterance("Bob"), id="nothing", split="test"),
    ]
    folder = write_conversations(tmp_path / "own", talks)
    soundfile.write(folder / "a.wav", voice(), 16_000)
    (folder / "b.wav").write_text("broken")
    return folder


def run(folder: Path, *options: str) -> int:
    return main([str(folder), f"--cache={folder.parent / 'cache'}", "--workers=0", "--device=cpu", *options])


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_the_folder_gets_the_features_and_how_they_were_made(
    folder: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "visual.npz").write_bytes(b"mine")
    (folder / "features.json").write_text('{"visual": {"mine": 1}, "text": {"old": 1}}')
    assert run(folder, f"--text={tiny}", "--pooling=mean", "--audio=eGeMAPSv02") == 0
    text, audio = arrays(folder / "text.npz"), arrays(folder / "audio.npz")
    for found, dim, there in ((text, 16, [[1, 0], [1], [0, 0]]), (audio, 88, [[0, 0], [1], [0, 0]])):
        assert list(found) == ["file", "a/b", "nothing"]
        for x_nd, present_n in zip(found.values(), there, strict=True):
            assert x_nd.dtype == np.float32 and x_nd.shape == (len(present_n), dim)
            assert np.isfinite(x_nd).all(1).tolist() == [bool(x) for x in present_n]
            assert np.isnan(x_nd).all(1).tolist() == [not x for x in present_n]
    settings = json.loads((folder / "features.json").read_text())
    assert settings["visual"] == {"mine": 1} and (folder / "visual.npz").read_bytes() == b"mine"
    assert settings["text"]["pooling"] == "mean" and settings["text"]["weights_hash"]
    assert settings["audio"]["set"] == "eGeMAPSv02"
    said = capsys.readouterr()
    assert "text: 5 utterances, 16 features, 3 lack it" in said.out
    assert "audio: 5 utterances, 88 features, 4 lack it (1 for the reasons above)" in said.out
    assert "conversation 'file', utterance 1:" in said.err and "b.wav" in said.err


def test_the_corpus_that_is_read_has_these_features_and_settings(folder: Path, tiny: str) -> None:
    (folder / "corpus.json").write_text('{"classes": ["joy", "anger"]}')
    assert run(folder, f"--text={tiny}") == 0
    from cmath_jax.data.sources.own import read_own

    corpus = read_own(folder)
    assert corpus.extraction["t"]["weights_hash"]
    np.testing.assert_array_equal(corpus.splits["train"][0].features["t"], arrays(folder / "text.npz")["file"])


class ComputedAgainError(BaseException):
    """Not an Exception, which would make a recording missing."""


def test_a_second_run_computes_nothing(folder: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(folder, f"--text={tiny}", "--audio=eGeMAPSv02") == 0
    expected = {name: arrays(folder / f"{name}.npz") for name in ("text", "audio")}

    def never(*arguments: Any) -> Any:
        raise ComputedAgainError

    monkeypatch.setattr(Encoder, "__call__", never)
    monkeypatch.setattr("cmath_jax.extract.audio.read_sound", never)
    (folder / "a.wav").rename(folder / "moved.wav")  # by its content it is the same
    lines = (folder / "conversations.jsonl").read_text().replace("a.wav", "moved.wav")
    (folder / "conversations.jsonl").write_text(lines)
    assert run(folder, f"--text={tiny}", "--audio=eGeMAPSv02") == 0
    for name, found in expected.items():
        for id, x_nd in arrays(folder / f"{name}.npz").items():
            np.testing.assert_array_equal(x_nd, found[id])
    with pytest.raises(ComputedAgainError):
        run(folder, f"--text={tiny}", "--pooling=mean")  # other settings, other features
    soundfile.write(folder / "moved.wav", voice(pitch=200.0), 16_000)
    with pytest.raises(ComputedAgainError):
        run(folder, "--audio=eGeMAPSv02")


def test_an_interrupted_run_goes_on_and_leaves_no_half_file(
    folder: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    encode = Encoder.__call__

    def once(self: Encoder, texts: list[str]) -> Any:
        if seen:
            raise KeyboardInterrupt
        seen.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(Encoder, "__call__", once)
    assert run(folder, f"--text={tiny}", "--batch=1") == 130
    assert "goes on" in capsys.readouterr().err
    assert not list(folder.glob("*.npz")) and not (folder / "features.json").exists()
    rest: list[str] = []

    def record(self: Encoder, texts: list[str]) -> Any:
        rest.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(Encoder, "__call__", record)
    assert run(folder, f"--text={tiny}", "--batch=1") == 0
    assert sorted(seen + rest) == ["no !", "so sad"] and len(seen) == len(rest) == 1


def test_features_whose_writing_fails_leave_those_that_were_there(
    folder: Path, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(folder, f"--text={tiny}") == 0
    before = (folder / "text.npz").read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cmath_jax.extract.folder.append_array", full)
    with pytest.raises(InputError, match="No space left"):
        list(extract_folder(folder, {"t": {"encoder": tiny, "pooling": "mean"}}))
    assert (folder / "text.npz").read_bytes() == before
    assert json.loads((folder / "features.json").read_text())["text"]["pooling"] == "first"
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    "name",
    ["cmath_jax.extract.folder._write_settings", "pathlib.Path.replace", "cmath_jax.extract.folder._write_features"],
)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_extraction_that_fails_leaves_no_trace(
    folder: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    def fails(*arguments: Any) -> None:
        raise error

    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr(name, fails)
    assert run(folder, f"--text={tiny}") == (1 if isinstance(error, OSError) else 130)
    assert sorted(path.name for path in folder.iterdir()) == before
    monkeypatch.undo()
    assert run(folder, f"--text={tiny}") == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "features.json", "text.npz"])


def test_that_a_folder_cannot_be_written_is_known_before_anything_is_computed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*arguments: Any, **named: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("cmath_jax.extract.folder.TemporaryFile", never)
    assert run(folder, "--text=/nowhere") == 2
    assert f"{folder}: features cannot be written there: Read-only file system" in capsys.readouterr().err


def test_who_waits_for_another_extraction_says_so(
    folder: Path, tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "FIRST", 0.05)
    order: list[str] = []
    said = ""
    with ThreadPoolExecutor(1) as pool:
        with held(folder):
            second = pool.submit(lambda: (run(folder, f"--text={tiny}"), order.append("second")))
            deadline = time.monotonic() + 60
            while "waiting" not in said and time.monotonic() < deadline:
                time.sleep(0.01)
                said += capsys.readouterr().err
            order.append("first")
        second.result(timeout=60)
    assert order == ["first", "second"] and not (folder / ".lock").exists()
    assert said.count("waiting for another process that is at work in") == 1 and str(folder) in said


def test_many_that_wait_write_one_after_the_other(folder: Path) -> None:
    inside: list[int] = []

    def once(i: int) -> None:
        with held(folder):
            inside.append(i)
            time.sleep(0.01)
            assert inside.pop() == i and not inside

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(24)))
    assert not (folder / ".lock").exists()


def test_what_is_used_and_should_be_known_is_a_note(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = conversation(Utterance("Ann", "no", audio="a.wav", end=9.0), Utterance("Ann", "no", audio="nowhere.wav"))
    assert run(write_conversations(folder, [talk]), "--audio=eGeMAPSv02") == 0
    said = capsys.readouterr()
    assert "note: conversation 'c', utterance 0: a.wav: it ends after 2.00 s, before the end of the cut" in said.err
    assert "missing: conversation 'c', utterance 1: nowhere.wav: cannot be read" in said.err
    assert "1 lack it (1 for the reasons above)" in said.out


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (PermissionError(13, "Permission denied", "/some/file"), 2, "features of DIR: /some/file: Permission denied"),
        (OSError(24, "Too many open files"), 1, "features of DIR: Too many open files"),
        (MemoryError(), 2, "there is not enough memory; a smaller --batch"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 2, "there is not enough memory"),
    ],
)
def test_errors_of_the_system_are_a_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    words: str,
) -> None:
    def fails(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("cmath_jax.extract.folder.make_extractor", fails)
    assert run(folder, "--text=minilm") == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words.replace("DIR", str(folder)) in line


def test_that_nothing_can_be_printed_is_said_with_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run(folder, "--audio=eGeMAPSv02") == 1
        monkeypatch.undo()
    assert "error: writing to standard output: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to extract"),
        (["--pooling=mean"], "options of text, but no --text"),
        (["--text=/nowhere"], "no encoder /nowhere"),
        (["--video="], "weights is missing"),
        (["--txt"], "unrecognized arguments: --txt"),
        (["--text", "--layer=x"], "--layer"),
        (["--text", "--workers=-1"], "--workers -1"),
    ],
)
def test_wrong_options_are_explained(
    folder: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error


def test_folders_that_cannot_be_used_are_explained(
    folder: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.wav").write_text("broken too")
    cases = [(tmp_path / "nowhere", "--text=" + tiny, "conversations.jsonl is not there")]
    cases += [(folder, "--audio", "none of 5 utterances has audio; the first of 2 problems")]
    cases += [(write_conversations(tmp_path / "empty", []), "--text=" + tiny, "no conversations")]
    twice = [conversation(Utterance("Ann", "no"))] * 2
    same = "line 2, conversation 'c': the same id is also in line 1"
    cases += [(write_conversations(tmp_path / "twice", twice), "--text=" + tiny, same)]
    old = write_conversations(tmp_path / "old", twice[:1])
    np.save(old / "text.npy", np.zeros((1, 2)))
    cases += [(old, "--text=" + tiny, "text.npy is there already")]
    damaged = write_conversations(tmp_path / "damaged", twice[:1])
    (damaged / "features.json").write_text("{")
    cases += [(damaged, "--text=" + tiny, "features.json")]
    for place, option, words in cases:
        assert run(place, option) == 2
        assert words in capsys.readouterr().err
        assert not list(place.glob("*.npz"))


@pytest.mark.slow
def test_help_and_wrong_options_load_no_library() -> None:
    program = (
        "import sys; from cmath_jax.extract.__main__ import main; code = main(['nowhere', '--text']);"
        "print(code, sorted({'torch', 'jax', 'transformers', 'opensmile', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "2 []"
