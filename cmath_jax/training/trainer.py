"""An experiment made ready to run: its data in batches, its model, its compiled steps."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from cmath_jax.config import Config
from cmath_jax.data.batches import PADDING, Batch, Table, TrainingBatches, evaluation_plans, evaluation_shape
from cmath_jax.data.corpus import SPLITS, UNLABELLED, Corpus, there
from cmath_jax.data.load import load_corpus
from cmath_jax.data.prepared.stored import StoredConversation, StoredSplit
from cmath_jax.data.prepared.streaming import StreamedTable, one_ahead, stream, stretch_steps
from cmath_jax.data.standardize import Scaling
from cmath_jax.errors import InputError, TrainingDivergedError
from cmath_jax.evaluation.metrics import Scores
from cmath_jax.io.command import respelled
from cmath_jax.models.outputs import Evaluation
from cmath_jax.models.registry import make_model
from cmath_jax.training.devices import Compiled, Engine, make_engine
from cmath_jax.training.optim import make_optimizer
from cmath_jax.training.step import Settings, TrainState, eval_step, init_state, train_step, train_steps


@dataclass(frozen=True)
class Program:
    """An experiment made ready: its data and its compiled steps, for so many runs ("members") at once.

    The runs may differ in their seeds and in their `Settings`; all else is that of the config.
    """

    config: Config
    corpus: Corpus
    scaling: Scaling
    batches: TrainingBatches  # of seed 0; every seed has its own order and the same shape
    features: Mapping[str, Any]  # split -> what its plans refer to, on the devices
    evaluation: Mapping[str, list[tuple[np.ndarray, Batch]]]  # split -> utterance_rl and the plan on the devices
    class_weight_c: np.ndarray
    engine: Engine
    initialize: Callable[[int], TrainState]
    train_steps: Compiled
    eval_step: Compiled

    @classmethod
    def of(cls, config: Config, corpus: Corpus, members: int = 1) -> "Program":
        """Raises InputError for options and data that do not go together."""
        check_usable(config, corpus)
        engine = make_engine(config.parallel, config.train.batch_size, members)
        scaling = Scaling.of(corpus, config.data.standardize)
        masked = lacks(corpus, config.data.modalities)
        tables = {split: _table(config, corpus, split, scaling, masked) for split in SPLITS}
        batches = TrainingBatches(tables["train"], config.train.batch_size, 0, engine.row_multiple)
        shape = evaluation_shape([tables["validation"], tables["test"]], engine.row_multiple)
        # One compiled step for both: features of one length.
        longest = max(len(tables[split].label_n) for split in ("validation", "test"))
        features = {
            split: engine.put_shared(table.padded_features(0 if split == "train" else longest))
            for split, table in tables.items()  # nothing of a table that is streamed
        }
        evaluation = {
            split: [(plan.utterance_rl, engine.put_plan(plan)) for plan in evaluation_plans(table, shape)]
            for split, table in tables.items()
            if split != "train"
        }
        model = make_model(config.model, corpus, config.data.modalities, config.precision)
        tx = make_optimizer(config.optim, batches.steps, config.train.epochs)
        one_row = jax.tree.map(lambda x: x[:1], next(batches.epoch(0)))
        average = config.optim.average
        return cls(
            config=config,
            corpus=corpus,
            scaling=scaling,
            batches=batches,
            features=features,
            evaluation=evaluation,
            class_weight_c=class_weights(corpus),
            engine=engine,
            initialize=jax.jit(
                partial(init_state, batch=one_row, model=model, tx=tx, average=average),
                # It runs once: to compile it well would take longer than it saves.
                compiler_options={"xla_backend_optimization_level": 1} if engine.devices[0].platform == "cpu" else None,
            ),
            train_steps=engine.compile_train(train_steps, partial(train_step, model=model, tx=tx, average=average)),
            eval_step=engine.compile_eval(partial(eval_step, model=model)),
        )

    def settings(self, configs: Sequence[Config]) -> Any:
        """The settings of every member, on the devices."""
        return self.engine.put([Settings.of(config, self.class_weight_c) for config in configs])

    def advance(self, state: Any, plan: Any, settings: Any, first: int, last: int) -> tuple[Any, Any]:
        """The steps `first` to `last - 1` of a training plan, all of them on the devices: see `step.train_steps`."""
        return self.train_steps(*self._arguments(state, plan, settings, first, last))

    def executable(self, state: Any, plan: Any, settings: Any) -> Any:
        """What `advance` runs, compiled; the arguments may be abstract."""
        return self.train_steps.executable(*self._arguments(state, plan, settings, 0, 1))

    def _arguments(self, state: Any, plan: Any, settings: Any, first: int, last: int) -> tuple[Any, ...]:
        bounds = [self.engine.put_shared(np.int32(step)) for step in (first, last)]
        return state, plan, self.features["train"], settings, *bounds

    def blocks(self, seeds: Sequence[int], epochs: Sequence[int], first: int) -> Generator[tuple[range, Any]]:
        """The steps of an epoch of each member, from step `first` on: their numbers, and their plans on the devices.

        Those of a whole epoch at once; or, if features are streamed, a stretch of batches after the other, of which the
        next is on its way while one is in use.
        """
        return one_ahead((steps, self.engine.put_steps(plans)) for steps, plans in self.plans(seeds, epochs, first))

    def plans(self, seeds: Sequence[int], epochs: Sequence[int], first: int) -> Iterator[tuple[range, list[Batch]]]:
        """As `blocks`, on the host: a plan, or batches, for each member."""
        orders = [(replace(self.batches, seed=seed), epoch) for seed, epoch in zip(seeds, epochs, strict=True)]
        slots = max(order.slots(epoch) for order, epoch in orders)
        if self.features["train"]:
            yield range(self.batches.steps), [order.plan(epoch, slots) for order, epoch in orders]
            return
        count = stretch_steps(self.batches)
        share = self.engine.share(self.batches.shape.rows)
        starts = range(first, self.batches.steps, count)
        with ExitStack() as stack:
            streams = [
                stack.enter_context(closing(stream(order, epoch, first, slots, count, share)))
                for order, epoch in orders
            ]
            for start, batches in zip(starts, zip(*streams, strict=True), strict=True):
                yield range(start, min(start + count, self.batches.steps)), list(batches)

    def conversations(self, seed: int, epoch: int, step: int) -> list[str]:
        """The ids of the conversations of a training step, for messages."""
        return replace(self.batches, seed=seed).conversations(epoch, step)

    def probabilities(self, params: Any, split: str) -> np.ndarray:
        """float32 [members, N, C] of the utterances of a split."""
        return self._rows(split, [evaluation.probability for evaluation in self._evaluations(params, split)])

    def evaluate(self, params: Any, split: str) -> Evaluation:
        """Of the utterances of a split: [members, N, ...]."""
        parts = self._evaluations(params, split)
        return jax.tree.map(lambda *x: self._rows(split, x), *parts)

    def _evaluations(self, params: Any, split: str) -> list[Evaluation]:
        return [self.eval_step(params, plan, self.features[split]) for _, plan in self.evaluation[split]]

    def _rows(self, split: str, parts: Sequence[jax.Array]) -> np.ndarray:
        """[members, N, ...]: rows of batches, [r, l, ...] for each member, in the order of the utterances."""
        utterances = [utterance_rl for utterance_rl, _ in self.evaluation[split]]
        there = [utterance_rl != PADDING for utterance_rl in utterances]
        utterance_n = np.concatenate([x_rl[there_rl] for x_rl, there_rl in zip(utterances, there, strict=True)])
        hosts = [self.engine.get_rows(part) for part in parts]
        value_mn = np.concatenate([x_mrl[:, there_rl] for x_mrl, there_rl in zip(hosts, there, strict=True)], axis=1)
        return value_mn[:, np.argsort(utterance_n)]

    def score(self, split: str, probability_nc: np.ndarray) -> tuple[Scores, dict[str, float]]:
        """Scores of a member on a split, whole and as a row of `metrics.jsonl` has them.

        Raises:
          TrainingDivergedError: if they are anything but probabilities.
        """
        lost_n = ~np.isfinite(probability_nc).all(-1)
        if lost_n.any():
            raise TrainingDivergedError(
                f"the parameters give no probabilities for {lost_n.sum()} of {len(lost_n)} utterances of the {split} "
                "split: they are no longer finite. What is saved is kept; try a lower optim.learning_rate, "
                "or optim.clip_norm"
            )
        label_n = self.corpus.labels(split)
        scores = Scores.of(label_n, probability_nc.argmax(-1), len(self.corpus.classes))
        labelled_n = np.flatnonzero(label_n != UNLABELLED)
        surprise_n = -np.log(np.maximum(probability_nc[labelled_n, label_n[labelled_n]], 1e-12))
        row = {"loss": float(surprise_n.mean()), "accuracy": scores.accuracy, "weighted_f1": scores.weighted_f1}
        return scores, row


def _table(config: Config, corpus: Corpus, split: str, scaling: Scaling, masked: bool) -> Table:
    if split == "train" and config.data.stream:
        return StreamedTable.stored(corpus.splits[split], config.data.modalities, scaling, masked)
    return Table.of(scaling.apply(corpus.splits[split]), config.data.modalities, masked)


def lacks(corpus: Corpus, modalities: str) -> bool:
    """Whether any utterance of the corpus lacks one of these modalities."""

    def present(split: str, m: str) -> Iterator[np.ndarray]:
        conversations = corpus.splits[split]
        if isinstance(conversations, StoredSplit):  # whose features need not be read
            yield conversations.present[m]
        else:
            for c in conversations:
                yield c.present[m] if isinstance(c, StoredConversation) else there(c.features[m])

    return not all(there_n.all() for split in SPLITS for m in modalities for there_n in present(split, m))


def check_usable(config: Config, corpus: Corpus) -> None:
    """Raises InputError if the corpus lacks what the config needs, or what any training needs, or this machine does."""
    make_engine(config.parallel, config.train.batch_size)
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
    options = config.data.source()
    try:
        return load_corpus(config.dataset, **options)
    except InputError as error:
        raise InputError(respelled(str(error), {name: f"data.{name}" for name in options})) from error
