"""Draws the hyper-parameters of trials by Optuna, and keeps trials that are done in its storage, for its other tools.

    optuna-dashboard sqlite:///runs/tune/optuna.db

What is drawn is a function of the seed, the point, the number of the trial and, for `tpe`, of what earlier trials came
to: a search that was interrupted draws what it would have drawn, and needs no storage for it.
"""

import errno
import hashlib
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError, installs
from cmath_jax.models.options.space import Dimension, Space, Value

NUMBER = "number"  # the attribute of a trial with its number here


@dataclass(frozen=True)
class Searched:
    """A trial as the search leaves it.

    Attributes:
      options: what was drawn, by dotted names.
      validation: weighted F1 in percent after each epoch that it was trained.
      state: `complete`: trained to the end; `stopped` at a rung; `failed`: it diverged.
      seconds, compile_seconds: what it took.
    """

    number: int
    options: dict[str, Value]
    validation: list[float]
    state: str
    seconds: float
    compile_seconds: float


def optuna() -> Any:
    """Returns Optuna. Raises InputError that says how to install it."""
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise InputError(f"a search needs the package optuna ({error}): {installs('tune')}") from error


def draw(space: Space, sampler: str, address: str, number: int, done: Sequence[Searched]) -> dict[str, Value]:
    """Returns the hyper-parameters of a trial, by dotted names.

    Args:
      sampler: `random`, or `tpe`, which learns from the trials that are done.
      address: what, beside its number, the draw is a function of.
    """
    package = optuna()
    kinds = {"random": package.samplers.RandomSampler, "tpe": package.samplers.TPESampler}
    seed = int.from_bytes(hashlib.sha256(f"{address} {number}".encode()).digest()[:4], "big")
    with _quiet(package):
        study = package.create_study(direction="maximize", sampler=kinds[sampler](seed=seed))
        study.add_trials([_frozen(package, each, space) for each in done])
        trial = study.ask(_distributions(package, space))
        return {each.name: trial.params[each.name] for each in space}


def store(folder: Path, point: str, space: Space, done: Sequence[Searched]) -> None:
    """Adds the trials of a point that are done to the storage of a sweep's folder, `optuna.db`, unless they are there.

    Raises:
      InputError: for a storage that is damaged.
      OSError: for one that cannot be written.
    """
    package, path = optuna(), folder / "optuna.db"
    with _quiet(package), _storage_errors(path), opened(path) as storage:
        study = package.create_study(storage=storage, study_name=point, direction="maximize", load_if_exists=True)
        known = {trial.user_attrs.get(NUMBER) for trial in study.get_trials(deepcopy=False)}
        study.add_trials([_frozen(package, each, space) for each in done if each.number not in known])


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Gives the storage of Optuna in a file, and closes what it has open there."""
    sqlalchemy = importlib.import_module("sqlalchemy")
    url = sqlalchemy.engine.URL.create("sqlite", database=str(path)).render_as_string()
    storage = optuna().storages.RDBStorage(url, engine_kwargs={"poolclass": sqlalchemy.pool.NullPool})
    try:
        yield storage
    finally:
        storage.remove_session()


def _frozen(package: Any, searched: Searched, space: Space) -> Any:
    """Returns a trial as Optuna keeps it."""
    states = package.trial.TrialState
    state = {"complete": states.COMPLETE, "stopped": states.PRUNED, "failed": states.FAIL}[searched.state]
    return package.trial.create_trial(
        state=state,
        value=max(searched.validation) if state is states.COMPLETE else None,
        params=searched.options,
        distributions=_distributions(package, space),
        intermediate_values=dict(enumerate(searched.validation, start=1)),
        user_attrs={NUMBER: searched.number},
    )


def _distributions(package: Any, space: Space) -> dict[str, Any]:
    def of(dimension: Dimension) -> Any:
        if dimension.scale == "choice":
            return package.distributions.CategoricalDistribution(dimension.values)
        low, high = dimension.values
        return package.distributions.FloatDistribution(low, high, log=dimension.scale == "log")

    return {each.name: of(each) for each in space}


@contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Keeps Optuna from telling what the log of the search tells."""
    before = package.logging.get_verbosity()
    package.logging.set_verbosity(package.logging.ERROR)
    try:
        yield
    finally:
        package.logging.set_verbosity(before)


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Makes an OSError of a disk that is full or may not be written, and an InputError of what is no storage."""
    kinds = (
        importlib.import_module("sqlalchemy").exc.SQLAlchemyError,
        importlib.import_module("alembic").util.CommandError,
        importlib.import_module("optuna").exceptions.OptunaError,
    )
    try:
        yield
    except kinds as error:
        said = f"{error} {error.__cause__}"
        for text, number in (("full", errno.ENOSPC), ("readonly", errno.EROFS), ("unable to open", errno.EACCES)):
            if text in said:
                raise OSError(number, os.strerror(number), str(path)) from error
        raise InputError(
            f"{path}: not a storage of Optuna ({type(error).__name__}); it is only a copy of search/*.json for other "
            "tools: move it away, and run the command again"
        ) from error
