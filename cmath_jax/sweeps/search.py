"""Searches for the hyper-parameters of a point: draws trials, trains them, stops the worse half early, again and again.

    drawn trials -> { train to the next rung -> compare on validation -> keep the better half } -> the best trial

Every point has the same number of trials, of the same number of epochs, and is judged by the weighted F1 of its best
epoch on validation (successive halving, Jamieson and Talwalkar 2016). The test split is not evaluated. What is done is
kept in `search/POINT.json`; what is at work is in checkpoints, and goes on from there.
"""

import logging
import shutil
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from cmath_jax.config import Config, override, source_of, structure
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import FailedError, InputError, Terminated, TrainingDivergedError, require
from cmath_jax.io.json_files import read_object, write_json
from cmath_jax.io.termination import Termination
from cmath_jax.sweeps.experiment import Experiment, Tuning
from cmath_jax.sweeps.sampling import Sampler, optuna
from cmath_jax.training.fit import train_all
from cmath_jax.training.grouping import check_disk, make_trainer
from cmath_jax.training.run_folder import RunFolder
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.trial import Trial

FIRST_SEED = 1000  # of the trials; the seeds of the final training are below
GENERATION = 8  # trials of `tpe` that are drawn before any of them is known
EVALUATED = ("validation",)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Searched:
    """A trial as the search leaves it.

    Attributes:
      options: what was drawn, by dotted names.
      validation: weighted F1 in percent after each epoch that it was trained.
      state: `complete`: trained to the end; `stopped` at a rung; `failed`: it diverged, or did not run.
      seconds, compile_seconds: what it took.
    """

    number: int
    options: Mapping[str, Any]
    validation: Sequence[float]
    state: str
    seconds: float
    compile_seconds: float

    @property
    def score(self) -> float:
        """Returns its best validation score; one that failed comes behind all others."""
        return max(self.validation, default=-1.0) if self.state != "failed" else -1.0


def search(
    folder: Path, point: str, base: Config, tuning: Tuning, corpus: Corpus, termination: Termination
) -> dict[str, Any]:
    """Searches for the hyper-parameters of a point; goes on where an earlier call stopped.

    Args:
      folder: of the sweep.
      base: what all trials have in common.

    Returns:
      `space`, `trials`, and the number of the `best` of those that were trained to the end, as `search/POINT.json`
      holds them.

    Raises:
      InputError: without Optuna, and for a search of another space in the folder.
      FailedError: if no trial came to its end.
      Terminated: after SIGTERM, when all is saved.
    """
    space = base.model.space
    sampler = Sampler(folder, point, space, tuning.sampler, tuning.seed)
    path = folder / "search" / f"{point}.json"
    plain = [asdict(each) | {"values": list(each.values)} for each in space]
    saved = read_object(path) if path.exists() else {"space": plain, "trials": []}
    if saved["space"] != plain:
        raise InputError(f"{path}: a search of another space; use another --workdir")
    done = [Searched(**each) for each in saved["trials"]]
    size = tuning.trials if tuning.sampler == "random" else GENERATION
    trainers: dict[Config, Trainer] = {}
    while True:
        for each in done:
            sampler.tell(each.number, each.validation, each.state)
        if len(done) >= tuning.trials:
            break
        numbers = range(len(done), min(len(done) + size, tuning.trials))
        drawn = {number: sampler.options(number) for number in numbers}
        done += _halve(folder / "search" / point, base, drawn, tuning, corpus, trainers, termination)
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"space": plain, "trials": [asdict(each) for each in done]})
        for number in numbers:  # what it was worth is written; its parameters are of no use
            shutil.rmtree(folder / "search" / point / f"{number:03d}" / "checkpoints", ignore_errors=True)
    complete = [each for each in done if each.state == "complete"]
    if not complete:
        raise FailedError(f"no trial of {point} came to its end")
    best = max(complete, key=lambda each: (each.score, -each.number))
    return {"space": plain, "trials": [asdict(each) for each in done], "best": best.number}


def check_can_search(experiment: Experiment) -> None:
    """Raises InputError where a search cannot be done: without Optuna, by several processes, with seeds of its own."""
    optuna()
    config = experiment.config
    require(
        not config.parallel.distributed, "a search is for one process; --shard I/N divides its models among several"
    )
    require(config.seeds <= FIRST_SEED, f"seeds={config.seeds}: the search has the seeds from {FIRST_SEED} on")
    require(config.train.patience == 0, "a search needs train.patience=0: each model gets the same number of epochs")


