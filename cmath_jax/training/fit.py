"""Training: `fit(config, workdir)` takes an experiment from its config to its result.

Corpus -> trials as they were saved -> { epoch of train steps -> evaluation -> checkpoint } -> best epoch -> result.

Every random number and every batch is addressed by the seed and the step: a run that was interrupted and resumed is the
run that was not, bit for bit; trials trained side by side, whose number an interruption may change, up to rounding.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from cmath_jax.config import Config, binding, to_dict
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import Terminated, TrainingDivergedError
from cmath_jax.io.termination import Termination
from cmath_jax.results.summary import References
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.epoch import Epochs
from cmath_jax.training.grouping import check_disk, make_trainer, next_group
from cmath_jax.training.multihost import agree, require_same
from cmath_jax.training.outcome import Outcome, test, write_outcome
from cmath_jax.training.progress import Progress
from cmath_jax.training.run_folder import RunFolder
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.trial import Trial


def fit(config: Config, workdir: str | Path) -> dict[str, Any]:
    """Trains, selects on validation, tests, and writes the run folder; goes on where an earlier run stopped.

    Returns:
      The content of `result.json`.

    Raises:
      InputError: for data or options that cannot be used, and for a folder that holds another run.
      TrainingDivergedError: when a loss or a gradient is not finite.
      Terminated: after SIGTERM, when the state is saved.
    """
    with Termination() as termination, RunFolder(workdir) as folder:
        folder.refuse_sweep()
        corpus = load_configured(config)
        (outcome,) = fit_runs([(config, folder)], corpus, References(corpus), termination)
        if isinstance(outcome, TrainingDivergedError):
            raise outcome
        return outcome


def fit_runs(
    runs: Sequence[tuple[Config, RunFolder]], corpus: Corpus, references: References, termination: Termination
) -> list[Outcome]:
    """Trains and tests every seed of runs of one structure, and writes their folders. Raises as `fit`.

    Returns:
      For each run the content of its `result.json`, or what stopped one of its seeds; the others are trained on.
    """
    trials = resume(runs, corpus)
    waiting = [trial for trial in trials if trial.active]
    trainer = make_trainer(runs[0][0], corpus, len(waiting) or len(trials))
    check_disk(trainer, waiting)
    for config, folder in runs:
        folder.begin(config, corpus)
    with termination.deferred():
        trainer = train_all(trainer, waiting, termination, partial(make_trainer, runs[0][0], corpus))
        # Still deferred: a process that ended in a test would leave the others waiting for it.
        test(trainer, [trial for trial in trials if trial.failure is None])
    of_runs = [[trial for trial in trials if trial.folder is folder] for _, folder in runs]
    return [write_outcome(trainer, of_run, references) for of_run in of_runs]


def resume(runs: Sequence[tuple[Config, RunFolder]], corpus: Corpus) -> list[Trial]:
    """Returns every seed of the runs, as far as its checkpoints say. Raises InputError for folders of other runs."""
    fingerprint = corpus.fingerprint()
    saved = [[folder.steps_saved(seed) for seed in range(config.seeds)] for config, folder in runs]
    require_same("options, data or checkpoints", (fingerprint, saved, [binding(to_dict(config)) for config, _ in runs]))
    for config, folder in runs:
        folder.refuse_other_run(to_dict(config), fingerprint)
    return [Trial.resumed(config, seed, folder, fingerprint) for config, folder in runs for seed in range(config.seeds)]


def train_all(
    trainer: Trainer, waiting: Sequence[Trial], termination: Termination, make: Callable[[int], Trainer]
) -> Trainer:
    """Trains trials of one structure until none is active, as many side by side as the trainer has places.

    Args:
      make: makes the trainer of so many trials, where fewer are left than there are places.

    Returns:
      The last trainer. Raises as `train`.
    """
    most = trainer.devices.trials
    while waiting:
        group = next_group(waiting, trainer.batches, most)
        if len(group) != trainer.devices.trials:
            trainer = make(len(group))
        train(trainer, group[: trainer.devices.trials], termination)
        waiting = [trial for trial in waiting if trial.active]
    return trainer


def train(trainer: Trainer, trials: Sequence[Trial], termination: Termination) -> None:
    """Trains trials side by side, each from where its checkpoints stand, until half of them have stopped.

    Fewer are then faster, since those that have stopped are computed too.

    Raises:
      Terminated: after SIGTERM, when all are saved.
    """
    title = trials[0].name if len(trials) == 1 else f"{trials[0].name} and {len(trials) - 1} beside it"
    with ExitStack() as stack:
        for trial in trials:
            trial.checkpoints = stack.enter_context(trial.opened_checkpoints(alone=len(trials) == 1))
        state = trainer.devices.put_trials([trial.latest_state(trainer) for trial in trials])
        for trial in trials:
            trial.log = stack.enter_context(trial.opened_log())
        most = trials[0].config.train.epochs
        progress = Progress(title, most, trainer.batches.steps_before(most), trials[0].done)
        epochs = Epochs(trainer, trials, stack.enter_context(progress), termination)
        while sum(trial.active for trial in trials) > len(trials) // 2:
            if agree(termination.requested)[0]:
                raise Terminated(f"{title}: stopped {_after(trials[0])}")
            state, is_whole = epochs.train(state)
            # The order must be so: the state is copied before the next step takes its memory, evaluated before it is
            # saved, since the score says which checkpoint to keep, and saved before it is logged (`Trial.end_epoch`).
            saved = [trainer.saved(host) for host in trainer.devices.get_trials(state)]
            active = [t for t, trial in enumerate(trials) if trial.active]
            if active and not is_whole:
                for t in active:
                    trials[t].save(saved[t])
                raise Terminated(f"{title}: stopped in an epoch, {_after(trials[active[0]])}")
            for t, row in epochs.evaluate(state, active).items():
                trials[t].end_epoch(row, saved[t])
                progress.epoch(trials[t].name, row)


def _after(trial: Trial) -> str:
    return f"after step {trial.done}, which is saved" if trial.done else "before the first step"
