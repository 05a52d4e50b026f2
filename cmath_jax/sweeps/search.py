"""Searches for the hyper-parameters of points: draws trials, trains them, stops the worse half early, again and again.

    drawn trials -> { train to the next rung -> compare on validation -> keep the better half } -> the best trial

Every point has the same number of trials, of the same number of epochs, and is judged by the weighted F1 of its best
epoch on validation (successive halving, Jamieson and Talwalkar 2016). The test split is not evaluated. What is done is
kept in `search/POINT.json`; what is at work is in checkpoints, and goes on from there.
"""

import logging
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from cmath_jax.config import Config, differences, override, source_of, structure, to_dict
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import FailedError, InputError, Terminated, require
from cmath_jax.io.json_files import read_object, write_json
from cmath_jax.io.termination import Termination
from cmath_jax.models.options.space import Space
from cmath_jax.sweeps.experiment import Experiment, Tuning
from cmath_jax.sweeps.sampling import Searched, draw, optuna, store
from cmath_jax.training.fit import train_all
from cmath_jax.training.grouping import check_disk, make_trainer
from cmath_jax.training.run_folder import RunFolder
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.trial import Trial

FIRST_SEED = 1000  # of the trials; the seeds of the final training are below
GENERATION = 8  # trials of `tpe` that are drawn before any of them is known
SCORED = ("validation",)  # the splits that a trial is evaluated on

logger = logging.getLogger(__name__)
Trainers = dict[tuple[Config, int], Trainer]  # structure and number of trials -> what trains them


def check_can_search(experiment: Experiment) -> None:
    """Raises InputError where a search cannot be done: without Optuna, by several processes, with other budgets."""
    optuna()
    tuning = cast(Tuning, experiment.tuning)
    configs = [config for (_, point), (_, config) in experiment.runs.items() if point in tuning.points]
    require(not experiment.config.parallel.distributed, "a search is for one process; --shard I/N divides its models")
    for config in configs:
        require(config.seeds <= FIRST_SEED, f"seeds={config.seeds}: the search has the seeds from {FIRST_SEED} on")
        require(config.train.patience == 0, "a search needs train.patience=0: each model gets as many epochs")
        require(
            config.train.epochs == experiment.config.train.epochs,
            f"train.epochs={config.train.epochs} of a point: a search gives each model as many epochs",
        )


def search_points(
    experiment: Experiment, folder: Path, corpora: Mapping[Config, Corpus], termination: Termination
) -> tuple[Experiment, dict[str, Any], dict[str, str]]:
    """Searches for the hyper-parameters of the points of a tuning, one after the other.

    Returns:
      The experiment, in which these points have the options that were found; `tuning` of `result.json`; and points
      whose search has failed, which stay as they are: run -> a readable line.

    Raises:
      InputError, OSError, Terminated: as `search`.
    """
    tuning = cast(Tuning, experiment.tuning)
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    options = {(section.kind, name): given for section in experiment.sections for name, given in section.points.items()}
    for (kind, point), (name, config) in experiment.runs.items():
        if point not in tuning.points:
            continue
        # What is given is not drawn.
        space = tuple(each for each in config.model.space if each.name not in options[kind, point])
        try:
            found[point] = search(folder, point, config, space, tuning, corpora[source_of(config)], termination)
        except (InputError, Terminated, OSError):
            raise
        except Exception as error:  # lack of memory, or a bug; other models may have better luck
            logger.error("%s: %s", point, "".join(traceback.format_exception(error)))
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        options[kind, point] = {**options[kind, point], **found[point]["trials"][found[point]["best"]]["options"]}
    sections = tuple(
        replace(section, points={name: options[section.kind, name] for name in section.points})
        for section in experiment.sections
    )
    epochs = experiment.config.train.epochs
    facts = {**tuning.budget, "epochs": epochs, "rungs": tuning.rungs(epochs), "models": found}
    return replace(experiment, sections=sections), {"tuning": facts}, failed


