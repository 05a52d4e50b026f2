"""The command line as its users meet it: a process, its exit code, its output, its run folder."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chex
import layouts
import pytest
from samples import final_arrays, rows, tiny

from cmath_jax.config import flat, to_dict
from cmath_jax.data.sources.own import write_own
from cmath_jax.sweeps.experiment import parameters
from cmath_jax.training.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path for path in (ROOT / "experiments").glob("*.py") if path.stem != "scaling")  # test_scaling.py
RUN = tiny(
    train__epochs=7, train__patience=0, parallel__devices=1, seeds=2, optim__average=0.9, optim__schedule="cosine"
)
QUICK = ["--config.train.epochs=1", "--config.model.width=20", "--config.optim.warmup_epochs=0"]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "launch.py"), *map(str, arguments)]


def launch(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=os.environ | environment, text=True, capture_output=True, timeout=900
    )


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like those of experiments/, of a model that trains in a moment."""
    values = flat(to_dict(RUN))
    path = tmp_path_factory.mktemp("experiments") / "tiny.py"
    path.write_text(
        "from cmath_jax.config import Config, override\n\n\n"
        f"def get_config():\n    return override(Config(), {values!r})\n"
    )
    return path


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny file of each data set, in the layout that its experiment looks for first."""
    folder = tmp_path_factory.mktemp("features")
    layouts.dump(folder / "meld_multimodal_features.pkl", layouts.content("F", layouts.corpus("meld")))
    layouts.dump(folder / "iemocap_multimodal_features.pkl", layouts.content("E", layouts.corpus("iemocap")))
    write_own(layouts.corpus("meld"), folder / "own", check_counts="warn")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_runs(path: Path, tmp_path: Path, features: Path) -> None:
    """Each file of experiments/ to its scores: by its quick preset, or its own settings but for size and length."""
    options = [f"--config.data.features_dir={features}", "--config.data.check_counts=warn"]
    options += [f"--config.data.prepared_dir={tmp_path / 'prepared'}", "--config.parallel.devices=1"]
    options += [f"--config.data.dir={features / 'own'}"] if path.stem == "conversations" else []
    small = ["--config.quick=true"] if "quick" in parameters(path) else [*QUICK, "--config.data.simulation.train=9"]
    # All models: test_a_sweep_on_a_published_file.
    small += ["--config.models=cmath,sdt"] if "models" in parameters(path) else []
    done = launch("--config", path, "--workdir", tmp_path / "run", *small, *options)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["experiment"] == path.stem
    assert "weighted F1" in done.stdout
    assert "epoch 1/" in done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {tmp_path / 'run' / 'report.html'}"
    assert "\nnext: python -m cmath_jax." in done.stderr  # what one does with it; results alone are standard output
    for section in result.get("sections", []):
        for point in section["points"].values():
            assert (tmp_path / "run" / "runs" / point["run"] / "result.json").exists()
    assert (tmp_path / "run" / "report.html").stat().st_size > 50_000
    # The config that it wrote runs again, and finds nothing left to do.
    again = launch("--config", tmp_path / "run" / "config.json", "--workdir", tmp_path / "run")
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert "epoch" not in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["meld", "iemocap"])
def test_a_sweep_on_a_published_file(dataset: str, tmp_path: Path, features: Path) -> None:
    """The settings of the data set that the command line names."""
    options = [f"--config.data.features_dir={features}", "--config.data.check_counts=warn", "--config.quick=true"]
    options += [f"--config.data.prepared_dir={tmp_path / 'prepared'}", "--config.train.epochs=1", "--config.seeds=1"]
    settings = ROOT / "experiments" / "main_results.py"
    done = launch("--config", settings, "--workdir", tmp_path / "run", f"--config.dataset={dataset}", *options)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["config"]["loss"]["gamma2"] == {"meld": 1.2, "iemocap": 1.8}[dataset]
    sdt = json.loads((tmp_path / "run" / "runs" / "main_results_sdt" / "config.json").read_text())
    assert (sdt["model"]["name"], sdt["loss"]["temperature"]) == ("sdt", {"meld": 8.0, "iemocap": 1.0}[dataset])


@pytest.mark.slow
def test_a_sweep_with_a_failed_point_exits_with_1(experiment: Path, tmp_path: Path) -> None:
    path = tmp_path / "sweep.py"
    sweep = """
