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

from cmath_jax.data.conversations import Conversation
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import InputError
from cmath_jax.export import main
from cmath_jax.prediction.export import export
from cmath_jax.prediction.predictor import Predictor
from cmath_jax.train import fit

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
    assert done.returncode == 1 and "513 utterances; the model takes 512" in done.stderr
    record = json.loads((folder / "model.json").read_text())
    assert record["format"] == 1 and record["modalities"] == {"t": 9, "a": 6, "v": 5} and record["classes"]


def test_a_conversation_that_is_too_long_is_refused(runs: dict[str, Path]) -> None:
    exported = jax.export.deserialize(bytearray((runs["sdt"].parent / "sdt_exported/model.stablehlo").read_bytes()))
    features = {"t": np.zeros((513, 9), np.float32), "a": np.zeros((513, 6), np.float32)}
    with pytest.raises(ValueError, match="shapes"):
        exported.call(*inputs_of([features], [np.zeros(513, np.int32)]))


def test_the_command_line(runs: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    arguments = ["--checkpoint", str(runs["sdt"]), "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert (tmp_path / "out" / "model.stablehlo").exists()
    assert main(arguments) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["--checkpoint", str(tmp_path), "-o", str(tmp_path / "other")]) == 2
    with pytest.raises(InputError, match=r"model\.json"):
        export(tmp_path, tmp_path / "other")


def test_an_artefact_that_is_wrong_is_not_written(runs: dict[str, Path], tmp_path: Path) -> None:
    predictor = Predictor.load(runs["sdt"])
    predictor.numbers = (np.float32(0.1), predictor.numbers[1])  # the live model has another temperature from now on
    right = predictor.trained.temperature
    step = predictor._step
    predictor._step = lambda params, batch, temperature, draws: step(params, batch, np.float32(right), draws)
    with pytest.raises(RuntimeError, match="nothing is written"):
        export(predictor, tmp_path / "out")
    assert not (tmp_path / "out").exists()
