"""Sweeps over machines: every run in one part, the parts alike in size, and together the sweep that was not split."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from samples import tiny

from cmath_jax.commands.train import main
from cmath_jax.config import structure
from cmath_jax.errors import InputError
from cmath_jax.report.load import Run
from cmath_jax.report.studies import Study, load_studies
from cmath_jax.report.tables import score_table
from cmath_jax.sweeps.experiment import Experiment, Section, load
from cmath_jax.sweeps.shards import Shard

ROOT = Path(__file__).parents[2]
SWEEPS = [path for path in sorted((ROOT / "experiments").glob("*.py")) if "def sweep(" in path.read_text()]
EXPERIMENT = Experiment(
    tiny(train__epochs=2, parallel__devices=1, parallel__population=1, seeds=2),
    (
        Section("ablations", {"cmath": {}, "wo_cma": {"model.cross_attention": False}, "wo_lld": {"loss.gamma1": 0.0}}),
        Section("gammas", {"1.0,1.2": {"loss.gamma2": 1.2}, "0.0,1.2": {"loss.gamma1": 0.0}}),
    ),
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The sweep in one folder, and in two parts, made as users make them.

    All by the command: with the options that the compiler has in this process, numbers would be rounded otherwise.
    """
    folder = tmp_path_factory.mktemp("sweeps")
    config = folder / "config.json"
    config.write_text(json.dumps(EXPERIMENT.to_dict()))

    def trained(*options: str | Path) -> str:
        command = [sys.executable, "launch.py", "--config", config, "--workdir", *options]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    trained(folder / "whole")
    trained(folder, "--shard", "0/2")
    said = trained(folder, "--shard", "1/2")
    assert "wo_cma" in said
    assert "wo_lld" not in said
    return folder / "whole", [folder / f"part-{i}-of-2" for i in range(2)]


@pytest.fixture
def copies(folders: tuple[Path, list[Path]], tmp_path: Path) -> list[Path]:
    """The two parts, to be damaged."""
    for part in folders[1]:
        shutil.copytree(part, tmp_path / part.name)
    return [tmp_path / part.name for part in folders[1]]


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2, 3, 8, 16, 100])
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_run_is_in_one_part_with_all_its_points(path: Path, parts: int) -> None:
    whole = load(path, {"dataset": "meld"})
    shards = [Shard(i, parts).of(whole) for i in range(parts)]
    points = Counter(point for part in shards for point in part.runs)
    assert points == Counter(whole.runs.keys())
    for part in shards:
        assert part.whole == whole.sections
        assert part.runs.items() <= whole.runs.items()  # of the same names, so that the report finds them
        assert all(section.points for section in part.sections)
    runs = [dict(part.runs.values()) for part in shards]
    assert Counter(name for part in runs for name in part) == Counter(dict(whole.runs.values()).keys())
    sizes = [len(part) for part in runs]
    assert max(sizes) - min(sizes) <= 1
    programs = [len({structure(config) for config in part.values()}) for part in runs]
    assert sum(programs) <= len({structure(config) for _, config in whole.runs.values()}) + parts - 1


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_run_weighs_as_many_as_it_has_seeds(parts: int) -> None:
    seeds = (5, 1, 1, 2, 1, 5, 1, 3, 1, 1, 1, 2)
    points = {f"p{i}": {"seeds": n, "loss.gamma1": i / 10} for i, n in enumerate(seeds)}
    whole = Experiment(EXPERIMENT.config, (Section("a", points),))
    loads = [
        sum(config.seeds for config in dict(Shard(i, parts).of(whole).runs.values()).values()) for i in range(parts)
    ]
    assert sum(loads) == sum(seeds)
    assert max(abs(load - sum(seeds) / parts) for load in loads) <= max(seeds)


@pytest.mark.slow
def test_parts_merged_are_the_whole(folders: tuple[Path, list[Path]]) -> None:
    """Tables, scores, predictions and curves, in the same order, whichever part is named first."""
    whole, parts = folders
    names = [{path.name for path in (part / "runs").iterdir()} for part in parts]
    assert names == [{"cmath", "ablations_wo_lld"}, {"ablations_wo_cma"}]
    (expected,) = load_studies([whole])
    assert expected.full_model is not None
    for order in (parts, parts[::-1]):
        (merged,) = load_studies(order)
        assert tables(merged) == tables(expected)
        assert [section.repeated for section in merged.sections] == [(), ()]
        assert list(map(numbers, merged.runs.values())) == list(map(numbers, expected.runs.values()))