from cmath_jax.sweeps.experiment import Section

def sweep(config):
    points = {"cmath": {}, "lost": {"optim.learning_rate": 1e38}}
    return [Section("ablations", points)]
"""
    path.write_text(experiment.read_text() + sweep)
    options = ["--config.seeds=1", "--config.train.epochs=1", "--config.optim.schedule=constant"]
    failed = launch("--config", path, "--workdir", tmp_path / "run", *options)
    assert failed.returncode == 1, failed.stderr
    assert "failed: ablations_lost, seed 0" in failed.stdout
    assert "Traceback" not in failed.stderr
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--config FILE is missing"),
        (["--config"], "--config is given no value"),
        (["--config", "gone.py"], "gone.py: there is no such file"),
        (["--config", "DEMO", "--wrokdir", "x"], "unknown argument '--wrokdir'"),
        (["--config", "DEMO", "extra"], "unknown argument 'extra'"),
        (["--config", "DEMO", "--config.model.witdh=3"], "did you mean --config.model.width?"),
        (["--config", "DEMO", "--config.model.width=3x"], "model.width='3x' is not of type int"),
        (["--config", "DEMO", "--config.model.width=101"], "not a multiple of --config.model.heads"),
        (["--config", "DEMO", "--config.model.width=20", "--config.model.width=40"], "given twice"),
        (["--config", "DEMO", "--config.model.name=bert"], "model.name='bert' is not one of cmath"),
        (
            ["--config", "DEMO", "--config.model.kernel=3", "--config.model.name=sdt"],
            "--config.model.kernel is an option of cmath, not of sdt, which has --config.model.name, --config.model.wi",
        ),
        (["--config", "PAPER", "--config.dataset=melt"], "dataset='melt' is not one of simulated, meld, iemocap"),
        (["--config", "PAPER", "--config.parts=width,wdith"], "parts='width,wdith' has wdith"),
        (["--config", "PAPER", "--config.quick=maybe"], "quick='maybe' is not of type bool"),
        (["--config", "PAPER", "--config.model.width=101"], "model.width=101 is not a multiple"),
        (["--config", "DEMO", "--config.dataset=melt"], "melt"),
        (["--config", "DEMO", "--config.dataset=gone.pkl"], "gone.pkl"),
        (["--config", "DEMO", "--config.parallel.devices=99"], "parallel.devices=99"),
        (["--config", "DEMO", "--workdir", "/dev/null/x"], "--workdir /dev/null/x"),
        (["--config", "MELD", "--config.data.file=gone.pkl"], "gone.pkl"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_bad_input_is_one_readable_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    names = {"DEMO": str(ROOT / "experiments" / "demo.py"), "MELD": str(ROOT / "experiments" / "meld.py")}
    names["PAPER"] = str(ROOT / "experiments" / "paper.py")
    workdir = [] if "--workdir" in arguments else ["--workdir", str(tmp_path)]
    refused = launch(*(names.get(a, a) for a in arguments), *(workdir if arguments[1:] else []))
    assert refused.returncode == 2, refused.stderr
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""


@pytest.mark.slow
def test_a_feature_file_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.pkl"
    path.write_text("<html>not found</html>")
    demo = ROOT / "experiments" / "demo.py"
    refused = launch("--config", demo, "--workdir", tmp_path / "run", f"--config.dataset={path}")
    assert refused.returncode == 2, refused.stderr
    assert str(path) in refused.stderr


def test_help_lists_every_option() -> None:
    shown = launch("--help", "--config", ROOT / "experiments" / "meld.py")
    assert shown.returncode == 0
    assert "--config.optim.learning_rate=0.0002" in shown.stdout
    assert "--config.model.kernel=1" in shown.stdout
    of_sdt = launch("--help", "--config", ROOT / "experiments" / "meld.py", "--config.model.name=sdt").stdout
    assert "--config.model.heads=10" in of_sdt and "--config.model.kernel" not in of_sdt
    assert "usage" in launch("--help").stdout
    assert "--config.quick=False" in launch("--help", "--config", ROOT / "experiments" / "paper.py").stdout


@pytest.mark.slow
def test_a_run_that_diverges_exits_with_1(experiment: Path, tmp_path: Path) -> None:
    failed = launch("--config", experiment, "--workdir", tmp_path, "--config.optim.learning_rate=1e38")
    assert failed.returncode == 1
    assert "the loss is" in failed.stderr
    assert "Traceback" not in failed.stderr


def kill_at(moment: Iterator[None], process: subprocess.Popen[bytes]) -> bool:
    """Waits for the moment while the process runs; whether it had to be killed."""
    for _ in moment:
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def some_time_after(folder: Path, epochs: int, seconds: float) -> Iterator[None]:
    """Until so many epochs more are logged, and then that much longer."""
    start = logged(folder)
    while logged(folder) < start + epochs:
        yield
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def logged(folder: Path) -> int:
    log = folder / "metrics.jsonl"
    return log.read_text().count("\n") if log.exists() else 0


def while_writing(folder: Path, newer_than: int) -> Iterator[None]:
    """Until a checkpoint beyond that step is being written: its folder is there, under a provisional name."""
    while not any(
        int(path.name.split(".")[0]) > newer_than and path.name != path.name.split(".")[0]
        for path in (folder / "checkpoints" / "seed_0").glob("[0-9]*")
    ):
        yield


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_if_it_never_was(experiment: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, and twice while a checkpoint is being written."""
    # As users run it, and with a cache of its own: a killed process may leave half an entry in it.
    environment = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax")}
    done = launch("--config", experiment, "--workdir", tmp_path / "undisturbed", **environment)
    assert done.returncode == 0, done.stderr
    seed = int(os.environ.get("KILL_SEED", random.randrange(10**6)))
    print(f"KILL_SEED={seed}")  # pytest shows it where the test fails
    rng = random.Random(seed)
    folder = tmp_path / "killed"
    moments = [while_writing(folder, 4), some_time_after(folder, 2, rng.uniform(0, 0.2))]
    moments += [while_writing(folder, 16), some_time_after(folder, 2, rng.uniform(0, 0.2))]
    killed = 0
    for moment in moments:
        arguments = command("--config", experiment, "--workdir", folder)
        with subprocess.Popen(arguments, cwd=ROOT, env=os.environ | environment, stderr=subprocess.DEVNULL) as process:
            killed += kill_at(moment, process)
    assert killed >= 2  # on a fast machine a later moment may come too late
    resumed = launch("--config", experiment, "--workdir", folder, **environment)
    assert resumed.returncode == 0, resumed.stderr
    undisturbed = tmp_path / "undisturbed"
    chex.assert_trees_all_equal(final_arrays(folder, RUN), final_arrays(undisturbed, RUN))
    assert rows(folder) == rows(undisturbed)
    assert (folder / "predictions.jsonl").read_bytes() == (undisturbed / "predictions.jsonl").read_bytes()
    assert resumed.stdout.splitlines()[:-1] == done.stdout.splitlines()[:-1]  # the last one names the folder


@pytest.mark.slow
def test_sigterm_before_there_is_anything_to_save(experiment: Path, tmp_path: Path) -> None:
    """In the middle of the loading of a large corpus: no waiting for its end."""
    huge = ["--config.data.simulation.train=10000000"]
    arguments = command("--config", experiment, "--workdir", tmp_path, *huge)
    with subprocess.Popen(arguments, cwd=ROOT, text=True, stderr=subprocess.PIPE) as process:
        for _ in after_lock(tmp_path):
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "nothing left to save" in errors


def after_lock(folder: Path) -> Iterator[None]:
    while not (folder / ".lock").exists():
        yield


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_0(experiment: Path, tmp_path: Path) -> None:
    options = ["--config.train.epochs=10000", "--config.train.patience=0"]
    arguments = command("--config", experiment, "--workdir", tmp_path, *options)
    with subprocess.Popen(arguments, cwd=ROOT, text=True, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 2/" in line:
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "saved. The same command goes on from there" in rest
    assert not (tmp_path / "result.json").exists()
    with Checkpoints(tmp_path / "checkpoints" / "seed_0") as checkpoints:
        epochs = len(checkpoints.record()["history"])
    assert epochs >= 2
    assert len(rows(tmp_path)) == epochs