def searched(
    experiment: Experiment, folder: Path, corpora: Mapping[Config, Corpus], termination: Termination
) -> tuple[Experiment, dict[str, Any]]:
    """Returns the experiment with the options found for its points, and `tuning` of `result.json`. Raises as `search`.

    Points of the same name have the same options.
    """
    tuning = cast(Tuning, experiment.tuning)
    found: dict[str, Any] = {}
    for (_, point), (_, config) in experiment.runs.items():
        if point in tuning.points and point not in found:
            found[point] = search(folder, point, config, tuning, corpora[source_of(config)], termination)

    def options(point: str, common: Mapping[str, Any]) -> Mapping[str, Any]:
        best = found[point]["trials"][found[point]["best"]]["options"] if point in found else {}
        return {**common, **best}

    sections = tuple(
        replace(section, points={point: options(point, common) for point, common in section.points.items()})
        for section in experiment.sections
    )
    epochs = experiment.config.train.epochs
    facts = {**tuning.budget, "epochs": epochs, "rungs": tuning.rungs(epochs), "models": found}
    return replace(experiment, sections=sections), {"tuning": facts}


def _halve(
    folder: Path,
    base: Config,
    drawn: Mapping[int, Mapping[str, Any]],
    tuning: Tuning,
    corpus: Corpus,
    trainers: dict[Config, Trainer],
    termination: Termination,
) -> list[Searched]:
    """Returns the drawn trials, trained as far as the rule says, in their order."""
    fingerprint = corpus.fingerprint()
    with ExitStack() as stack:
        trials = {}
        for number, options in drawn.items():
            run = stack.enter_context(RunFolder(folder / f"{number:03d}"))
            config = override(base, {**options, "experiment": f"{base.model.name}, trial {number}", "seeds": 1})
            trials[number] = Trial.resumed(config, FIRST_SEED + number, run, fingerprint)
            trials[number].evaluated = EVALUATED
        left, rungs = list(trials), tuning.rungs(base.train.epochs)
        for rung in rungs:
            groups: dict[Config, list[Trial]] = {}
            for number in left:
                trials[number].until = rung
                groups.setdefault(structure(trials[number].config), []).append(trials[number])
            for shared, group in groups.items():
                _train(shared, group, corpus, trainers, termination)
            alive = [number for number in left if trials[number].failure is None]
            if rung == rungs[-1]:
                left = alive
            else:  # of equal ones the first
                left = sorted(sorted(alive, key=lambda n: -_best(trials[n]))[: -(-len(left) // 2)])
        return [_searched(number, drawn[number], trials[number], number in left) for number in drawn]


def _train(
    shared: Config, trials: Sequence[Trial], corpus: Corpus, trainers: dict[Config, Trainer], termination: Termination
) -> None:
    """Trains trials of one structure to the rung at which they rest. What fails is noted in them."""
    waiting = [trial for trial in trials if trial.active]
    if not waiting:
        return
    try:
        if shared not in trainers:
            trainers[shared] = make_trainer(waiting[0].config, corpus, len(waiting))
        check_disk(trainers[shared], waiting)
        for trial in waiting:
            trial.folder.begin(trial.config, corpus)
        with termination.deferred():
            train_all(trainers[shared], waiting, termination)
    except (InputError, Terminated, OSError):
        raise
    except Exception as error:  # lack of memory or a bug; trials of another structure may have better luck
        logger.error("%s: %s", trials[0].name, "".join(traceback.format_exception(error)))
        for trial in waiting:
            trial.failure = TrainingDivergedError(f"{trial.name}: {type(error).__name__}: {error}")


def _best(trial: Trial) -> float:
    return max(_scores(trial))


def _scores(trial: Trial) -> list[float]:
    return [row["validation"]["weighted_f1"] for row in trial.history]


def _searched(number: int, options: Mapping[str, Any], trial: Trial, whole: bool) -> Searched:
    if trial.failure is not None:
        logger.info("%s", trial.failure)
    state = "failed" if trial.failure is not None else "complete" if whole else "stopped"
    seconds, compiled = (sum(row[name] for row in trial.history) for name in ("seconds", "compile_seconds"))
    return Searched(number, dict(options), _scores(trial), state, seconds, compiled)
