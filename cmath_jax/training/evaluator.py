"""The evaluation of trials: their probabilities for the utterances of a split, and their scores.

Axes: t trials, n utterances of a split, c classes; r rows, l slots of a batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from cmath_jax.data.batches import PADDING, Batch, Table, evaluation_plans, evaluation_shape
from cmath_jax.data.corpus import Corpus
from cmath_jax.models.outputs import Evaluation
from cmath_jax.training.compiler import Compiled
from cmath_jax.training.devices import BATCH, EVERYWHERE, TRIAL, TRIAL_BATCH, Devices
from cmath_jax.training.step import eval_step

EVALUATED = ("validation", "test")


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the trials of a `Devices` on validation and test.

    Attributes:
      features: split -> what its plans refer to, on the devices.
      plans: split -> utterance_rl of each plan, and the plan on the devices.
      eval_step: compiled.
    """

    corpus: Corpus
    devices: Devices
    features: Mapping[str, Any]
    plans: Mapping[str, Sequence[tuple[np.ndarray, Batch]]]
    eval_step: Compiled

    @classmethod
    def of(cls, corpus: Corpus, tables: Mapping[str, Table], model: nn.Module, devices: Devices) -> "Evaluator":
        """Makes the evaluator of a model and a corpus, whose splits are these tables."""
        evaluated = {split: tables[split] for split in EVALUATED}
        shape = evaluation_shape([*evaluated.values()], devices.rows)
        longest = max(len(table.label_n) for table in evaluated.values())  # one compiled step serves both
        return cls(
            corpus=corpus,
            devices=devices,
            features={
                split: devices.put(table.padded_features(longest), EVERYWHERE) for split, table in evaluated.items()
            },
            plans={
                split: [(plan.utterance_rl, devices.put(plan, BATCH)) for plan in evaluation_plans(table, shape)]
                for split, table in evaluated.items()
            },
            eval_step=devices.compile(partial(eval_step, model=model), (TRIAL, BATCH, EVERYWHERE), TRIAL_BATCH),
        )

    def probabilities(self, params: Any, split: str) -> np.ndarray:
        """Returns the probability of each class: float32 [t, n, c]."""
        return self._in_order(split, [evaluation.probability for evaluation in self._evaluations(params, split)])

    def evaluate(self, params: Any, split: str) -> Evaluation:
        """Returns all that is kept of an evaluation, arrays [t, n, ...]."""
        parts = self._evaluations(params, split)
        whole: Evaluation = jax.tree.map(lambda *x: self._in_order(split, x), *parts)
        return whole

    def _evaluations(self, params: Any, split: str) -> list[Evaluation]:
        return [self.eval_step(params, plan, self.features[split]) for _, plan in self.plans[split]]

    def _in_order(self, split: str, parts: Sequence[jax.Array]) -> np.ndarray:
        """Returns [t, n, ...] in the order of the utterances, of the batches' [t, r, l, ...]."""
        filled = [(utterance_rl, utterance_rl != PADDING) for utterance_rl, _ in self.plans[split]]
        utterance_n = np.concatenate([utterance_rl[filled_rl] for utterance_rl, filled_rl in filled])
        hosts = [self.devices.get(part, TRIAL_BATCH) for part in parts]
        value_tn = np.concatenate([x_trl[:, filled_rl] for x_trl, (_, filled_rl) in zip(hosts, filled, strict=True)], 1)
        return value_tn[:, np.argsort(utterance_n)]
