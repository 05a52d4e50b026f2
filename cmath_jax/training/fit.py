"""Training: `fit(config, workdir)` takes an experiment from its config to its result.

Data -> batches -> { epoch of train steps -> evaluation -> checkpoint } -> best epoch -> result. The step is in
`step.py`, what it needs around it in `trainer.py`. Seeds, and the runs of a sweep, share a program, one after another
or side by side, as a crew of members (`grouping.py`). Every random number and every batch is addressed by the seed
and the step: a run that was interrupted and resumed is the run that was not, bit for bit; in a crew, whose size an
interruption may change, up to rounding.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from cmath_jax.config import Config, binding, to_dict
from cmath_jax.data.corpus import Corpus
from cmath_jax.errors import InputError, Terminated, TrainingDivergedError
from cmath_jax.evaluation.calibration import Calibration
from cmath_jax.io.files import sizes
from cmath_jax.io.termination import Termination
from cmath_jax.prediction.selection import trained_model
from cmath_jax.results import summary
from cmath_jax.results.representations import representations
from cmath_jax.training.checkpoint import Checkpoints, saved_record
from cmath_jax.training.devices import host_copy
from cmath_jax.training.epoch import Pace, epoch_rows, train_epoch
from cmath_jax.training.grouping import crews, make_program
from cmath_jax.training.multihost import agree, require_same, writes
from cmath_jax.training.progress import Progress
from cmath_jax.training.run_folder import RunFolder
from cmath_jax.training.step import TrainState
from cmath_jax.training.tracing import Tracer
from cmath_jax.training.trainer import Program, load_configured
from cmath_jax.training.trial import Member


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
        (outcome,) = train_runs([(config, folder)], corpus, summary.References(corpus), termination)
        if isinstance(outcome, TrainingDivergedError):
            raise outcome
        return outcome


def train_runs(
    runs: Sequence[tuple[Config, RunFolder]], corpus: Corpus, references: summary.References, termination: Termination
) -> list[dict[str, Any] | TrainingDivergedError]:
    """Trains and tests every seed of runs of one structure, and writes their folders.

    Returns:
      For each run the content of its `result.json`, or what stopped one of its seeds; the others are trained to their
      end.

    Raises:
      InputError, Terminated: as `fit`.
    """
    fingerprint = corpus.fingerprint()
    saved = [[folder.steps_saved(seed) for seed in range(config.seeds)] for config, folder in runs]
    require_same("options, data or checkpoints", (fingerprint, saved, [binding(to_dict(config)) for config, _ in runs]))
    members_r: list[list[Member]] = []
    for config, folder in runs:
        folder.refuse_other_run(to_dict(config), fingerprint)
        stamp = {"config": to_dict(config), "fingerprint": fingerprint}
        records = [saved_record(folder.checkpoints(seed), stamp) for seed in range(config.seeds)]
        members_r.append([Member(config, seed, folder, stamp, **record) for seed, record in enumerate(records)])
    everyone = [member for members in members_r for member in members]
    waiting = [member for member in everyone if member.active]
    program = make_program(runs[0][0], corpus, len(waiting) or len(everyone))
    capacity = program.engine.members
    check_room(program, runs[0][1], waiting)
    for config, folder in runs:
        if not folder.holds_result_of(to_dict(config), fingerprint):
            folder.remove_result()  # of other seeds, perhaps, than the config says
        folder.write_config(config)
        folder.write_environment({"data": {"source": corpus.source, "fingerprint": fingerprint}})
    with termination.deferred():
        while waiting:
            # The crew is at one and the same step of an epoch; an interruption may have scattered them.
            steps = program.batches.steps
            crew = [member for member in waiting if member.done % steps == waiting[0].done % steps]
            size = min(len(crew), capacity)
            if size != program.engine.members:
                program = make_program(runs[0][0], corpus, size)
            train_crew(program, crew[: program.engine.members], termination)
            waiting = [member for member in waiting if member.active]
        sound = [member for member in everyone if member.failure is None]
        tested: dict[int, summary.SeedResult] = {}
        for group in crews(sound, program.engine.members):
            tested |= zip(map(id, group), test_crew(program, group), strict=True)
    outcomes: list[dict[str, Any] | TrainingDivergedError] = []
    for (config, folder), members in zip(runs, members_r, strict=True):
        failures = [member.failure for member in members if member.failure is not None]
        if failures:
            outcomes.append(failures[0])
            continue
        seeds = [tested[id(member)] for member in members]
        reference = references.of(config)
        result = summary.summarize(config, corpus, seeds, reference)
        folder.sort_metrics()
        folder.write_predictions(summary.predictions(corpus, seeds, reference[1]))
        folder.write_representations(representations(corpus, program.scaling, config, seeds[0]))
        chosen = summary.best_seed(seeds)
        with Checkpoints(folder.checkpoints(chosen.seed)) as store:
            params = best_state(program, store).evaluated
        folder.write_model(trained_model(config, corpus, program.scaling, params, seeds, result))
        folder.write_result(result)
        outcomes.append(result)
    return outcomes


def check_room(program: Program, folder: RunFolder, members: Sequence[Member]) -> None:
    """Raises InputError if the checkpoints of the members, the latest and the best of each, as far as they are not
    there yet, and the model of each run would fill the disk."""
    state = jax.eval_shape(program.initialize, 0)
    whole, model = (
        sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)) for tree in (state, state.params)
    )
    missing = sum(max(0, 2 - len(member.folder.steps_saved(member.seed))) for member in members)
    needed = missing * whole + len({member.folder.path for member in members}) * model
    free = shutil.disk_usage(folder.path).free if writes() else needed
    if needed > free:
        more, less = sizes(needed, free)
        raise InputError(
            f"--workdir {folder.path}: {_checkpoints_of(len(members))} up to {more}, and there are {less} left on the "
            "disk; take another folder, fewer seeds or a part of the experiment"
        )


def _checkpoints_of(runs: int) -> str:
    return "the checkpoints of the run need" if runs == 1 else f"the checkpoints of {runs} runs need"


def train_crew(program: Program, crew: Sequence[Member], termination: Termination) -> None:
    """Trains members side by side, each from where its checkpoints stand, until half of them have stopped.

    A smaller crew is then faster, since the places of those that have stopped are computed too.

    Raises:
      Terminated: after SIGTERM, when all are saved.
    """
    engine, steps = program.engine, program.batches.steps
    scaling = program.scaling.tree()
    with ExitStack() as stack:
        stores = [stack.enter_context(Checkpoints(m.folder.checkpoints(m.seed))) for m in crew]
        states = [restore(program, member, store) for member, store in zip(crew, stores, strict=True)]
        logs = [stack.enter_context(m.folder.metrics(m.seed, m.history)) for m in crew]
        progress = stack.enter_context(Progress(_title(crew), crew[0].config.train.epochs, steps, crew[0].done))
        state, settings = engine.put(states), program.settings([m.config for m in crew])
        del states
        pace = Pace()
        tracer = Tracer(crew[0].folder.path / "profile", crew[0].config.profile != "")
        # All are at the same step of an epoch, though not always of the same one.
        while sum(member.active for member in crew) > len(crew) // 2:
            if agree(termination.requested)[0]:
                raise Terminated(f"{_title(crew)}: stopped after step {crew[0].done}, which is saved")
            first = next(member.done for member in crew if member.active) % steps
            state, done = train_epoch(program, crew, state, settings, first, pace, tracer, progress, termination)
            arrays = [{"state": host, "scaling": scaling} for host in engine.get(state)]
            running = [i for i, member in enumerate(crew) if member.active]
            if done < steps and running:
                for i in running:
                    crew[i].save(stores[i], arrays[i], best=None)
                raise Terminated(
                    f"{_title(crew)}: stopped in an epoch, after step {crew[running[0]].done}, which is saved"
                )
            for i, row in epoch_rows(program, state, crew, running).items():
                # Saved before it is logged: a row that no checkpoint holds would be written twice after a resume.
                crew[i].history, crew[i].sums = [*crew[i].history, row], {}
                is_best = summary.best_epoch(crew[i].history) == row["epoch"]
                crew[i].save(stores[i], arrays[i], row["validation"]["weighted_f1"] if is_best else None)
                logs[i].write(row)
                progress.epoch(crew[i].name, row)


def restore(program: Program, member: Member, store: Checkpoints) -> TrainState:
    """The latest state of a member, in the memory of the host; a fresh one where nothing is saved.

    Raises:
      InputError: for one that was trained on features that were standardized otherwise.
    """
    if store.empty:
        return host_copy(program.initialize(member.seed))
    return _state(program, store, store.latest(_like(program)))


def best_state(program: Program, store: Checkpoints) -> TrainState:
    """The state with the best validation score, in the memory of the host. Raises InputError as `restore`."""
    return _state(program, store, store.best(_like(program)))


def test_crew(program: Program, crew: Sequence[Member]) -> list[summary.SeedResult]:
    """What the best epoch of each member is worth."""
    best = []
    for member in crew:
        with Checkpoints(member.folder.checkpoints(member.seed)) as store:
            best.append(best_state(program, store).evaluated)
    missing = program.engine.members - len(crew)
    params = program.engine.put([*best, *best[-1:] * missing])
    validation_mnc = program.probabilities(params, "validation")
    test = program.evaluate(params, "test")
    outcomes = []
    for i, member in enumerate(crew):
        probability = {"validation": validation_mnc[i], "test": test.probability[i]}
        scores = {split: program.score(split, probability_nc)[0] for split, probability_nc in probability.items()}
        labels = {split: program.corpus.labels(split) for split in probability}
        outcomes.append(
            summary.SeedResult(
                seed=member.seed,
                history=member.history,
                **scores,
                evaluation=jax.tree.map(lambda x_mn, i=i: x_mn[i], test),
                parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(best[i])),
                calibration=Calibration.of(probability, labels),
            )
        )
    return outcomes


def _state(program: Program, store: Checkpoints, arrays: Mapping[str, Any]) -> TrainState:
    # An earlier version left features of small deviation as they were: a run cannot go on with others.
    differing = program.scaling.differing(arrays["scaling"])
    if differing:
        raise InputError(
            f"{store.folder} holds a run of an earlier version, which standardized {len(differing)} of the features "
            f"otherwise ({', '.join(differing[:3])}{', ...' * (len(differing) > 3)}): train anew with another "
            "--workdir, or end that run with the version that began it"
        )
    state: TrainState = arrays["state"]
    return state


def _like(program: Program) -> dict[str, Any]:
    return {"state": jax.eval_shape(program.initialize, 0), "scaling": program.scaling.tree()}


def _title(crew: Sequence[Member]) -> str:
    return crew[0].name if len(crew) == 1 else f"{crew[0].name} and {len(crew) - 1} beside it"
