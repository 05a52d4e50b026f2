"""An experiment made ready to run: its data in batches, its model, its compiled steps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmath_jax.config import Config
from cmath_jax.data.batches import PADDING, Batch, Table, TrainingBatches, evaluation_batches, evaluation_shape
from cmath_jax.data.conversations import SPLITS, UNLABELLED, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.data.scaling import Scaling
from cmath_jax.errors import InputError, TrainingDivergedError
from cmath_jax.metrics import Scores
from cmath_jax.models import make_model
from cmath_jax.optim import make_optimizer
from cmath_jax.parallel import Compiled, Engine, make_engine
from cmath_jax.step import TrainState, eval_step, init_state, train_step


@dataclass(frozen=True)
class Program:
    """An experiment made ready: its data and its compiled steps. All seeds of a run go through one program."""

    config: Config
    corpus: Corpus
    scaling: Scaling
    batches: TrainingBatches  # of seed 0; every seed has its own order and the same shape
    evaluation: Mapping[str, list[tuple[np.ndarray, Batch]]]  # split -> utterance_rl and the batch on its devices
    engine: Engine
    initialize: Callable[[int], TrainState]
    train_step: Compiled
    eval_step: Compiled

    @classmethod
    def of(cls, config: Config, corpus: Corpus) -> "Program":
        """Raises InputError for options and data that do not go together."""
        check_usable(config, corpus)
        engine = make_engine(config.parallel, config.train.batch_size)
        scaling = Scaling.of(corpus, config.data.standardize)
        splits = scaling.apply(corpus).splits
        tables = {split: Table.of(splits[split], config.data.modalities) for split in SPLITS}
        batches = TrainingBatches(tables["train"], config.train.batch_size, 0, len(engine.devices))
        shape = evaluation_shape([tables["validation"], tables["test"]], len(engine.devices))
        evaluation = {
            split: [(batch.utterance_rl, engine.put_batch(batch)) for batch in evaluation_batches(tables[split], shape)]
            for split in ("validation", "test")
        }
        model = make_model(config, corpus)
        tx = make_optimizer(config.optim, batches.steps, config.train.epochs)
        weights = jnp.asarray(class_weights(corpus)) if config.loss.class_weights else None
        one_row = jax.tree.map(lambda x: x[:1], next(batches.epoch(0)))
        average = config.optim.average
        init = jax.jit(partial(init_state, batch=one_row, model=model, tx=tx, average=average))
        step = partial(train_step, model=model, tx=tx, loss=config.loss, average=average, class_weight_c=weights)
        compiled = engine.compile_train(step), engine.compile_eval(partial(eval_step, model=model))
        return cls(config, corpus, scaling, batches, evaluation, engine, init, *compiled)

    def evaluate(self, params: Any, split: str) -> tuple[Scores, dict[str, float], np.ndarray]:
        """Scores of a split, the same as a row of `metrics.jsonl` has them, and probabilities [N, C].

        Raises:
          TrainingDivergedError: if the parameters give anything but probabilities.
        """
        label_n = self.corpus.labels(split)
        probability_nc = np.full((len(label_n), len(self.corpus.classes)), np.nan, np.float32)
        for utterance_rl, batch in self.evaluation[split]:
            there_rl = utterance_rl != PADDING
            probability_rlc = self.engine.get_rows(self.eval_step(params, batch))
            probability_nc[utterance_rl[there_rl]] = probability_rlc[there_rl]
        if not np.isfinite(probability_nc).all():
            raise TrainingDivergedError(
                f"the parameters give no probabilities for {(~np.isfinite(probability_nc).all(-1)).sum()} of "
                f"{len(label_n)} utterances of the {split} split: they are no longer finite. The last good checkpoint "
                "is kept; try a lower optim.learning_rate, or optim.clip_norm"
            )
        scores = Scores.of(label_n, probability_nc.argmax(-1), len(self.corpus.classes))
        labelled_n = np.flatnonzero(label_n != UNLABELLED)
        surprise_n = -np.log(np.maximum(probability_nc[labelled_n, label_n[labelled_n]], 1e-12))
        row = {"loss": float(surprise_n.mean()), "accuracy": scores.accuracy, "weighted_f1": scores.weighted_f1}
        return scores, row, probability_nc


def check_usable(config: Config, corpus: Corpus) -> None:
    """Raises InputError if the corpus lacks what the config needs, or what any training needs."""
    for m in config.data.modalities:
        if m not in corpus.dims:
            raise InputError(f"data.modalities={config.data.modalities!r}, but {corpus.name} has only {[*corpus.dims]}")
    for split in SPLITS:
        if not corpus.class_counts(split).any():
            raise InputError(f"the {split} split of {corpus.name} has no labelled utterance")


def class_weights(corpus: Corpus) -> np.ndarray:
    """float32 [C]: inverse frequency in the training split; a weight of 1 is that of a class of mean size."""
    count_c = corpus.class_counts("train")
    return (count_c.sum() / (len(count_c) * np.maximum(count_c, 1))).astype(np.float32)


def load_configured(config: Config) -> Corpus:
    """The corpus that a config names."""
    options = vars(config.data).items()
    return load_corpus(config.dataset, **{k: v for k, v in options if k not in ("modalities", "standardize")})
