"""Training: `fit(config, workdir)` takes an experiment from its config to its result.

Data -> batches -> { epoch of train steps -> evaluation -> checkpoint } -> best epoch -> result. The step is in
`step.py`, what it needs around it in `program.py`. Every random number and every batch is addressed by the seed and
the step: a run that was interrupted and resumed is the run that was not.
"""

import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from cmath_jax import results
from cmath_jax.checkpoint import Checkpoints, saved_history
from cmath_jax.config import Config, to_dict
from cmath_jax.data.batches import TrainingBatches
from cmath_jax.errors import Terminated, TrainingDivergedError
from cmath_jax.parallel import host_copy
from cmath_jax.program import Program, load_configured
from cmath_jax.progress import Progress
from cmath_jax.run_folder import RunFolder
from cmath_jax.step import TrainState
from cmath_jax.termination import Termination


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
        corpus = load_configured(config)
        stamp = {"config": to_dict(config), "fingerprint": corpus.fingerprint()}
        histories = [saved_history(folder.checkpoints(seed), stamp) for seed in range(config.seeds)]
        program = Program.of(config, corpus)
        if not all(finished(history, config) for history in histories):
            folder.remove_result()
        folder.write_config(config)
        folder.write_environment({"data": {"source": corpus.source, "fingerprint": stamp["fingerprint"]}})
        with termination.deferred():
            seeds = [run_seed(program, seed, folder, termination, stamp) for seed in range(config.seeds)]
        result = results.summarize(config, corpus, seeds, results.references(config, corpus))
        folder.write_predictions(results.predictions(corpus, seeds))
        folder.write_result(result)
    return result


def run_seed(
    program: Program, seed: int, folder: RunFolder, termination: Termination, stamp: Mapping[str, Any]
) -> results.SeedResult:
    """Trains one seed to its end, from wherever its checkpoints stand, and tests its best epoch."""
    config, engine = program.config, program.engine
    batches = replace(program.batches, seed=seed)
    scaling = program.scaling.tree()
    like = {"state": jax.eval_shape(program.initialize, seed), "scaling": scaling}
    with Checkpoints(folder.checkpoints(seed)) as checkpoints:
        # `history` is the rows of whole epochs; `sums` are of the metrics of an epoch that SIGTERM cut short.
        if checkpoints.empty:
            host, history, sums = host_copy(program.initialize(seed)), [], {}
        else:
            record = checkpoints.record()
            host, history, sums = checkpoints.latest(like)["state"], record["history"], record["sums"]
        state, done = engine.put_state(host), int(host.step)

        def save(best: float | None) -> None:
            record = {**stamp, "history": history, "sums": sums}
            checkpoints.save(done, {"state": engine.get_state(state), "scaling": scaling}, record, best)

        progress = Progress(seed, config.train.epochs, batches.steps, done)
        with folder.metrics(seed, history) as log, progress:
            while not finished(history, config):
                epoch = len(history)
                if termination.requested:
                    raise Terminated(f"seed {seed} is stopped after {epoch} epochs; all of them are saved")
                first = done - epoch * batches.steps
                state, sums, done = train_epoch(program, batches, state, epoch, first, sums, progress, termination)
                if done < (epoch + 1) * batches.steps:
                    save(None)
                    raise Terminated(f"seed {seed} is stopped in epoch {epoch + 1}; all of its {done} steps are saved")
                row = epoch_row(program, state, seed, epoch, done, sums)
                # Saved before it is logged: a row that no checkpoint holds would be written twice after a resume.
                history, sums = [*history, row], {}
                save(row["validation"]["weighted_f1"] if results.best_epoch(history) == row["epoch"] else None)
                log.write(row)
                progress.epoch(row)
        params = engine.put_state(checkpoints.best(like)["state"].evaluated)
    validation, _, _ = program.evaluate(params, "validation")
    test, _, probability_nc = program.evaluate(params, "test")
    parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(like["state"].params))
    return results.SeedResult(seed, history, test, validation, probability_nc, parameters)


def epoch_row(
    program: Program, state: TrainState, seed: int, epoch: int, done: int, sums: Mapping[str, float]
) -> dict[str, Any]:
    """The row of `metrics.jsonl` of an epoch that is done; `sums` as `train_epoch` returns them."""
    macos = sys.platform == "darwin"  # counts bytes where Linux counts kilobytes
    compiling = program.eval_step.seconds
    scores = {split: program.evaluate(state.evaluated, split)[1] for split in ("validation", "test")}
    train = {name: sums[name] / program.batches.steps for name in sums if name not in ("seconds", "compile_seconds")}
    return {
        "seed": seed,
        "epoch": epoch + 1,
        "step": done,
        "train": train,
        **scores,
        "seconds": sums["seconds"],
        "compile_seconds": sums["compile_seconds"] + program.eval_step.seconds - compiling,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if macos else 2**10),
    }


def train_epoch(
    program: Program,
    batches: TrainingBatches,
    state: TrainState,
    epoch: int,
    first: int,
    sums: Mapping[str, float],
    progress: Progress,
    termination: Termination,
) -> tuple[TrainState, dict[str, float], int]:
    """The steps of an epoch from `first` on, to its end or to a request to terminate.

    Returns:
      The state, sums, and the number of steps done in all. The sums go on from those given: of the metrics, of
      `seconds` without compilation, and of `compile_seconds`.

    Raises:
      TrainingDivergedError: naming step and conversations, when a loss or a gradient is not finite.
    """
    sums, done = dict(sums), epoch * batches.steps + first

    def collect(step: int, metrics: Mapping[str, jax.Array]) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            raise TrainingDivergedError(
                f"seed {batches.seed}, epoch {epoch + 1}, step {done}: the loss is "
                f"{values['loss']}, the norm of its gradient {values['gradient_norm']}; conversations "
                f"{', '.join(batches.conversations(epoch, step))}. The last good checkpoint is kept; try a lower "
                "optim.learning_rate, or optim.clip_norm"
            )
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        progress.step(values["loss"])

    began, compiling = time.monotonic(), program.train_step.seconds
    pending = None
    # Nothing travels between host and device but the batches that go and the numbers that come.
    with jax.transfer_guard("disallow"):
        for step, batch in enumerate(batches.epoch(epoch, first), start=first):
            state, metrics = program.train_step(state, program.engine.put_batch(batch))
            # The host runs one step behind: it reads the numbers of a step while the device is busy with the next.
            if pending is not None:
                collect(*pending)
            pending, done = (step, metrics), done + 1
            if termination.requested:
                break
        if pending is not None:
            collect(*pending)
    compiled = program.train_step.seconds - compiling
    sums["compile_seconds"] = sums.get("compile_seconds", 0.0) + compiled
    sums["seconds"] = sums.get("seconds", 0.0) + time.monotonic() - began - compiled
    return state, sums, done


def finished(history: Sequence[Mapping[str, Any]], config: Config) -> bool:
    """Whether all epochs are done, or the validation score has not risen for as many as the patience."""
    if not history or len(history) >= config.train.epochs:
        return bool(history)
    return 0 < config.train.patience <= len(history) - results.best_epoch(history)
