"""Draws the hyper-parameters of trials, by Optuna, and keeps them in its storage, `optuna.db` of the sweep's folder.

    optuna-dashboard sqlite:///runs/tune/optuna.db

What is drawn is a function of the seed, the point, the number of the trial and, for `tpe`, of what earlier trials came
to: a search that was interrupted draws what it would have drawn.
"""

import hashlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmath_jax.errors import InputError
from cmath_jax.models.options.space import Dimension, Space

NUMBER = "number"  # the attribute of a trial with its number here; one without it was drawn by half


def optuna() -> Any:
    """Returns Optuna. Raises InputError that says how to install it."""
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise InputError(
            f"a search needs the package optuna ({error}): pip install -r requirements-tune.txt -c constraints.txt"
        ) from error


class Sampler:
    """The trials of a point as Optuna keeps them.

    Attributes:
      kind: `random` or `tpe`.
    """

    def __init__(self, folder: Path, point: str, space: Space, kind: str, seed: int) -> None:
        """Opens the study of a point, or makes it. Raises InputError without Optuna, or for a damaged storage."""
        self._optuna, self._kind, self._address = optuna(), kind, f"{seed} {point}"
        self._distributions = {each.name: _distribution(self._optuna, each) for each in space}
        url = importlib.import_module("sqlalchemy").engine.URL.create("sqlite", database=str(folder / "optuna.db"))
        with self._quiet():
            try:
                self._study = self._optuna.create_study(
                    storage=url.render_as_string(), study_name=point, direction="maximize", load_if_exists=True
                )
            except Exception as error:  # of SQLite, of Alembic
                raise InputError(
                    f"{folder / 'optuna.db'}: not a storage of Optuna ({type(error).__name__}); the search does not "
                    "depend on it: move it away, and run the command again"
                ) from error

    def options(self, number: int) -> dict[str, Any]:
        """Returns the hyper-parameters of a trial, by dotted names; drawn now, unless they were drawn before."""
        with self._quiet():
            trial = self._known().get(number)
            if trial is None:
                samplers = self._optuna.samplers
                kind = {"random": samplers.RandomSampler, "tpe": samplers.TPESampler}[self._kind]
                self._study.sampler = kind(seed=_seed(f"{self._address} {number}"))
                trial = self._study.ask(self._distributions)
                trial.set_user_attr(NUMBER, number)
            return {name: trial.params[name] for name in self._distributions}

    def tell(self, number: int, scores: Sequence[float], state: str) -> None:
        """Notes the scores of a trial by epoch, and `complete`, `stopped` or `failed`, unless they are known."""
        states = self._optuna.trial.TrialState
        with self._quiet():
            known = self._known()[number]
            if known.state.is_finished():
                return
            trial = self._optuna.trial.Trial(self._study, known._trial_id)
            for epoch, score in enumerate(scores, start=1):
                trial.report(score, epoch)
            if state == "complete":
                self._study.tell(trial, max(scores))
            else:
                self._study.tell(trial, state=states.PRUNED if state == "stopped" else states.FAIL)

    def _known(self) -> Mapping[int, Any]:
        trials = self._study.get_trials(deepcopy=False)
        return {trial.user_attrs[NUMBER]: trial for trial in trials if NUMBER in trial.user_attrs}

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keeps Optuna from telling what the log of the search tells."""
        logging = self._optuna.logging
        before = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)
        try:
            yield
        finally:
            logging.set_verbosity(before)


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    if dimension.scale == "choice":
        return optuna.distributions.CategoricalDistribution(dimension.values)
    low, high = dimension.values
    return optuna.distributions.FloatDistribution(low, high, log=dimension.scale == "log")


def _seed(address: str) -> int:
    return int.from_bytes(hashlib.sha256(address.encode()).digest()[:4], "big")
