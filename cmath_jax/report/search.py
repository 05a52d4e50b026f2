"""Reads what a search for hyper-parameters wrote into `result.json`, and checks what the page relies on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from cmath_jax.errors import InputError
from cmath_jax.report.load import printable

SCALES = ("log", "linear", "choice")
STATES = ("complete", "stopped", "failed")  # trained to the end; halved away; diverged
Option = str | int | float | bool | None


@dataclass(frozen=True)
class Dimension:
    """A hyper-parameter that is searched for.

    Attributes:
      values: lowest and highest, or of the scale `choice` all that there are.
    """

    name: str
    values: tuple[Option, ...]
    scale: str

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value of a scale of numbers."""
        low, high = map(_number, self.values)
        return low, high

    def holds(self, value: Option) -> bool:
        """Whether a trial can have the value."""
        if self.scale == "choice":
            return any(value == each and type(value) is type(each) for each in self.values)
        low, high = self.bounds
        slack = 1e-9 * max(abs(low), abs(high))  # of a value that was made from a logarithm
        return low - slack <= _number(value) <= high + slack


@dataclass(frozen=True)
class SearchTrial:
    """A training with one set of hyper-parameters.

    Attributes:
      validation: weighted F1 in percent after each epoch that it was trained for.
      state: one of `STATES`.
    """

    number: int
    options: Mapping[str, Option]
    validation: tuple[float, ...]
    state: str
    seconds: float
    compile_seconds: float

    def score(self, epochs: int | None = None) -> float:
        """Returns the best validation score of the first epochs, by default of all; 0 if the trial failed."""
        return 0.0 if self.state == "failed" else max(self.validation[:epochs])


@dataclass(frozen=True)
class ModelSearch:
    """The search of one model.

    Attributes:
      chosen: the trial whose hyper-parameters the model has; None where no trial is complete.
    """

    name: str
    space: tuple[Dimension, ...]
    trials: tuple[SearchTrial, ...]
    chosen: SearchTrial | None

    def count(self, state: str) -> int:
        """Counts the trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def epochs(self) -> int:
        """The number of epochs that all trials were trained for."""
        return sum(len(trial.validation) for trial in self.trials)

    @property
    def seconds(self) -> float:
        """How long all trials were trained, without compilation."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def compile_seconds(self) -> float:
        """How long their programs were compiled."""
        return sum(trial.compile_seconds for trial in self.trials)


@dataclass(frozen=True)
class Search:
    """The searches of several models under one budget.

    Attributes:
      trials: of each model.
      epochs: of a trial that is not stopped.
      rungs: the epochs after which the better half goes on.
      models: those whose search is done.
      repeated: the models that several folders have; the first one counts.
    """

    trials: int
    epochs: int
    rungs: tuple[int, ...]
    sampler: str
    models: tuple[ModelSearch, ...]
    repeated: tuple[str, ...] = ()

    @cached_property
    def budget(self) -> tuple[tuple[str, Any], ...]:
        """Name and value of what decides whether searches are alike."""
        values = {"trials": self.trials, "epochs": self.epochs, "rungs": self.rungs, "sampler": self.sampler}
        return tuple((f"tuning.{name}", value) for name, value in values.items())


def merged(searches: Sequence[Search], order: Sequence[str]) -> Search | None:
    """Returns one search with the models of several of one budget, in the given order of their names; None for none."""
    if not searches:
        return None
    models: dict[str, ModelSearch] = {}
    repeated: dict[str, None] = {}
    for model in (model for search in searches for model in search.models):
        if models.setdefault(model.name, model) is not model:
            repeated[model.name] = None
    rank = {name: i for i, name in enumerate(order)}
    inside = sorted(models.values(), key=lambda model: rank.get(model.name, len(rank)))
    return replace(searches[0], models=tuple(inside), repeated=tuple(repeated))


def read_search(path: Path, entry: Any) -> Search:
    """Returns the search that is stored under `tuning` in a file.

    Raises:
      InputError: naming the file and what is wrong.
    """
    try:
        return _search(entry)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: its tuning is not as a search writes it: {printable(what)}") from error


