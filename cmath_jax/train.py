"""Training: the state, the step, and the loop around them.

`fit(config, workdir)` is the whole of it: data -> batches -> epochs of train steps -> evaluation -> checkpoint ->
result. Every random number is addressed by (seed, name, step), every batch by (seed, epoch, step): a run that was
interrupted and resumed is the run that was not.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cmath_jax import results
from cmath_jax.checkpoint import Checkpoints, check_same_run
from cmath_jax.config import Config, LossConfig, to_dict
from cmath_jax.data.batches import PADDING, Batch, Table, TrainingBatches, evaluation_batches, evaluation_shape
from cmath_jax.data.conversations import SPLITS, UNLABELLED, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.scaling import Scaling
from cmath_jax.errors import InputError, Terminated, TrainingDivergedError
from cmath_jax.losses import loss_terms, total_loss
from cmath_jax.metrics import Scores
from cmath_jax.models import make_model
from cmath_jax.models.cmath import Outputs
from cmath_jax.optim import make_optimizer
from cmath_jax.parallel import Compiled, Engine, host_copy, make_engine
from cmath_jax.progress import Progress
from cmath_jax.run_folder import RunFolder
from cmath_jax.termination import Termination


@flax.struct.dataclass
class TrainState:
    """All that changes in training, and the seed. Data only.

    Attributes:
      step: int32, steps done.
      seed: int32; every random draw is a function of it, the name of its stream and the step.
      params: of the model.
      opt_state: of the optimizer.
      average: the moving average of the parameters, or None where the parameters themselves are evaluated.
    """

    step: jax.Array
    seed: jax.Array
    params: Any
    opt_state: optax.OptState
    average: Any

    @property
    def evaluated(self) -> Any:
        """The parameters that predict."""
        return self.params if self.average is None else self.average


def stream(seed: jax.Array, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The random key of (seed, name, step). A new stream leaves the others as they are."""
    tag = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), tag), step)


