"""An encoder that is trained on labels knows them, is the same from the same seed, and never sees those of the test."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from extraction import complete_torchvision, conversation, tiny_encoder, write_conversations  # noqa: E402

complete_torchvision()
pytest.importorskip("transformers", reason="requirements-extract.txt is not installed")

from cmath_jax.data.sources.schema import Transcript, Utterance  # noqa: E402
from cmath_jax.errors import InputError  # noqa: E402
from cmath_jax.extract import make_extractor  # noqa: E402
from cmath_jax.extract.__main__ import main  # noqa: E402
from cmath_jax.extract.encoders import Encoder  # noqa: E402
from cmath_jax.extract.finetune import Training, batches, finetune  # noqa: E402

TRAINING = Training(epochs=6, rate=1e-3, head_rate=1e-2, batch=8)


def talks(split: str, count: int, flip: bool = False) -> list[Transcript]:
    """Conversations in which `happy` is said with joy and `sad` with sadness, and one utterance without a label."""
    generator = np.random.default_rng(len(split))
    found = []
    for c in range(count):
        utterances = [Utterance("Ann", "what is this ?")]
        for _ in range(4):
            word, label = [("happy", "joy"), ("sad", "sadness")][generator.integers(2)]
            label = {"joy": "sadness", "sadness": "joy"}[label] if flip else label
            utterances.append(Utterance("Bob", f"i am {generator.choice(['so', 'very', 'today'])} {word}", label))
        found.append(conversation(*utterances, id=f"{split}{c}", split=split))
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_conversations(tmp_path / "own", talks("train", 20) + talks("validation", 6) + talks("test", 6))


def hash_of(encoder: Path) -> str:
    return str(make_extractor("t", {"encoder": str(encoder)}).settings["weights_hash"])


def test_what_was_trained_is_kept_scored_and_loaded_as_it_was_trained(folder: Path, tiny: str, tmp_path: Path) -> None:
    record = finetune(folder, {"encoder": tiny, "pooling": "mean", "max_tokens": 16}, tmp_path / "out", TRAINING, "cpu")
    assert record == json.loads((tmp_path / "out" / "finetuning.json").read_text())
    assert record["utterances"] == {"train": 80, "validation": 24, "test": 24}  # the unlabelled are not counted
    assert record["scores"]["test"]["weighted_f1"] > 95 and record["scores"]["validation"]["weighted_f1"] > 95
    best = max(row["validation"]["weighted_f1"] for row in record["history"])
    assert record["scores"]["validation"]["weighted_f1"] == best
    extractor = make_extractor("t", {"encoder": str(tmp_path / "out")})
    assert (extractor.settings["pooling"], extractor.settings["max_tokens"]) == ("mean", 16)
    assert extractor.settings["weights_hash"] != record["settings"]["weights_hash"]
    # What tells the emotions apart has grown, beside what does not.
    words = [conversation(Utterance("Ann", f"i am {word}")) for word in ("so happy", "so sad", "very happy")]
    ratios = []
    for each in (make_extractor("t", {"encoder": tiny, "pooling": "mean"}), extractor):
        happy_d, sad_d, very_d = (x_nd[0] for x_nd in each.features(words, folder).features)
        ratios.append(np.linalg.norm(happy_d - sad_d) / np.linalg.norm(happy_d - very_d))
    assert ratios[1] > 1.2 * ratios[0]


def test_the_best_epoch_is_the_one_that_is_kept(
    folder: Path, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    f1s = iter([10.0, 50.0, 50.0, 20.0, 50.0, 0.0])  # of four epochs, then of validation and test at the end
    seen: list[dict[str, Any]] = []

    def scores(encoder: Encoder, *rest: Any) -> dict[str, float]:
        seen.append({name: x.clone() for name, x in encoder.model.state_dict().items()})
        return {"weighted_f1": next(f1s), "accuracy": 0.0}

    monkeypatch.setattr("cmath_jax.extract.finetune._scores", scores)
    record = finetune(folder, {"encoder": tiny}, tmp_path / "out", replace(TRAINING, epochs=4), "cpu")
    assert record["epoch"] == 2  # the first of those that are equal
    kept = Encoder({"encoder": str(tmp_path / "out")}, "cpu").model.state_dict()
    same = [all(torch.equal(x, weights[name]) for name, x in kept.items()) for weights in seen]
    assert same == [False, True, False, False, True, True]  # and it is the one that is scored


def test_the_seed_decides_all_and_the_test_labels_nothing(folder: Path, tiny: str, tmp_path: Path) -> None:
    one = Training(epochs=1, rate=1e-3, batch=8)
    finetune(folder, {"encoder": tiny}, tmp_path / "first", one, "cpu")
    torch.manual_seed(77)  # whatever was drawn before
    finetune(folder, {"encoder": tiny}, tmp_path / "again", one, "cpu")
    assert hash_of(tmp_path / "first") == hash_of(tmp_path / "again")
    finetune(folder, {"encoder": tiny}, tmp_path / "other", Training(epochs=1, rate=1e-3, batch=8, seed=1), "cpu")
    assert hash_of(tmp_path / "first") != hash_of(tmp_path / "other")
    write_conversations(folder, talks("train", 20) + talks("validation", 6) + talks("test", 6, flip=True))
    finetune(folder, {"encoder": tiny}, tmp_path / "flipped", one, "cpu")
    assert hash_of(tmp_path / "first") == hash_of(tmp_path / "flipped")


def test_every_text_is_in_one_batch_beside_texts_of_its_length() -> None:
    texts = ["x" * n for n in np.random.default_rng(0).integers(1, 100, 333)]
    drawn = batches(texts, 8, np.random.default_rng(1))
    assert sorted(np.concatenate(drawn).tolist()) == list(range(333)) and max(map(len, drawn)) == 8
    widths = [np.ptp([len(texts[i]) for i in batch]) for batch in drawn]
    assert np.mean(widths) < 10  # at random it would be 80
    assert len(texts[drawn[0][0]]) > 2 or len(texts[drawn[1][0]]) > 2  # not the shortest first


@pytest.mark.slow
def test_the_command_line_prints_scores_and_overwrites_nothing(
    folder: Path, tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "encoders" / "out"  # as other commands, it makes the folders above it
    command = ["finetune", str(folder), f"--text={tiny}", "--context=1", "--epochs=1", "-o", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "validation: weighted F1" in said and "test: weighted F1" in said
    assert make_extractor("t", {"encoder": str(out)}).settings["context"] == 1
    before = hash_of(out)
    assert main([*command, "--seed=1"]) == 2
    assert "exists already" in capsys.readouterr().err and hash_of(out) == before


def test_what_cannot_be_trained_on_is_explained(folder: Path, tiny: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is no folder"):
        finetune(folder, {"encoder": tiny}, tmp_path / "file" / "encoders" / "out", TRAINING)
    with pytest.raises(InputError, match="--epochs 0"):
        finetune(folder, {"encoder": tiny}, out, Training(epochs=0))
    with pytest.raises(InputError, match="unknown setting"):
        finetune(folder, {"encodr": tiny}, out, TRAINING)
    write_conversations(folder, talks("train", 2))
    with pytest.raises(InputError, match="split validation has no labelled utterance"):
        finetune(folder, {"encoder": tiny}, out, TRAINING)
    assert not out.exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["cmath_jax.extract.finetune._train", "cmath_jax.extract.encoders.Encoder.save"])
def test_a_training_that_fails_leaves_no_trace(
    folder: Path, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    def fails(*arguments: Any) -> None:
        raise error

    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr("cmath_jax.extract.finetune._train", lambda *arguments: [])
    monkeypatch.setattr(name, fails)
    command = ["finetune", str(folder), f"--text={tiny}", "-o", str(tmp_path / "out"), "--device=cpu"]
    monkeypatch.setattr("cmath_jax.extract.finetune.max", lambda rows, key: {"epoch": 1}, raising=False)
    assert main(command) == (1 if isinstance(error, OSError) else 130)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_that_an_encoder_cannot_be_written_is_known_before_it_is_trained(
    folder: Path, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("cmath_jax.extract.finetune._train", None)
    monkeypatch.setattr(Path, "mkdir", full)
    assert main(["finetune", str(folder), f"--text={tiny}", "-o", str(tmp_path / "out")]) == 2
    assert f"{tmp_path / 'out'}: cannot be written: Read-only file system" in capsys.readouterr().err