def tables(study: Study) -> dict[str, Any]:
    return {section.kind: score_table(section, study).csv() for section in study.sections}


def numbers(run: Run) -> Any:
    predictions = run.predictions
    return (
        run.name,
        run.weighted_f1,
        run.accuracy,
        run.f1,
        run.curves,
        predictions.prediction_tn.tolist(),
        predictions.probability_tnc.tolist(),
    )


@pytest.mark.slow
def test_a_part_knows_what_it_is_a_part_of(folders: tuple[Path, list[Path]]) -> None:
    """Its report names the points of the other part; its own result does not wait for them; its config runs again."""
    part = folders[1][1]
    assert (part / "report.html").exists()
    (study,) = load_studies([part])
    assert {s.kind: {p.name: p.absence for p in s.points} for s in study.sections} == {
        "ablations": {"cmath": "not there yet", "wo_cma": "", "wo_lld": "not there yet"},
        "gammas": {"1.0,1.2": "not there yet", "0.0,1.2": "not there yet"},
    }
    result = json.loads((part / "result.json").read_text())
    assert (result["missing"], result["failed"]) == ([], {})
    assert '"missing": []' in (part / "result.json").read_text()  # as docs/clusters.md greps for it
    assert load(part / "config.json") == Shard(1, 2).of(EXPERIMENT)
    with pytest.raises(InputError, match="a part of a sweep already"):
        Shard(0, 2).of(load(part / "config.json"))


@pytest.mark.slow
def test_a_failure_in_any_part_is_told(copies: list[Path]) -> None:
    result = json.loads((copies[1] / "result.json").read_text())
    result["failed"] = {"ablations_wo_cma": "the loss is nan"}
    (copies[1] / "result.json").write_text(json.dumps(result))
    for order in (copies, copies[::-1]):
        (study,) = load_studies(order)
        points = {point.name: (point.absence, point.failure) for point in study.sections[0].points}
        assert points == {"cmath": ("", ""), "wo_cma": ("failed", "the loss is nan"), "wo_lld": ("", "")}


@pytest.mark.slow
@pytest.mark.parametrize("whole", [3, [3], [{"kind": "ablations"}], [{"kind": "ablations", "points": 3}]])
def test_a_damaged_part_is_refused(whole: Any, copies: list[Path]) -> None:
    path = copies[0] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"whole": whole}))
    with pytest.raises(InputError, match="not as a sweep writes it"):
        load_studies(copies)
    with pytest.raises(InputError, match="holds no sweep"):
        load(path)


@pytest.mark.slow
def test_a_part_without_a_run_is_done(
    folders: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = [
        main(["--config", str(folders[0] / "config.json"), "--workdir", str(tmp_path / "x"), f"--shard={i}/50"])
        for i in range(50)
        if not Shard(i, 50).of(EXPERIMENT).sections
    ]
    assert codes == [0] * 47
    assert capsys.readouterr().out.count("fewer runs than parts") == 47
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *(
            ([f"--shard={value}"], f"--shard {value!r} is not I/N")
            for value in ("3/3", "a/b", "-1/2", "1", "/2", "1/", "0/0", "1/2/3", " 0/2", "٠/2")
        ),
        (["--shard"], "--shard is given no value"),
        (["--shard", "--workdir"], "--shard is given no value"),
        (["--shard="], "--shard '' is not I/N"),
        (["--shard", "0/2", "--shard", "1/2"], "--shard is given twice"),
    ],
)
def test_a_bad_part_is_one_readable_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(ROOT / "experiments" / "paper.py"), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert words in printed.err
    assert printed.out == ""


def test_a_part_is_for_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    paper = str(ROOT / "experiments" / "paper.py")
    assert main(["--config", paper, "--shard", "0/2", "--config.parallel.distributed=true"]) == 2
    assert "a part is for one process" in capsys.readouterr().err


@pytest.mark.parametrize(("file", "shard"), [("paper", "8/8"), ("meld", "0/2")])
def test_a_mistake_is_answered_before_anything_slow_is_imported(file: str, shard: str) -> None:
    """Also a single run, which has nothing to split."""
    code = "import sys; from cmath_jax.commands.train import main; print(main(sys.argv[1:]), 'jax' in sys.modules)"
    arguments = ["--config", f"experiments/{file}.py", "--shard", shard]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, text=True, capture_output=True)
    assert done.stdout == "2 False\n"
    assert done.stderr.startswith("error: --shard")
