"""Points that are compiled and not run: what is read in a program, what is asked of a target, what the report says."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest
from samples import tiny

from cmath_jax.commands.train import main
from cmath_jax.config import Config, override
from cmath_jax.data.sources import simulate
from cmath_jax.errors import FailedError, InputError
from cmath_jax.prediction.export import export
from cmath_jax.scaling import compiled, report, studies, topology
from cmath_jax.scaling.compiled import RefusedError, Workload, compile_apart
from cmath_jax.scaling.studies import COMPILED, FAILED, NOT_COMPILED, REFUSED, run_studies
from cmath_jax.scaling.topology import Target
from cmath_jax.sweeps.experiment import Experiment, Measuring, Section, load
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.fit import fit
from cmath_jax.training.step import HyperParams
from cmath_jax.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
TINY = tiny(data__modalities="t", model__dropout=0.0, train__batch_size=4, parallel__devices=4)
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: requirements-aot.txt"
)
needs_cuda = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason="jax-cuda13-plugin is not installed: requirements-aot.txt",
)


def numbers(**values: Any) -> dict[str, Any]:
    """What `compile_point` may say of a point."""
    return {
        **{
            "target": "tpu:v5e:2x2",
            "engine": "jit",
            "devices": 4,
            "members": 1,
            "rows": 4,
            "slots": 9,
            "padding": 0.25,
        },
        **{"conversations": 4.0, "utterances": 20.0, "argument": 1000, "output": 10, "temporary": 500, "code": 90},
        **{
            "memory": 1600,
            "device_memory": 16e9,
            "fits": True,
            "counted_flops": 2e6,
            "tile_padding": 0.5,
            "cycles": 900,
        },
        **{"cycle_seconds": 6e-7, "parameters": 7, "flops": 1e6, "bound": 2e-6, "bound_by": "memory"},
        **{"collectives": {"all-reduce": {"count": 2, "bytes": 44}}, "compute_seconds": 1e-6, "memory_seconds": 2e-6},
        **{"interconnect_seconds": 1e-7, "compile_seconds": 3.0},
        **values,
    }


@pytest.mark.parametrize(
    ("text", "count"),
    [("tpu:v5e:4x4", 16), ("tpu:v4:2x2x1", 4), ("tpu:v6e:16x16", 256), ("cuda:h100:8", 8), ("cuda:h200:24", 24)],
)
def test_targets_are_read_and_written(text: str, count: int) -> None:
    assert (str(Target.parse(text)), Target.parse(text).count) == (text, count)


@pytest.mark.parametrize(
    ("text", "devices", "part"),
    [
        ("tpu:v5e:4x4", 1, "tpu:v5e:1x1"),
        ("tpu:v5e:4x4", 2, "tpu:v5e:2x2"),
        ("tpu:v5p:2x2x2", 5, "tpu:v5p:2x2x2"),
        ("tpu:v5e:4x4", 0, "tpu:v5e:4x4"),
        ("tpu:v5e:4x4", 99, "tpu:v5e:4x4"),
        ("cuda:h100:64", 3, "cuda:h100:3"),
        ("cuda:h100:64", 9, "cuda:h100:16"),
    ],
)
def test_fewer_devices_are_a_smaller_slice(text: str, devices: int, part: str) -> None:
    assert str(Target.parse(text).part(devices)) == part


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tpu:v5e:3x3", "the slices of v5e are 1x1, 2x2, 2x4"),
        ("tpu:v9:2x2", "there are tpu:v6e, tpu:v5p, tpu:v5e, tpu:v4, cuda:h200, cuda:h100"),
        ("cuda:v5e:2x2", "there are"),
        ("h100", "there are"),
        ("cuda:h100", "the number of GPUs is 1 to 8"),
        ("cuda:h100:9", "a multiple of 8"),
        ("cuda:h100:1024", "up to 256"),
    ],
)
def test_an_unknown_target_says_which_there_are(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scaling = str(ROOT / "experiments" / "scaling.py")
    assert main(["--config", scaling, "--workdir", str(tmp_path / "run"), f"--config.compile_for={text}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert words in said


def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(topology, "PACKAGES", {"tpu": "no_such_package", "cuda": "no_such_package"})
    scaling = str(ROOT / "experiments" / "scaling.py")
    assert main(["--config", scaling, "--workdir", str(tmp_path / "run"), "--config.compile_for=tpu:v5e:4x4"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert 'no-such-package is not installed; pip install "cmath_jax[aot]"' in said
    assert "pip install -r requirements-aot.txt -c constraints.txt" in said
    assert not (tmp_path / "run").exists()


def test_only_sizes_that_are_known_without_data() -> None:
    with pytest.raises(InputError, match=r"dataset='meld': what is compiled .* has the sizes of dataset='simulated'"):
        compiled.table_of(override(TINY, {"dataset": "meld"}))
    with pytest.raises(InputError, match=r"data\.stream=true"):
        compiled.table_of(override(TINY, {"data.stream": True}))


def test_lengths_without_data_are_those_of_the_data() -> None:
    simulation = TINY.data.simulation
    drawn = [len(conversation) for conversation in simulate.conversations(simulation, "train")]
    assert simulate.lengths(simulation, "train").tolist() == drawn
    assert simulate.dims(simulation) == simulate.simulate(simulation).dims


@pytest.mark.parametrize(
    "options",
    [{}, {"parallel.engine": "pmap"}, {"parallel.population": 2}, {"parallel.population": 3, "optim.average": 0.9}],
    ids=str,
)
def test_shapes_are_those_of_training(options: dict[str, Any]) -> None:
    """The arguments that are compiled for are the arguments that a trainer has, and nothing else."""
    config = override(TINY, options)
    trials = max(1, config.parallel.population)
    trainer = Trainer.of(config, load_configured(config), trials)
    _, plan = next(trainer.plans(range(trials), [0] * trials, 0))
    state, hyper_params = trainer.fresh_states(range(trials)), trainer.hyper_params([config] * trials)
    real = trainer._arguments(state, plan, hyper_params, 0, 1)
    told = Workload.of(config, ()).arguments
    assert isinstance(told[3], HyperParams)

    def shapes(tree: Any) -> Any:
        return [(jax.tree_util.keystr(path), x.shape, x.dtype) for path, x in jax.tree_util.tree_leaves_with_path(tree)]

    longest = max(x.shape[-1] for x in jax.tree.leaves(plan))  # the slots of a draw, which differ from seed to seed
    if longest == told[1].utterance_rl.shape[-1]:
        assert shapes(told[1]) == shapes(real[1])
    assert shapes((told[0], *told[2:])) == shapes((real[0], *real[2:]))


def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: Any) -> dict[str, Any]:
    monkeypatch.setattr(Target, "check_installed", lambda self: None)
    monkeypatch.setattr(studies, "environment_of", lambda target: environment(str(target)))
    monkeypatch.setattr(studies, "compile_apart", apart)
    sections = (
        Section("devices_weak", {str(n): {"parallel.devices": n} for n in (1, 4)}),
        Section("width", {str(n): {"model.width": n} for n in (16, 32, 64)}),
    )
    experiment = Experiment(TINY, sections, measuring=Measuring(compile_for="tpu:v5e:2x2"))
    return run_studies(experiment, tmp_path / "run")


def environment(target: str) -> dict[str, Any]:
    return {
        **{"devices": ["TPU v5e"] * 4, "compile_for": target, "simulated": False, "processes": 1, "source": "0"},
        **{"compiler": {"XLA_FLAGS": "", "few_optimizations": False, "cache": False}, "versions": {"libtpu": "0"}},
    }


def test_a_study_is_compiled_once_and_says_that_it_was_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def apart(config: Config, target: Target) -> dict[str, Any]:
        asked.append(config.model.width)
        if config.model.width == 16:
            raise RefusedError("RESOURCE_EXHAUSTED: too much")
        if config.model.width == 32:
            raise InputError("parallel.devices is odd")
        if config.model.width == 64:
            raise FailedError("the compiler ended with code -6: it gave up")
        return numbers(devices=config.parallel.devices)

    result = study(tmp_path, monkeypatch, apart)
    points = {(s["kind"], name): point for s in result["studies"] for name, point in s["points"].items()}
    assert [point["status"] for point in points.values()] == [COMPILED, COMPILED, REFUSED, NOT_COMPILED, FAILED]
    assert list(result["failed"]) == ["width_64"]
    page = report.write(tmp_path / "run", result).read_text()
    drawing = (tmp_path / "run" / "figures" / "devices_weak.svg").read_text()
    told = report.readable(result)
    for text in (page, drawing, told):
        assert "Compiled for tpu:v5e:2x2, not run; rates are quoted" in text
        assert "utterances/s" not in text
    assert page.count('<span class="badge">compiled, not run</span>') == 2
    for text in (page, told, (tmp_path / "run" / "scaling.csv").read_text()):
        assert "RESOURCE_EXHAUSTED: too much" in text and "it gave up" in text
    assert "data sheet of TPU v5e, not measured" in page

    # What failed may work another time; what the compiler refused it would refuse again.
    asked.clear()
    study(tmp_path, monkeypatch, apart)
    assert sorted(asked) == [32, 64]


def test_a_process_that_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(FailedError, match="the compiler ended with code 1: it said nothing"):
        compile_apart(TINY, Target.parse("tpu:v5e:2x2"))


def test_the_command_line_makes_a_study_of_it() -> None:
    file = ROOT / "experiments" / "scaling.py"
    experiment = load(file, {"compile_for": "tpu:v5e:16x16"})
    assert experiment.measuring is not None and experiment.measuring.compile_for == "tpu:v5e:16x16"
    points = {section.kind: [*section.points] for section in experiment.sections}
    assert points["devices_weak"] == ["1", "4", "16", "64", "256"]
    assert points["division"] == ["1", "16", "64"] and points["length"][-1] == "8192"
    assert points["tiles"] == ["400.40", "400.100", "384.128", "512.128"]
    weak = [config for (kind, _), (_, config) in experiment.runs.items() if kind == "devices_weak"]
    # One corpus for all of them, of which no device has more beside others.
    assert {config.data.simulation.train for config in weak} == {4096}
    assert {config.train.batch_size // config.parallel.devices for config in weak} == {16}
    other = load(file, {"compile_for": "cuda:h100:8", "setting": "iemocap"}).config
    assert (other.model.width, other.data.simulation.audio_dim, other.experiment) == (500, 1582, "scaling_cuda_h100_8")


def check_small_steps(target: str) -> None:
    config = override(TINY, {"precision": "bfloat16", "train.batch_size": 4, "model.width": 16})
    few, many = (compile_apart(override(config, {"parallel.devices": n}), Target.parse(target)) for n in (2, 4))
    for found in (few, many):
        assert found["collectives"].keys() == {"all-reduce"}
        assert 0 <= found["collectives"]["all-reduce"]["bytes"] - 4 * found["parameters"] <= 4 * 16
        assert found["fits"] and found["memory"] >= found["argument"] > 12 * found["parameters"]
        assert found["flops"] > 0 and found["bound"] > 0
    assert many["collectives"]["all-reduce"]["bytes"] == few["collectives"]["all-reduce"]["bytes"]


@pytest.mark.slow
@needs_libtpu
def test_a_small_step_for_four_tpus() -> None:
    check_small_steps("tpu:v5e:2x2")


@pytest.mark.slow
@needs_cuda
def test_a_small_step_for_four_gpus() -> None:
    check_small_steps("cuda:h100:4")


# Compiles an artefact for a target; what has no code of this project but for the target.
EXPORTED = """
import json, sys
from pathlib import Path
import jax
from cmath_jax.scaling.topology import Target
folder, target = Path(sys.argv[1]), Target.parse(sys.argv[2])
dims = json.loads((folder / "model.json").read_text())["modalities"]
model = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
there = jax.sharding.SingleDeviceSharding(target.devices()[0])
def array(shape, dtype):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=there)
features = {m: array((2, 9, d), "float32") for m, d in dims.items()}
program = jax.jit(model.call).lower(features, array((2, 9), "int32"), array((2, 9), "bool")).compile()
print(program.memory_analysis().argument_size_in_bytes > 0)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    fit(tiny(train__epochs=1, data__modalities="t"), folder / "run")
    return export(folder / "run", folder / "exported")


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", [pytest.param("tpu:v5e:1x1", marks=needs_libtpu), pytest.param("cuda:h100:1", marks=needs_cuda)]
)
def test_an_exported_program_compiles_for_a_device_that_is_not_there(target: str, exported: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment = kept | Target.parse(target).environment_variables() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", EXPORTED, str(exported), target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["True"]