def search(
    folder: Path,
    point: str,
    base: Config,
    space: Space,
    tuning: Tuning,
    corpus: Corpus,
    termination: Termination,
) -> dict[str, Any]:
    """Searches for the hyper-parameters of a point; goes on where an earlier call stopped.

    Args:
      folder: of the sweep.
      base: what all trials have in common.
      space: what is drawn.

    Returns:
      `space`, `trials`, and the number of the `best` of those that were trained to the end.

    Raises:
      InputError: for a folder that holds another search, and for a damaged file in it.
      FailedError: if no trial came to its end.
      Terminated: after SIGTERM, when all is saved.
      OSError: for a full disk.
    """
    path, trials = folder / "search" / f"{point}.json", folder / "search" / point
    stamp = {
        "config": to_dict(base),
        "fingerprint": corpus.fingerprint(),
        "space": [{"name": each.name, "values": list(each.values), "scale": each.scale} for each in space],
    }
    done = _read(path, stamp)
    size = tuning.trials if tuning.sampler == "random" else GENERATION
    trainers: Trainers = {}
    while True:
        for each in done:  # what it was worth is written; its parameters are of no use
            shutil.rmtree(trials / f"{each.number:03d}" / "checkpoints", ignore_errors=True)
        if len(done) >= tuning.trials:
            break
        numbers = range(len(done), min(len(done) + size, tuning.trials))
        drawn = {number: draw(space, tuning.sampler, f"{tuning.seed} {point}", number, done) for number in numbers}
        done = [*done, *_halve(trials, base, drawn, tuning, corpus, trainers, termination)]
        write_json(path, {**stamp, "trials": [asdict(each) for each in done]})
    store(folder, point, space, done)
    complete = [each for each in done if each.state == "complete"]
    if not complete:
        raise FailedError("no trial came to its end: all have diverged")
    best = max(complete, key=lambda each: (max(each.validation), -each.number))
    return {"space": stamp["space"], "trials": [asdict(each) for each in done], "best": best.number}


def _read(path: Path, stamp: Mapping[str, Any]) -> list[Searched]:
    """Returns the trials that are done. Raises InputError for those of another search, and for a damaged file."""
    if not path.exists():
        return []
    advice = f"use another --workdir, or move {path.name} away to search again"
    try:
        saved = read_object(path)
        differing = differences(saved["config"], stamp["config"])
        differing += [f"other {name}" for name in ("fingerprint", "space") if saved[name] != stamp[name]]
        done = [Searched(**each) for each in saved["trials"]]
        whole = [each.number for each in done] == [*range(len(done))] and all(len(each.validation) for each in done)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not as a search writes it ({error}); {advice}") from error
    require(whole, f"{path}: not as a search writes it (trials are missing); {advice}")
    require(not differing, f"{path} holds another search ({'; '.join(differing)}); {advice}")
    return done


def _halve(
    folder: Path,
    base: Config,
    drawn: Mapping[int, Mapping[str, Any]],
    tuning: Tuning,
    corpus: Corpus,
    trainers: Trainers,
    termination: Termination,
) -> list[Searched]:
    """Returns the drawn trials, trained as far as the rule says, in their order."""
    trials = {number: _trial(folder, base, number, options, corpus) for number, options in drawn.items()}
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
            left = sorted(sorted(alive, key=lambda n: -max(_scores(trials[n])))[: -(-len(left) // 2)])
    return [_searched(number, dict(drawn[number]), trials[number], number in left) for number in drawn]


def _trial(folder: Path, base: Config, number: int, options: Mapping[str, Any], corpus: Corpus) -> Trial:
    """Returns a drawn trial, as far as it is trained."""
    run = RunFolder(folder / f"{number:03d}")  # the folder of the sweep is held, and that is enough
    run.path.mkdir(parents=True, exist_ok=True)
    config = override(base, {**options, "experiment": f"{folder.name}, trial {number}", "seeds": 1})
    trial = Trial.resumed(config, FIRST_SEED + number, run, corpus.fingerprint())
    trial.evaluated = SCORED
    return trial


def _train(
    shared: Config, trials: Sequence[Trial], corpus: Corpus, trainers: Trainers, termination: Termination
) -> None:
    """Trains trials of one structure to the rung at which they rest. One that diverges says so."""
    waiting = [trial for trial in trials if trial.active]
    if not waiting:
        return
    make = _once(waiting[0].config, corpus, shared, trainers)
    trainer = make(len(waiting))
    check_disk(trainer, waiting)
    for trial in waiting:
        trial.folder.begin(trial.config, corpus)
    with termination.deferred():
        train_all(trainer, waiting, termination, make)


def _once(config: Config, corpus: Corpus, shared: Config, trainers: Trainers) -> Callable[[int], Trainer]:
    """Returns a function that makes the trainer of so many trials, each once: it holds a compiled program."""

    def make(trials: int) -> Trainer:
        if (shared, trials) not in trainers:
            made = make_trainer(config, corpus, trials)
            trainers[shared, trials] = trainers.setdefault((shared, made.devices.trials), made)
        return trainers[shared, trials]

    return make


def _scores(trial: Trial) -> list[float]:
    return [row["validation"]["weighted_f1"] for row in trial.history]


def _searched(number: int, options: dict[str, Any], trial: Trial, whole: bool) -> Searched:
    if trial.failure is not None:
        logger.info("%s", trial.failure)
    state = "failed" if trial.failure is not None else "complete" if whole else "stopped"
    seconds, compiled = (sum(row[name] for row in trial.history) for name in ("seconds", "compile_seconds"))
    return Searched(number, options, _scores(trial), state, seconds, compiled)