def init_state(
    seed: jax.Array, batch: Batch, model: nn.Module, tx: optax.GradientTransformation, average: float
) -> TrainState:
    """A fresh `TrainState`."""
    params = model.init(stream(seed, "params"), batch, train=False)["params"]
    averaged = jax.tree.map(jnp.copy, params) if average else None
    return TrainState(jnp.zeros((), jnp.int32), jnp.asarray(seed, jnp.int32), params, tx.init(params), averaged)


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    tx: optax.GradientTransformation,
    loss: LossConfig,
    average: float,
    class_weight_c: jax.Array | None,
    axis: str | None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of training, on this device's share of the batch.

    Args:
      axis: the mapped axis over which losses and gradients are summed; None where this device holds the whole batch.

    Returns:
      The state after the step, and scalars: the loss, its terms, the norm of the gradient and the mean deviation of
      the fused Gaussian.
    """

    def over_devices(x: Any) -> Any:
        return x if axis is None else jax.lax.psum(x, axis)

    rngs = {name: stream(state.seed, name, state.step) for name in ("dropout", "noise")}

    def loss_of(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        outputs = cast(Outputs, model.apply({"params": params}, batch, train=True, rngs=rngs))
        terms = loss_terms(outputs, batch, loss, class_weight_c)
        # Divided by the counts of all devices: the sum of these losses over devices is the loss of the whole batch.
        shares = {name: term.total / jnp.maximum(over_devices(term.count), 1e-12) for name, term in terms.items()}
        valid_rl = batch.label_rl != UNLABELLED
        deviation = jnp.where(valid_rl, outputs.deviation_rld.mean(-1), 0.0).sum()
        return total_loss(shares, loss), shares | {"deviation": deviation / over_devices(valid_rl.sum())}

    (total, terms), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    (total, terms, grads) = over_devices((total, terms, grads))
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    averaged = state.average
    if averaged is not None:
        # A young average forgets faster, so that it does not remember the initial parameters.
        decay = jnp.minimum(average, (1 + state.step) / (10 + state.step))
        averaged = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, averaged, params)
    metrics = {"loss": total, **terms, "gradient_norm": optax.tree.norm(grads)}
    return replace(state, step=state.step + 1, params=params, opt_state=opt_state, average=averaged), metrics


def eval_step(params: Any, batch: Batch, *, model: nn.Module) -> jax.Array:
    """float32 [r, l, c]: the probabilities Y_k of every slot."""
    return nn.softmax(cast(Outputs, model.apply({"params": params}, batch, train=False)).logits_rlc)


@dataclass(frozen=True)
class Program:
    """An experiment made ready: its data and its compiled steps. All seeds of a run go through one program."""

    config: Config
    corpus: Corpus
    scaling: Scaling
    tables: Mapping[str, Table]
    batches: TrainingBatches  # of seed 0; every seed has its own order and the same shape
    engine: Engine
    initialize: Callable[[int], TrainState]
    train_step: Compiled
    eval_step: Compiled

    @classmethod
    def of(cls, config: Config, corpus: Corpus) -> "Program":
        for m in config.data.modalities:
            if m not in corpus.dims:
                raise InputError(
                    f"data.modalities={config.data.modalities!r}, but {corpus.name} has only {[*corpus.dims]}"
                )
        engine = make_engine(config.parallel)
        scaling = Scaling.of(corpus, config.data.standardize)
        splits = scaling.apply(corpus).splits
        tables = {split: Table.of(splits[split], config.data.modalities) for split in SPLITS}
        batches = TrainingBatches(tables["train"], config.train.batch_size, 0, len(engine.devices))
        model = make_model(config, corpus)
        tx = make_optimizer(config.optim, batches.steps, config.train.epochs)
        weights = jnp.asarray(class_weights(corpus)) if config.loss.class_weights else None
        one_row = jax.tree.map(lambda x: x[:1], next(batches.epoch(0)))
        average = config.optim.average
        init = jax.jit(partial(init_state, batch=one_row, model=model, tx=tx, average=average))
        step = partial(train_step, model=model, tx=tx, loss=config.loss, average=average, class_weight_c=weights)
        evaluation = partial(eval_step, model=model)
        compiled = engine.compile_train(step), engine.compile_eval(evaluation)
        return cls(config, corpus, scaling, tables, batches, engine, init, *compiled)

    def evaluate(self, params: Any, split: str) -> tuple[Scores, dict[str, float], np.ndarray]:
        """Scores of a split, the same as a row of `metrics.jsonl` has them, and probabilities [N, C]."""
        table, classes = self.tables[split], len(self.corpus.classes)
        shape = evaluation_shape([self.tables["validation"], self.tables["test"]], len(self.engine.devices))
        probability_nc = np.full((len(table.label_n), classes), np.nan, np.float32)
        for batch in evaluation_batches(table, shape):
            probability_rlc = self.engine.get_rows(self.eval_step(params, self.engine.put_batch(batch)))
            there_rl = batch.utterance_rl != PADDING
            probability_nc[batch.utterance_rl[there_rl]] = probability_rlc[there_rl]
        scores = Scores.of(table.label_n, probability_nc.argmax(-1), classes)
        labelled_n = np.flatnonzero(table.label_n != UNLABELLED)
        surprise_n = -np.log(np.maximum(probability_nc[labelled_n, table.label_n[labelled_n]], 1e-12))
        row = {"loss": float(surprise_n.mean()), "accuracy": scores.accuracy, "weighted_f1": scores.weighted_f1}
        return scores, row, probability_nc


def load_configured(config: Config) -> Corpus:
    """The corpus that a config names."""
    options = vars(config.data).items()
    return load_corpus(config.dataset, **{k: v for k, v in options if k not in ("modalities", "standardize")})


def class_weights(corpus: Corpus) -> np.ndarray:
    """float32 [C]: inverse frequency in the training split; a weight of 1 is that of a class of mean size."""
    count_c = corpus.class_counts("train")
    return (count_c.sum() / (len(count_c) * np.maximum(count_c, 1))).astype(np.float32)


def fit(config: Config, workdir: str | Path) -> dict[str, Any]:
    """Trains, selects on validation, tests, and writes the run folder; goes on where an earlier run stopped.

    Returns:
      The content of `result.json`.

    Raises:
      InputError: for data or options that cannot be used, and for a folder that holds another run.
      TrainingDivergedError: when a loss or a gradient is not finite.
      Terminated: after SIGTERM, when the state is saved.
    """
    corpus = load_configured(config)
    with RunFolder(workdir) as folder, Termination() as termination:
        program = Program.of(config, corpus)
        stamp = {"config": to_dict(config), "fingerprint": corpus.fingerprint()}
        for seed in range(config.seeds):
            check_same_run(folder.checkpoints(seed), stamp)
        folder.write_config(config)
        folder.write_environment({"data": {"source": corpus.source, "fingerprint": stamp["fingerprint"]}})
        seeds = [run_seed(program, seed, folder, termination, stamp) for seed in range(config.seeds)]
        compile_seconds = program.train_step.seconds + program.eval_step.seconds
        result = results.summarize(config, corpus, seeds, compile_seconds)
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
                epoch, compiling, began = len(history), program.train_step.seconds, time.monotonic()
                if termination.requested:
                    raise Terminated(f"seed {seed} was stopped after epoch {epoch} and is saved")
                first = done - epoch * batches.steps
                state, sums, done = train_epoch(program, batches, state, epoch, first, sums, progress, termination)
                if done < (epoch + 1) * batches.steps:
                    save(None)
                    raise Terminated(f"seed {seed} was stopped in epoch {epoch + 1} and is saved")
                seconds = time.monotonic() - began - (program.train_step.seconds - compiling)
                row: dict[str, Any] = {"seed": seed, "epoch": epoch + 1, "step": done}
                row["train"] = {name: value / batches.steps for name, value in sums.items()}
                for split in ("validation", "test"):
                    row[split] = program.evaluate(state.evaluated, split)[1]
                row["seconds"] = seconds
                score, sums = row["validation"]["weighted_f1"], {}
                better = all(score > old["validation"]["weighted_f1"] for old in history)
                # Saved before it is logged: a row that no checkpoint holds would be written twice after a resume.
                history = [*history, row]
                save(score if better else None)
                log.write(row)
                progress.epoch(row)
        params = engine.put_state(checkpoints.best(like)["state"].evaluated)
    validation, _, _ = program.evaluate(params, "validation")
    test, _, probability_nc = program.evaluate(params, "test")
    parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(like["state"].params))
    return results.SeedResult(seed, history, test, validation, probability_nc, parameters)


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
      The state, the sums of the metrics of the epoch (they go on from `sums`), and the number of steps done in all.

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

    # The host runs one step behind: it reads the numbers of a step while the device is busy with the next.
    pending = None
    for step, batch in enumerate(batches.epoch(epoch, first), start=first):
        state, metrics = program.train_step(state, program.engine.put_batch(batch))
        if pending is not None:
            collect(*pending)
        pending, done = (step, metrics), done + 1
        if termination.requested:
            break
    if pending is not None:
        collect(*pending)
    return state, sums, done


def finished(history: Sequence[Mapping[str, Any]], config: Config) -> bool:
    """Whether all epochs are done, or the validation score has not risen for as many as the patience."""
    if not history or len(history) >= config.train.epochs:
        return bool(history)
    return 0 < config.train.patience <= len(history) - results.best_epoch(history)