def _search(entry: Mapping[str, Any]) -> Search:
    trials, epochs = (_whole(name, entry[name], lowest=1) for name in ("trials", "epochs"))
    rungs = tuple(_whole("rungs", rung, lowest=1) for rung in entry["rungs"])
    _require(rungs and sorted(set(rungs)) == [*rungs] and rungs[-1] <= epochs, f"rungs {brief(rungs)} do not rise")
    _require(isinstance(entry["sampler"], str), f"sampler {brief(entry['sampler'])} is no name")
    read = []
    for name, model in entry["models"].items():
        try:
            read.append(_model(name, model, trials, epochs))
        except KeyError as error:
            raise ValueError(f"model {name!r}: it lacks {error}") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"model {name!r}: {error}") from error
    return Search(trials, epochs, rungs, printable(entry["sampler"]), tuple(read))


def _model(name: str, entry: Mapping[str, Any], most: int, epochs: int) -> ModelSearch:
    space = tuple(_dimension(dimension) for dimension in entry["space"])
    trials = tuple(_trial(trial, space, epochs) for trial in entry["trials"])
    _require(1 <= len(trials) <= most, f"{len(trials)} trials, of {most}")
    by_number = {trial.number: trial for trial in trials}
    _require(len(by_number) == len(trials), "two trials have the same number")
    complete = [trial.score() for trial in trials if trial.state == "complete"]
    if not complete:
        _require(entry["best"] is None, "its best trial is not complete")
        return ModelSearch(printable(name), space, trials, None)
    chosen = by_number.get(entry["best"])
    _require(
        chosen is not None and chosen.state == "complete", f"its best trial {brief(entry['best'])} is not complete"
    )
    assert chosen is not None
    _require(math.isclose(chosen.score(), max(complete)), f"trial {chosen.number} is not the best on validation")
    return ModelSearch(printable(name), space, trials, chosen)


def _dimension(entry: Mapping[str, Any]) -> Dimension:
    name, scale, values = printable(entry["name"]), entry["scale"], tuple(map(_option, entry["values"]))
    _require(scale in SCALES, f"{name}: scale {brief(scale)} is none of {', '.join(SCALES)}")
    if scale == "choice":
        _require(values, f"{name}: there is nothing to choose from")
    else:
        _require(len(values) == 2, f"{name}: not a lowest and a highest value")
        low, high = map(_number, values)
        _require(low <= high and (scale != "log" or low > 0), f"{name}: from {low:g} to {high:g} on a {scale} scale")
    return Dimension(name, values, scale)


def _trial(entry: Mapping[str, Any], space: Sequence[Dimension], epochs: int) -> SearchTrial:
    number = _whole("the number of a trial", entry["number"], lowest=0)
    of = f"trial {number}: "
    options = {printable(name): _option(value) for name, value in entry["options"].items()}
    for dimension in space:
        _require(dimension.name in options, f"{of}it has no {dimension.name}")
        value = options[dimension.name]
        _require(dimension.holds(value), f"{of}{dimension.name}={brief(value)} is outside of the space")
    validation = tuple(_number(score) for score in entry["validation"])
    _require(all(0 <= score <= 100 for score in validation), f"{of}a validation score is not between 0 and 100")
    state = entry["state"]
    _require(state in STATES, f"{of}state {brief(state)} is none of {', '.join(STATES)}")
    trained = len(validation)
    _require(trained <= epochs, f"{of}{trained} validation scores of {epochs} epochs")
    _require(trained or state == "failed", f"{of}it is {state} without a validation score")
    seconds, compiling = (_number(entry[name]) for name in ("seconds", "compile_seconds"))
    _require(seconds >= 0 and compiling >= 0, f"{of}it took a negative time")
    return SearchTrial(number, options, validation, state, seconds, compiling)


def _require(holds: object, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _whole(name: str, value: Any, lowest: int) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool) and value >= lowest, f"{name}: {brief(value)}")
    return int(value)


def _number(value: Any) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    _require(known, f"{brief(value)} is no number")
    return float(value)


def _option(value: Any) -> Option:
    _require(value is None or isinstance(value, str | int | float | bool), f"{brief(value)} is no option")
    return printable(value) if isinstance(value, str) else value
