"""The folder of a run: what is in it, and under which names. docs/training.md lists the files for their readers."""

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np

from cmath_jax.config import Config, differences, to_dict
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import InputError, reason
from cmath_jax.io.events import Events
from cmath_jax.io.json_files import append_line, read_object, read_whole_lines, write_json, write_lines
from cmath_jax.io.lock import FolderLock
from cmath_jax.io.roles import Role
from cmath_jax.io.whole import is_partial, remove_partials, whole_file
from cmath_jax.prediction.card import card
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.training import multihost

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
RESULTS = ("result.json", "predictions.jsonl", "representations.npz")  # of a finished run
MODEL = "model"


class RunFolder:
    """The folder of a run, held by one run at a time: `with RunFolder(path) as folder:`.

    Of the processes of a run only the first writes.

    One that was made here goes again where the block fails before there is anything to keep.

    Raises:
      InputError: if another process holds it, or it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._writes = multihost.writes()
        self._lock = FolderLock(self.path)
        self._failed = False

    def __enter__(self) -> "RunFolder":
        if not self._writes:
            return self
        try:
            self._lock.acquire(wait=False)
        except BlockingIOError as error:
            raise InputError(f"--workdir {self.path}: another run is at work in it") from error
        except OSError as error:
            raise InputError(f"--workdir {self.path}: {reason(error)}") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._writes:
            return
        if kind is not None or self._failed:
            self._lock.release_without_trace(_is_trace)
        else:
            self._lock.release()

    def fail(self) -> None:
        """Notes that the run has failed, though the block goes on."""
        self._failed = True

    def run(self, name: str) -> "RunFolder":
        """Returns the folder of a run of a sweep."""
        return RunFolder(self.path / "runs" / name)

    def read_result(self) -> dict[str, Any]:
        """Returns the content of `result.json`; empty where there is none, or half of one."""
        return _read_json(self.path / "result.json")

    def holds_result_of(self, config: Mapping[str, Any], fingerprint: str) -> bool:
        """Whether there is a whole result of this config, on these data."""
        saved = _read_json(self.path / "config.json")
        data = _read_json(self.path / "environment.json").get("data", {})
        return (
            all((self.path / name).exists() for name in RESULTS)
            and bool(self.read_result() and saved)
            and not differences(saved, config, Role.RESULT)
            and data.get("fingerprint") == fingerprint
            # A run of before there were models gets one, but is not trained again for it.
            and ((self.path / MODEL).exists() or not (self.path / "checkpoints").exists())
        )

    def claim(self, experiment: Mapping[str, Any]) -> None:
        """Writes the `config.json` of a sweep, or writes it again with options or sections that may change.

        Raises:
          InputError: if the folder holds a sweep around another config, which it names, or a single run.
        """
        path = self.path / "config.json"
        saved = _read_json(path)
        if path.exists() and "sections" not in saved:
            raise InputError(f"--workdir {self.path} does not hold a sweep; use another --workdir")
        differing = differences(saved["config"], experiment["config"]) if saved else []
        budgets = [{**(each.get("tuning") or {}), "points": ()} for each in (saved, experiment)] if saved else []
        if budgets and budgets[0] != budgets[1]:
            differing.append(f"budget of the search: {_told(budgets[0])} there, {_told(budgets[1])} now")
        if differing:
            raise InputError(f"{self.path} holds another sweep; use another --workdir ({'; '.join(differing)})")
        self._write_json("config.json", experiment)

    def refuse_sweep(self) -> None:
        """Raises InputError if the folder holds a sweep, which a single run would bury."""
        if "sections" in _read_json(self.path / "config.json"):
            raise InputError(f"--workdir {self.path} holds a sweep; use another --workdir")

    def refuse_other_run(self, config: Mapping[str, Any], fingerprint: str) -> None:
        """Raises InputError if the folder holds a result, or a file of its name, that is not of this run.

        It would be lost, with or without checkpoints beside it.
        """
        path = self.path / "config.json"
        saved = _read_json(path)
        present = [name for name in (*RESULTS, MODEL, "report.html") if (self.path / name).exists()]
        if path.exists() and saved and not {"experiment", "dataset"} <= saved.keys():
            raise InputError(f"--workdir {self.path}: its config.json is not that of a run; use another --workdir")
        if not present:
            return
        if not path.exists():
            raise InputError(
                f"--workdir {self.path}: it holds {present[0]}, but no config.json, and is no run folder; use another "
                "--workdir"
            )
        differing = differences(saved, config) if saved else []
        known = _read_json(self.path / "environment.json").get("data", {}).get("fingerprint", fingerprint)
        if known != fingerprint:
            differing.append(f"fingerprint of the data: {known} there, {fingerprint} now")
        if differing:
            raise InputError(f"{self.path} holds another run; use another --workdir ({'; '.join(differing)})")

    def checkpoints(self, seed: int) -> Path:
        return self.path / "checkpoints" / f"seed_{seed}"

    def steps_saved(self, seed: int) -> list[int]:
        """Returns the steps of which there is a whole checkpoint."""
        folder = self.checkpoints(seed)
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []

    def begin(self, config: Config, corpus: Corpus) -> None:
        """Writes what a run is and where it is at work, and removes a result that is not its own."""
        fingerprint = corpus.fingerprint()
        if not self.holds_result_of(to_dict(config), fingerprint):
            self.remove_result()  # of other seeds, perhaps, than the config says
        self._write_json("config.json", to_dict(config))
        self.write_environment({"data": {"source": corpus.source, "fingerprint": fingerprint}})

    def write_environment(self, facts: Mapping[str, Any]) -> None:
        """Writes versions, devices, and the given facts about the data."""
        devices = [f"{device.platform}: {device.device_kind}" for device in jax.devices()]
        versions = {name: importlib.metadata.version(name) for name in PACKAGES}
        machine = {"python": platform.python_version(), "platform": platform.platform(), "processors": os.cpu_count()}
        self._write_json("environment.json", {**machine, "devices": devices, "versions": versions, **facts})

    def remove_result(self) -> None:
        """Removes a result: beside a run that goes on it would be taken for its own."""
        if not self._writes:
            return
        shutil.rmtree(self.path / MODEL, ignore_errors=True)
        for name in (*RESULTS, "report.html"):
            (self.path / name).unlink(missing_ok=True)
        for name in (MODEL, *RESULTS):
            remove_partials(self.path / name)

    def write_result(self, result: Mapping[str, Any]) -> None:
        self._write_json("result.json", result)

    def write_predictions(self, predictions: Iterable[Mapping[str, Any]]) -> None:
        if self._writes:
            write_lines(self.path / "predictions.jsonl", predictions)

    def write_model(self, model: TrainedModel) -> None:
        if self._writes:
            model.save(self.path / MODEL, card(model))

    def write_representations(self, arrays: Mapping[str, np.ndarray]) -> None:
        if not self._writes:
            return
        with whole_file(self.path / "representations.npz", "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def metrics(self, seed: int, history: list[dict[str, Any]]) -> "MetricsLog":
        """Returns the log of a seed that continues after the given rows; rows that no checkpoint holds are dropped."""
        if not self._writes:
            return NoLog()
        path = self.path / "metrics.jsonl"
        write_lines(path, [row for row in read_whole_lines(path) if row["seed"] != seed] + history)
        step = history[-1]["step"] if history else 0
        return MetricsLog(path, self.path / "tensorboard" / f"seed_{seed}", step)

    def sort_metrics(self) -> None:
        """Sorts the rows by seed and epoch, however they were interrupted."""
        if not self._writes:
            return
        path = self.path / "metrics.jsonl"
        write_lines(path, sorted(read_whole_lines(path), key=lambda row: (row["seed"], row["epoch"])))

    def _write_json(self, name: str, value: Any) -> None:
        if self._writes:
            write_json(self.path / name, value)


class MetricsLog:
    """The log of one seed: `metrics.jsonl` and the events of TensorBoard."""

    def __init__(self, path: Path, events: Path, step: int) -> None:
        self._path = path
        # Events after this step were written by a run that was interrupted before it saved them.
        self._events = Events(events, step + 1)

    def write(self, row: Mapping[str, Any]) -> None:
        append_line(self._path, row)
        parts = [part for part in ("train", "validation", "test") if part in row]
        self._events.scalars({f"{part}/{name}": x for part in parts for name, x in row[part].items()}, row["step"])

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._events.close()


class NoLog(MetricsLog):
    """The log of a process that writes nothing."""

    def __init__(self) -> None:
        pass

    def write(self, row: Mapping[str, Any]) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


def _told(budget: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in budget.items() if name != "points") or "none"


def _is_trace(path: Path) -> bool:
    """Whether something in the folder of a run or a sweep that has failed is no loss: no epoch of it was saved."""
    match path.name:
        case "config.json" | "environment.json" | "tensorboard" | "profile":
            return True
        case "metrics.jsonl":
            return path.stat().st_size == 0
        case "checkpoints":
            return not any(saved.name.isdigit() for seed in path.iterdir() for saved in seed.iterdir())
        case "runs":
            return not any(path.iterdir())
        case "search":  # of which a trial has nothing yet
            return all(map(_is_trace, path.glob("*/*/*"))) and not any(path.glob("*.json"))
        case "result.json":  # of a sweep that has no run yet, and none that failed
            return bool(_read_json(path).get("failed", {"": ""}) == {})
    return is_partial(path)


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty where there is none, or half of one. Raises OSError for one that may not be read."""
    with suppress(FileNotFoundError, NotADirectoryError, InputError):
        return read_object(path)
    return {}
