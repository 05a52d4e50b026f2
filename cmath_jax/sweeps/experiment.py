"""Reads experiment files: a config, and the points of a sweep around it.

An experiment file defines `get_config()`, and for a sweep `sweep(config)`, which returns `Section`s. If it defines
`scaling(config)` instead, which returns `Section`s and a `Measuring`, its points are measured and not trained; if it
defines `tune(config)`, which returns `Section`s and a `Tuning`, hyper-parameters are searched for them before they are.
Parameters of these functions are options of the command line: `get_config(dataset="meld", quick=False)` is called with
the values of `--config.dataset` and `--config.quick`.
"""

import contextlib
import inspect
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

from cmath_jax.config import Config, flat, from_dict, override, to_dict
from cmath_jax.errors import InputError, require, require_one_of
from cmath_jax.io.json_files import read_json
from cmath_jax.io.spelled import convert
from cmath_jax.models.options import model_named, recipe_options

FUNCTIONS = {"sweep", "scaling", "tune"}  # of an experiment file, of which it has one at most
SAMPLERS = ("random", "tpe")


@dataclass(frozen=True)
class Section:
    """A table or a figure of the report, as the points that it compares.

    Attributes:
      kind: which one, for the report: main_results, ablations, modalities, width, lengths, gammas; or, of a scaling
        study, one of `scaling.report.TITLES`.
      points: name of a row or a point -> the options, by dotted names, in which its config differs.
    """

    kind: str
    points: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Measuring:
    """The settings by which the points of a scaling study are measured.

    Attributes:
      repeats: of the steps of every point; medians and quartiles are over them.
      seconds: that a repeat takes, unless a single step takes longer.
      compile_for: devices as `tpu:v5e:4x4`, for which the points are compiled and not run; "" measures those at hand.

    Raises:
      InputError: on construction, for a number that is not positive.
    """

    repeats: int = 9
    seconds: float = 0.5
    compile_for: str = ""

    def __post_init__(self) -> None:
        if not (self.repeats > 0 and 0 < self.seconds < inf):
            raise InputError(f"repeats={self.repeats} and seconds={self.seconds} must be positive")


