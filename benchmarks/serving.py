"""The server under load: requests a second, how long they take, and how many share a call of the model.

    python -m benchmarks.serving [--checkpoint DIR] [--clients 32] [--seconds 10] [--utterances 10] [--slow 100]

Starts `python -m cmath_jax.serve` as a process of its own. Every client sends a conversation, waits for the answer, and
sends the next. Without a checkpoint the model is an untrained one of the paper's width over MiniLM's features of text:
its answers are worth nothing, and cost what those of a trained one do. Prints a table; with --slow also a line of it
for each way in which so many other clients can be slow at the same time.
"""

import argparse
import http.client
import json
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

WORDS = ("I", "you", "we", "never", "always", "think", "want", "love", "hate", "miss", "home", "today", "why", "so")
SLOW = {
    "heads": b"POST /api/predict HTTP/1.1\r\n",
    "bodies": b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100000\r\n\r\n",
    "forms": b"POST /api/predict-with-audio HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; "
    b'boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\nContent-Disposition: form-data; name="files"; '
    b'filename="a"\r\n\r\n',
}  # how a slow client begins, by what it sends slowly
HEADER = (
    "| requests/s | utterances/s | p50, ms | p99, ms | errors | conversations in a call |\n|---|---|---|---|---|---|"
)


@dataclass
class Client:
    """Asks until it is told to stop.

    Attributes:
      seconds: of each request that was answered with 200.
      errors: status, or the name of an exception -> how often.
    """

    seed: int
    utterances: int
    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)

    def run(self, port: int, start: threading.Event, stop: threading.Event) -> None:
        chance = random.Random(self.seed)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        start.wait()
        while not stop.is_set():
            body = json.dumps({"conversations": [{"utterances": conversation(chance, self.utterances)}]})
            began = time.perf_counter()
            try:
                connection.request("POST", "/api/predict", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._count(type(error).__name__)
            else:
                if response.status == 200:
                    self.seconds.append(time.perf_counter() - began)
                else:
                    self._count(str(response.status))
        connection.close()

    def _count(self, name: str) -> None:
        self.errors[name] = self.errors.get(name, 0) + 1


def conversation(chance: random.Random, utterances: int) -> list[dict[str, str]]:
    """Utterances of 3 to 15 words, which no other request has."""
    texts = (" ".join(chance.choices(WORDS, k=chance.randint(3, 15))) for _ in range(utterances))
    return [{"speaker": chance.choice("AB"), "text": text} for text in texts]


@contextmanager
def server(checkpoint: Path, *options: str) -> Iterator[int]:
    """The port of a server, which is ready; it is asked to stop afterwards."""
    command = [sys.executable, "-m", "cmath_jax.serve", "--checkpoint", str(checkpoint), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.match(r"serving on .*:(\d+)$", line):
                    yield int(found[1])
                    break
        finally:
            process.send_signal(signal.SIGTERM)
    if process.returncode:
        raise SystemExit(f"the server ended with {process.returncode}")


def load(port: int, clients: int, seconds: float, utterances: int) -> list[Client]:
    """What the clients saw in so many seconds."""
    start, stop = threading.Event(), threading.Event()
    told = [Client(seed, utterances) for seed in range(clients)]
    threads = [threading.Thread(target=client.run, args=(port, start, stop)) for client in told]
    for thread in threads:
        thread.start()
    start.set()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return told


@contextmanager
def slow_clients(port: int, count: int, kind: str, every: float = 3.0) -> Iterator[None]:
    """Clients that send a byte every so many seconds, and come again when they are sent away."""
    stop = threading.Event()

    def drip(sockets: dict[int, socket.socket]) -> None:
        while not stop.is_set():
            for i in range(count):
                try:
                    if i in sockets:
                        sockets[i].sendall(b"x")
                    else:
                        sockets[i] = socket.create_connection(("127.0.0.1", port), timeout=10)
                        sockets[i].sendall(SLOW[kind])
                except OSError:
                    if i in sockets:
                        sockets.pop(i).close()
            ready.set()
            stop.wait(every)
        for each in sockets.values():
            each.close()

    ready = threading.Event()
    thread = threading.Thread(target=drip, args=({},))
    thread.start()
    try:
        ready.wait()
        yield
    finally:
        stop.set()
        thread.join()


def batches(port: int) -> Mapping[str, float]:
    """Name -> value of the histogram of conversations in a call, as the server tells it now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return {name: float(value) for name, value in re.findall(r"^cmath_batch_conversations(\S+) (\S+)$", text, re.M)}


def row(told: Sequence[Client], seconds: float, utterances: int, grown: Mapping[str, float]) -> str:
    """A line of the table; `grown` is by how much the histogram grew."""
    taken = np.array([each for client in told for each in client.seconds]) * 1000
    errors: dict[str, int] = {}
    for client in told:
        for name, count in client.errors.items():
            errors[name] = errors.get(name, 0) + count
    if not len(taken):
        raise SystemExit(f"no request was answered: {errors}")
    p50, p99 = np.percentile(taken, [50, 99])
    rate = len(taken) / seconds
    failed = ", ".join(f"{count} times {name}" for name, count in errors.items()) or "0"
    mean = grown["_sum"] / max(grown["_count"], 1)
    return f"| {rate:.0f} | {rate * utterances:.0f} | {p50:.0f} | {p99:.0f} | {failed} | {mean:.1f} |"


def untrained(folder: Path, extraction: Mapping[str, Mapping[str, object]], width: int = 400) -> Path:
    """Writes the folder of a model with MELD's emotions whose parameters are those of the start."""
    import jax

    from cmath_jax.config import Config, override
    from cmath_jax.data.batches import Batch
    from cmath_jax.data.standardize import Standardizer
    from cmath_jax.extract import make_extractor
    from cmath_jax.models.registry import make_model
    from cmath_jax.prediction.trained import Facts, TrainedModel

    classes = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
    config = override(Config(), {"data.modalities": "".join(extraction), "model.width": width})
    extractors = {m: make_extractor(m, settings) for m, settings in extraction.items()}
    dims = {m: extractor.dim for m, extractor in extractors.items()}
    zeros, ones = ({m: np.full(d, value, np.float32) for m, d in dims.items()} for value in (0, 1))
    nothing = {"accuracy": 0.0, "weighted_f1": 0.0}
    trained = TrainedModel(
        config=config,
        classes=classes,
        speakers=9,
        dims=dims,
        extraction={m: extractor.settings for m, extractor in extractors.items()},
        standardizer=Standardizer(zeros, ones),
        temperature=1.0,
        facts=Facts(
            name="untrained",
            dataset="none",
            source="its parameters are random",
            license="none needed",
            fingerprint="",
            utterances={},
            seed=0,
            epoch=0,
            seeds=1,
            parameters=0,
            scores={"validation": nothing, "test": nothing, "majority": nothing},
            f1=dict.fromkeys(classes, 0.0),
            calibration={"before": 0.0, "after": 0.0},
            versions={},
        ),
        params={},
    )
    model = make_model(config.model, trained, config.data.modalities, config.precision)
    slots = np.zeros((1, 1), np.int32)
    batch = Batch({m: np.zeros((1, 1, d), np.float32) for m, d in dims.items()}, slots, slots, slots, slots, slots)
    params = jax.jit(lambda key: model.init(key, batch, train=False))(jax.random.key(0))["params"]
    TrainedModel(**vars(trained) | {"params": jax.device_get(params)}).save(folder, card="")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description="The server under load.")
    parser.add_argument("--checkpoint", metavar="DIR", type=Path, help="a run folder; default an untrained model")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--utterances", type=int, default=10, help="of each conversation")
    parser.add_argument("--slow", type=int, default=0, help="other clients, which send a byte every 3 seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = options.checkpoint or untrained(Path(folder) / "model", {"t": {"encoder": "minilm"}})
        began = time.perf_counter()
        with server(checkpoint) as port:
            print(f"ready after {time.perf_counter() - began:.1f} s", flush=True)
            load(port, options.clients, 1.0, options.utterances)
            print(HEADER, flush=True)
            for kind in (None, *(SLOW if options.slow else ())):
                with slow_clients(port, options.slow, kind) if kind else nullcontext():
                    before = batches(port)
                    told = load(port, options.clients, options.seconds, options.utterances)
                    after = batches(port)
                grown = {name: after[name] - before[name] for name in after}
                print(row(told, options.seconds, options.utterances, grown), kind or "", flush=True)


if __name__ == "__main__":
    main()
