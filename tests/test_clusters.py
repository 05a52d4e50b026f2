"""docs/clusters.md: its files parse, their options are there, and they tell an interrupted job from a done one."""

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmath_jax.commands.train import USAGE
from cmath_jax.config import roles
from cmath_jax.sweeps.experiment import parameters

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "clusters.md").read_text()
SCRIPTS = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
SBATCH = [script for script in SCRIPTS if script.startswith("#!")]
MANIFESTS = [list(yaml.safe_load_all(text)) for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)]
JOBS = [document for documents in MANIFESTS for document in documents if document["kind"] == "Job"]
OPTIONS = roles()
DONE = {"part-3-of-8": '{\n  "missing": [],\n}', "": "{}"}  # by the folder of the result
MISSING = '{\n  "missing": [\n    "cmath"\n  ],\n}'


def pod(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def shell(job: dict[str, Any]) -> str:
    (container,) = pod(job)["containers"]
    assert container["command"] == ["sh", "-c"]
    return container["args"][0]


def commands() -> list[list[str]]:
    """The arguments of every call of launch.py."""
    lines = "\n".join([*SCRIPTS, *map(shell, JOBS)]).replace("\\\n", " ").replace("'", "").splitlines()
    calls = [line.partition("launch.py")[2] for line in lines if "launch.py" in line]
    return [shlex.split(re.split(r" &| \|\|", call)[0]) for call in calls]


def test_there_is_a_file_for_each_way() -> None:
    assert (len(SBATCH), len(JOBS), len(commands())) == (2, 2, 8)


@pytest.mark.parametrize("text", [*SCRIPTS, *map(shell, JOBS)], ids=range(len(SCRIPTS) + len(JOBS)))
def test_scripts_parse(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize("arguments", [c for c in commands() if c != ["..."]], ids=lambda c: c[1])
def test_options_are_there(arguments: list[str]) -> None:
    assert arguments[0] == "--config"
    experiment = ROOT / arguments[1]
    known = OPTIONS | parameters(experiment)
    for argument in (argument for argument in arguments if argument.startswith("--")):
        name, equals, _ = argument.partition("=")
        if name.startswith("--config."):
            assert equals
            assert name.removeprefix("--config.") in known
        else:
            assert f"  {name} " in USAGE


def test_options_in_the_text_are_there() -> None:
    named = set(re.findall(r"`((?:parallel|data)\.\w+)", TEXT))
    assert len(named) > 3
    assert named <= set(OPTIONS)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
def test_manifests_fit_together(job: dict[str, Any]) -> None:
    name, spec = job["metadata"]["name"], job["spec"]
    volumes = {volume["name"] for volume in pod(job)["volumes"]}
    assert {mount["name"] for mount in pod(job)["containers"][0]["volumeMounts"]} == volumes
    assert (spec["completionMode"], pod(job)["restartPolicy"]) == ("Indexed", "Never")
    rules = [rule for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    codes = {code: rule["action"] for rule in rules for code in rule["onExitCodes"]["values"]}
    many = spec["completions"]
    assert spec["parallelism"] == many
    if "subdomain" in pod(job):
        assert codes == {75: "Ignore"}
        (service,) = [d for documents in MANIFESTS for d in documents if d["kind"] == "Service"]
        assert service["metadata"]["name"] == pod(job)["subdomain"]
        assert service["spec"]["selector"] == {"job-name": name}
        assert f"parallel.coordinator={name}-0.{name}:" in shell(job)
        assert f"parallel.num_processes={many} " in shell(job)
    else:
        assert codes == {75: "Ignore", 2: "FailJob"}
        assert f"--shard $JOB_COMPLETION_INDEX/{many} " in shell(job)
        assert f"-of-{many}\n" in shell(job)


def stub(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def environment(tmp_path: Path) -> dict[str, str]:
    indices = {"JOB_COMPLETION_INDEX": "3", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "17"}
    return os.environ | indices | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


def lay(tmp_path: Path, text: str, state: str) -> str:
    """The script with its paths in a folder of the test; its run is not there, interrupted or done."""
    (tmp_path / "shared" / "cmath_jax").mkdir(parents=True)
    part = "part-3-of-8" if "--shard" in text else ""
    workdir = re.search(r"folder=/(\S+)", text)
    assert workdir
    folder = tmp_path / workdir[1] / part
    if state != "not there":
        folder.mkdir(parents=True)
    if state == "done":
        (folder / "result.json").write_text(DONE[part])
    if state == "interrupted" and part:
        (folder / "result.json").write_text(MISSING)
    return text.replace("/shared", str(tmp_path / "shared"))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
@pytest.mark.parametrize(("state", "code", "expected"), [("done", 0, 0), ("interrupted", 0, 75), ("interrupted", 2, 2)])
def test_a_pod_is_done_when_its_result_is(
    job: dict[str, Any], state: str, code: int, expected: int, tmp_path: Path
) -> None:
    text = lay(tmp_path, shell(job), state)
    stub(tmp_path / "bin" / "python", f"exit {code}")
    assert subprocess.run(["sh", "-c", text], env=environment(tmp_path)).returncode == expected


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job["metadata"]["name"])
@pytest.mark.parametrize(("state", "expected"), [("done", 0), ("interrupted", 75)])
def test_a_pod_hands_the_signal_on_and_waits(job: dict[str, Any], state: str, expected: int, tmp_path: Path) -> None:
    text = lay(tmp_path, shell(job), state)
    # It takes its time to save after the signal, and must not be left behind.
    save = f"sleep 0.2; touch {tmp_path}/saved; exit 0"
    stub(tmp_path / "bin" / "python", f"trap '{save}' TERM; touch {tmp_path}/started; while :; do sleep 0.05; done")
    process = subprocess.Popen(["sh", "-c", text], env=environment(tmp_path))
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == expected
    assert (tmp_path / "saved").exists()


def test_a_pod_without_a_run_is_done(tmp_path: Path) -> None:
    (job,) = [job for job in JOBS if "--shard" in shell(job)]
    stub(tmp_path / "bin" / "python", "exit 0")
    text = lay(tmp_path, shell(job), "not there")
    assert subprocess.run(["sh", "-c", text], env=environment(tmp_path)).returncode == 0


@pytest.mark.parametrize("script", SBATCH, ids=lambda script: re.search(r"job-name=(\w+)", script)[1])
@pytest.mark.parametrize(
    ("state", "code", "requeued"), [("done", 0, ""), ("interrupted", 0, "requeue 17\n"), ("interrupted", 1, "")]
)
def test_slurm_requeues_what_is_not_done(script: str, state: str, code: int, requeued: str, tmp_path: Path) -> None:
    text = lay(tmp_path, script, state)
    stub(tmp_path / "bin" / "srun", f"exit {code}")
    stub(tmp_path / "bin" / "scontrol", 'echo "$@"')
    done = subprocess.run(["bash", "-c", text], env=environment(tmp_path), text=True, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, requeued, "")