@dataclass(frozen=True)
class Tuning:
    """The budget of a search for hyper-parameters, which each of its points has for itself (`sweeps/search.py`).

    Attributes:
      points: of the sections, those that are searched; their options are what all trials of them have in common.
      trials: of each point.
      halvings: how often the worse half of the trials is stopped; the first time after epochs / 2^halvings epochs.
      sampler: `random`, or `tpe`, which learns from earlier trials (Bergstra et al. 2011).
      seed: of the draws.

    Raises:
      InputError: on construction, for a number or a sampler that there is not.
    """

    points: tuple[str, ...]
    trials: int = 32
    halvings: int = 2
    sampler: str = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.trials > 0, f"trials={self.trials} must be positive")
        for name in ("halvings", "seed"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} must not be negative")
        require_one_of("sampler", self.sampler, SAMPLERS)

    @property
    def budget(self) -> dict[str, Any]:
        """Returns all that decides what the search of a point finds, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "points"}

    def rungs(self, epochs: int) -> list[int]:
        """Returns after how many epochs trials are compared; the last one is all of them."""
        return sorted({max(1, epochs >> halving) for halving in range(min(self.halvings, epochs.bit_length()) + 1)})


@dataclass(frozen=True)
class Experiment:
    """A config and the sections around it; none for a single run.

    Attributes:
      whole: the sections of the sweep that this is a part of; () for one that is whole.
      measuring: of a scaling study, whose points are not trained.
      tuning: of a search, which replaces the options of its points by the best it finds.

    Raises:
      InputError: on construction, for a point with an unknown or a wrong option.
    """

    config: Config
    sections: tuple[Section, ...] = ()
    whole: tuple[Section, ...] = ()
    measuring: Measuring | None = None
    tuning: Tuning | None = None

    def __post_init__(self) -> None:
        _ = self.runs
        if self.tuning:
            known = [name for section in self.whole or self.sections for name in section.points]
            for point in self.tuning.points:
                require(known.count(point) == 1, f"tuning: {point!r} is the name of {known.count(point)} points, not 1")

    @cached_property
    def runs(self) -> dict[tuple[str, str], tuple[str, Config]]:
        """Returns (kind, point) -> name and config of its run. Points of the same config share one run."""
        names: dict[Config, str] = {self.config: self.config.model.name}
        runs = {}
        for section in self.sections:
            for point, options in section.points.items():
                try:
                    config = override(self.config, options)
                except InputError as error:
                    raise InputError(f"point {point!r} of {section.kind}: {error}") from error
                name = names.setdefault(config, f"{section.kind}_{point.replace(',', '_')}")
                runs[section.kind, point] = name, override(config, {"experiment": name})
        if len(set(names.values())) < len(names) or len({section.kind for section in self.sections}) < len(
            self.sections
        ):
            raise InputError(
                f"two sections, or two points of different options, share a name: {', '.join(names.values())}"
            )
        strange = [name for name in names.values() if not re.fullmatch(r"[\w.+-]+", name)]
        if strange:
            raise InputError(f"point {strange[0]!r} cannot name a folder; letters, digits and . , _ + - can")
        return runs

    def to_dict(self) -> dict[str, Any]:
        """Returns the experiment as `config.json` holds it, ready for JSON."""
        if not self.sections:
            return to_dict(self.config)
        whole = {"whole": _plain(self.whole)} if self.whole else {}
        measuring = {"measuring": asdict(self.measuring)} if self.measuring else {}
        tuning = {"tuning": asdict(self.tuning)} if self.tuning else {}
        return {"config": to_dict(self.config), "sections": _plain(self.sections), **whole, **measuring, **tuning}


def load(path: str | Path, options: Mapping[str, Any] | None = None) -> Experiment:
    """Returns the experiment of a file (`.py`) or of a run (`config.json`), with options changed by their dotted names.

    Raises:
      InputError: if there is no such file, nothing in it that is a config, or an option is unknown or wrong.
    """
    path, options = Path(path), dict(options or {})
    _check_is_file(path)
    if path.suffix == ".json":
        return _from_json(path, options)
    namespace = _run(path)
    if not callable(namespace.get("get_config")):
        raise InputError(f"{path}: an experiment file defines get_config()")
    if "models" in _parameters(namespace) and "model.name" in options:
        require("models" not in options, "model.name and models mean the same here: give one of them")
        options["models"] = options.pop("model.name")
    arguments = _arguments(namespace, options)

    def call(name: str, *first: Any) -> Any:
        wanted = inspect.signature(namespace[name]).parameters
        return namespace[name](*first, **{key: value for key, value in arguments.items() if key in wanted})

    def get_config() -> Config:
        config = call("get_config")
        if not isinstance(config, Config):
            raise InputError(f"get_config() returned {type(config).__name__}, not a Config")
        return from_dict(to_dict(config))  # a dataclass takes a value of any type; this does not

    left = {key: value for key, value in options.items() if key not in arguments}
    config = override(_blamed(path, get_config), left, _parameters(namespace))
    if "dataset" in arguments:
        config = override(config, {"dataset": arguments["dataset"]})

    def get_experiment() -> Experiment:
        if "scaling" in namespace:
            sections, measuring = call("scaling", config)
            return Experiment(config, tuple(sections), measuring=measuring)
        sections, tuning = call("tune", config) if "tune" in namespace else (call("sweep", config), None)
        tuned = tuning.points if tuning else ()
        return Experiment(config, tuple(_beside(left, config, each, tuned) for each in sections), tuning=tuning)

    return _blamed(path, get_experiment) if FUNCTIONS & namespace.keys() else Experiment(config)


def _beside(given: Mapping[str, Any], config: Config, section: Section, tuned: Sequence[str]) -> Section:
    """Returns a section whose points keep the options that are given where recipes or searches would set them."""
    values = flat(to_dict(config))

    def kept(name: str, point: Mapping[str, Any]) -> dict[str, Any]:
        model, dataset = (point.get(each, values[each]) for each in ("model.name", "dataset"))
        set_otherwise: set[str] = set()
        with contextlib.suppress(InputError):  # which is raised again, with the name of the point
            set_otherwise |= recipe_options(point.get("recipe", ""), model, dataset).keys()
            set_otherwise |= {each.name for each in model_named(model).space if name in tuned}
        return {each: values[each] for each in given if each in set_otherwise and each in values} | dict(point)

    return replace(section, points={name: kept(name, point) for name, point in section.points.items()})


def parameters(path: str | Path) -> dict[str, Any]:
    """Returns the parameters of an experiment file that are options of the command line, with their defaults."""
    path = Path(path)
    _check_is_file(path)
    return {} if path.suffix == ".json" else _parameters(_run(path))


def _run(path: Path) -> dict[str, Any]:
    """Runs an experiment file and returns its names. It can import its neighbours: `from experiments import width`."""
    above = str(path.resolve().parent.parent)
    if above not in sys.path:
        sys.path.append(above)
    return _blamed(path, lambda: runpy.run_path(str(path)))


def _check_is_file(path: Path) -> None:
    """Raises InputError that says what else a path is."""
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "it is a device or a pipe, not a file"
        raise InputError(f"--config {path}: {what if path.exists() else 'there is no such file'}")


def _parameters(namespace: Mapping[str, Any]) -> dict[str, Any]:
    functions = [namespace[name] for name in ("get_config", *sorted(FUNCTIONS)) if callable(namespace.get(name))]
    found = [parameter for function in functions for parameter in inspect.signature(function).parameters.values()]
    return {parameter.name: parameter.default for parameter in found if parameter.default is not parameter.empty}


def _arguments(namespace: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options that are parameters of the file's functions, in the type of their defaults."""
    defaults = _parameters(namespace)
    return {key: convert(key, options[key], type(default)) for key, default in defaults.items() if key in options}


def _from_json(path: Path, options: Mapping[str, Any]) -> Experiment:
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds no config")
    if "sections" not in values:
        return Experiment(override(from_dict(values), options))
    try:
        sections, whole = _sections(values["sections"]), _sections(values.get("whole", ()))
        measuring = Measuring(**values["measuring"]) if "measuring" in values else None
        tuning = values.get("tuning")
        tuning = _tuning(**tuning) if tuning else None
        return Experiment(override(from_dict(values["config"]), options), sections, whole, measuring, tuning)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: holds no sweep: {type(error).__name__}: {error}") from error


def _tuning(points: Sequence[str], **budget: Any) -> Tuning:
    """Returns the tuning of a `config.json`. Raises InputError for a value of another kind."""
    kinds = {each.name: each.type for each in fields(Tuning)}
    require(isinstance(points, list), "tuning.points is a list of names")
    return Tuning(tuple(points), **{name: convert(f"tuning.{name}", budget[name], kinds[name]) for name in budget})


def _plain(sections: Sequence[Section]) -> list[dict[str, Any]]:
    return [{"kind": section.kind, "points": section.points} for section in sections]


def _sections(plain: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    return tuple(Section(str(section["kind"]), dict(section["points"])) for section in plain)


def _blamed(path: Path, call: Callable[[], Any]) -> Any:
    """Returns what the call returns; what it raises becomes an InputError with the line of the file."""
    try:
        return call()
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        what = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"{path}{f', line {line}' if line else ''}: {what}") from error
