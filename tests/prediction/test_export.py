"""The exported program: the numbers of the live model, in a process that has no code of this project."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from samples import tiny

from cmath_jax.data.corpus import Conversation
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import InputError
from cmath_jax.export import main
from cmath_jax.prediction import run_exported
from cmath_jax.prediction.export import export
from cmath_jax.prediction.predictor import Predictor
from cmath_jax.training.fit import fit

OPTIONS: dict[str, dict[str, Any]] = {
    "cmath": {"data__modalities": "tav", "model__kernel": 3},
    "causal": {"model__causal": True, "data__modalities": "tv"},
    "sdt": {"model__name": "sdt"},
    "bfloat16": {"precision": "bfloat16", "data__modalities": "t"},
}


def inputs_of(features: list[Mapping[str, np.ndarray]], speakers: list[np.ndarray]) -> tuple[Any, ...]:
    """What the artefact takes, from the features m -> [n, d_m] and the speakers [n] of conversations."""
    length = max(map(len, speakers))

    def padded(rows: list[np.ndarray], fill: float) -> np.ndarray:
        return np.stack(
            [np.pad(x, [(0, length - len(x)), *[(0, 0)] * (x.ndim - 1)], constant_values=fill) for x in rows]
        )

    stacked = {m: padded([x[m] for x in features], 0.0).astype(np.float32) for m in features[0]}
    valid = padded([np.ones(len(x), bool) for x in speakers], False)
    return stacked, padded(speakers, 0).astype(np.int32), valid


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    for name, options in OPTIONS.items():
        fit(tiny(train__epochs=1, **options), folder / name)
        export(folder / name, folder / f"{name}_exported")
    return {name: folder / name for name in OPTIONS}


@pytest.fixture(scope="module")
def talks() -> list[Conversation]:
    """One of them with a gap in its text."""
    found = list(load_corpus("simulated", simulation=tiny().data.simulation).splits["test"])
    text = found[1].features["t"].copy()
    text[0] = np.nan
    found[1] = replace(found[1], features={**found[1].features, "t": text})
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_it_gives_the_numbers_of_the_live_model(runs: dict[str, Path], talks: list[Conversation], name: str) -> None:
    """Any batch, any length, padded, with a gap; also for a modality that nobody has."""
    predictor = Predictor.load(runs[name])
    exported = jax.export.deserialize(bytearray((runs[name].parent / f"{name}_exported/model.stablehlo").read_bytes()))
    if name == "bfloat16":
        talks = talks[:1] + talks[2:]
    for group in (talks, talks[:1], talks[2:3] * 5):
        features = [{m: talk.features[m] for m in predictor.modalities} for talk in group]
        probability, uncertainty = exported.call(*inputs_of(features, [talk.speakers for talk in group]))
        for i, predictions in enumerate(predictor.predict_features(group)):
            expected = [[*p.probabilities.values()] for p in predictions]
            tolerance = 2e-2 if name == "bfloat16" else 1e-5
            np.testing.assert_allclose(probability[i, : len(predictions)], expected, atol=tolerance)
            np.testing.assert_allclose(
                uncertainty[i, : len(predictions)], [p.uncertainty for p in predictions], atol=0.05 + tolerance
            )


@pytest.mark.slow
def test_it_runs_without_this_project(runs: dict[str, Path], talks: list[Conversation], tmp_path: Path) -> None:
    """In a process of its own, where importing the project or Flax fails."""
    folder = (runs["cmath"].parent / "cmath_exported").rename(tmp_path / "given away")
    (tmp_path / "cmath_jax.py").write_text("raise ImportError('not here')")
    (tmp_path / "flax.py").write_text("raise ImportError('not here')")
    talk = talks[0]
    np.savez(tmp_path / "talk.npz", speakers=talk.speakers, **{m: talk.features[m] for m in "tav"})
    command = [sys.executable, str(folder / "example.py"), str(tmp_path / "talk.npz"), "-o", str(tmp_path / "out.npz")]
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin", "JAX_PLATFORMS": "cpu", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (expected,) = Predictor.load(runs["cmath"]).predict_features([talk])
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == [p.label for p in expected]
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_allclose(out["probability"], [[*p.probabilities.values()] for p in expected], atol=1e-5)
    np.savez(tmp_path / "long.npz", speakers=np.zeros(513), **{m: np.zeros((513, 5)) for m in "tav"})
    done = subprocess.run(
        [*command[:2], str(tmp_path / "long.npz")], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2 and "513 utterances; the model takes 512" in done.stderr
    record = json.loads((folder / "model.json").read_text())
    assert record["format"] == 1 and record["modalities"] == {"t": 9, "a": 6, "v": 5} and record["classes"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["causal", "sdt", "bfloat16"])
def test_the_example_runs_as_the_docs_say(
    name: str, runs: dict[str, Path], talks: list[Conversation], tmp_path: Path
) -> None:
    folder, talk = runs[name].parent / f"{name}_exported", talks[0]
    modalities = json.loads((folder / "model.json").read_text())["modalities"]
    np.savez(tmp_path / "features.npz", speakers=talk.speakers.tolist(), **{m: talk.features[m] for m in modalities})
    command = [sys.executable, str(folder / "example.py"), str(tmp_path / "features.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (expected,) = Predictor.load(runs[name]).predict_features([talk])
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == [p.label for p in expected]


RECORD = {"modalities": {"t": 3, "a": 2}, "longest": 512, "classes": ["x", "y"]}
GIVEN: dict[str, Any] = {"speakers": [0, 1], "t": np.ones((2, 3)), "a": np.ones((2, 2))}


def test_the_example_takes_numbers_of_any_type(tmp_path: Path) -> None:
    for kind in ("float32", "float64", "float16", "int64"):
        np.savez(tmp_path / "f.npz", **{name: np.asarray(x, kind) for name, x in GIVEN.items()}, other=["x"])
        features, speakers = run_exported.read(str(tmp_path / "f.npz"), RECORD)
        assert [x.dtype for x in (*features.values(), speakers)] == ["float32", "float32", "int32"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speakers": None}, "no array 'speakers', but 't', 'a'"),
        ({"t": None}, "no array 't'"),
        ({"t": np.ones((2, 4))}, "t is float64 [2, 4], not numbers [2, 3]"),
        ({"a": np.ones((3, 2))}, "a is float64 [3, 2], not numbers [2, 2]"),
        ({"a": np.array([["x", "y"]] * 2)}, "a is <U1"),
        ({"a": np.array([[1, np.nan]] * 2)}, "a has numbers that are not finite"),
        ({"a": np.array([[1, np.inf]] * 2)}, "a has numbers that are not finite"),
        ({"a": np.array([[1, 1e300]] * 2)}, "a has numbers that are not finite"),
        ({"t": np.full((2, 3), np.nan), "a": np.full((2, 2), np.nan)}, "no utterance has any features"),
        ({"speakers": [0, -1]}, "not numbers from 0"),
        ({"speakers": [0.5, 1]}, "not numbers from 0"),
        ({"speakers": [0, np.nan]}, "not numbers from 0"),
        ({"speakers": [0, np.inf]}, "not numbers from 0"),
        ({"speakers": ["Ann", "Bob"]}, "not numbers from 0"),
        ({"speakers": []}, "not numbers from 0"),
        ({"speakers": 3}, "not numbers from 0"),
        ({"speakers": np.zeros(513)}, "513 utterances"),
        ({"t": np.array([[None] * 3] * 2)}, "no .npz file of numbers"),
    ],
)
def test_the_example_says_what_is_wrong_with_a_file(
    changes: dict[str, Any], words: str, tmp_path: Path, capsys: Any
) -> None:
    np.savez(tmp_path / "f.npz", **{name: x for name, x in {**GIVEN, **changes}.items() if x is not None})
    with pytest.raises(SystemExit) as ended:
        run_exported.read(str(tmp_path / "f.npz"), RECORD)
    line = capsys.readouterr().err
    assert ended.value.code == 2 and line.count("\n") == 1 and words in line


@pytest.mark.parametrize(
    ("content", "words"), [(None, "there is no file"), (b"text", "no .npz file"), (b"", "no .npz file")]
)
def test_the_example_says_what_is_no_file_of_arrays(
    content: bytes | None, words: str, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "f.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        run_exported.read(str(path), RECORD)
    line = capsys.readouterr().err
    assert ended.value.code == 2 and line.count("\n") == 1 and words in line and "pickle" not in line
    np.save(tmp_path / "f.npy", np.ones((2, 3)))
    with pytest.raises(SystemExit):
        run_exported.read(str(tmp_path / "f.npy"), RECORD)
    assert "no .npz file" in capsys.readouterr().err


@pytest.mark.slow
def test_a_conversation_that_is_too_long_is_refused(runs: dict[str, Path]) -> None:
    exported = jax.export.deserialize(bytearray((runs["sdt"].parent / "sdt_exported/model.stablehlo").read_bytes()))
    features = {"t": np.zeros((513, 9), np.float32), "a": np.zeros((513, 6), np.float32)}
    with pytest.raises(ValueError, match="shapes"):
        exported.call(*inputs_of([features], [np.zeros(513, np.int32)]))


@pytest.mark.slow
def test_the_command_line(runs: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    arguments = ["--checkpoint", str(runs["sdt"]), "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert (tmp_path / "out" / "model.stablehlo").exists()
    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["--checkpoint", str(tmp_path), "-o", str(tmp_path / "other")]) == 2
    capsys.readouterr()
    assert main(["--checkpoint", str(tmp_path / "none"), "-o", str(tmp_path / "other")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main(["--checkpont", str(tmp_path), "-o", str(tmp_path / "other")]) == 2
    assert "did you mean --checkpoint?" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"model\.json"):
        export(tmp_path, tmp_path / "other")


@pytest.mark.slow
def test_an_artefact_that_is_wrong_is_not_written(runs: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(runs["sdt"])
    predictor.numbers = (np.float32(0.1), predictor.numbers[1])  # the live model has another temperature from now on
    right = predictor.trained.temperature
    step = predictor._step
    predictor._step = lambda params, batch, temperature, draws: step(params, batch, np.float32(right), draws)
    with pytest.raises(RuntimeError, match="nothing is written"):
        export(predictor, tmp_path / "out")
    assert not (tmp_path / "out").exists()
