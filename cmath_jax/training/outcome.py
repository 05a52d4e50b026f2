"""The outcome of a run whose trials are trained: the test of their best epochs, and the files of the result."""

import math
from collections.abc import Sequence
from typing import Any

import jax

from cmath_jax.errors import TrainingDivergedError
from cmath_jax.evaluation.calibration import Calibration
from cmath_jax.evaluation.metrics import scored
from cmath_jax.prediction.selection import trained_model
from cmath_jax.results import summary
from cmath_jax.results.representations import representations
from cmath_jax.training.evaluator import EVALUATED
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.trial import Trial

Outcome = dict[str, Any] | TrainingDivergedError


def test(trainer: Trainer, trials: Sequence[Trial]) -> None:
    """Evaluates the best epoch of each trial on validation and test, as many at once as the trainer trains."""
    for first in range(0, len(trials), trainer.devices.trials):
        group = trials[first : first + trainer.devices.trials]
        best = [trial.best_state(trainer).evaluated for trial in group]
        params, evaluator, labels = trainer.devices.put_trials(best), trainer.evaluator, trainer.corpus.labels
        validation_tnc, test = evaluator.probabilities(params, "validation"), evaluator.evaluate(params, "test")
        for t, trial in enumerate(group):
            probability = {"validation": validation_tnc[t], "test": test.probability[t]}
            trial.result = summary.SeedResult(
                seed=trial.seed,
                history=trial.history,
                **{split: scored(split, labels(split), x_nc)[0] for split, x_nc in probability.items()},
                evaluation=jax.tree.map(lambda x_tn, t=t: x_tn[t], test),
                parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(best[t])),
                calibration=Calibration.of(probability, {split: labels(split) for split in EVALUATED}),
            )


def write_outcome(trainer: Trainer, trials: Sequence[Trial], references: summary.References) -> Outcome:
    """Writes the folder of a run, whose trials are tested unless one has failed.

    Returns:
      The content of `result.json`, or what stopped one of the trials.
    """
    failures = [trial.failure for trial in trials if trial.failure is not None]
    if failures:
        return failures[0]
    config, folder, corpus = trials[0].config, trials[0].folder, trainer.corpus
    reference = references.of(config)
    seeds = [trial.result for trial in trials if trial.result is not None]
    result = summary.summarize(config, corpus, seeds, reference)
    folder.sort_metrics()
    folder.write_predictions(summary.predictions(corpus, seeds, reference[1]))
    folder.write_representations(representations(corpus, trainer.standardizer, config, seeds[0]))
    chosen = summary.best_seed(seeds)
    params = trials[chosen.seed].best_state(trainer).evaluated
    folder.write_model(trained_model(config, corpus, trainer.standardizer, params, seeds, result))
    folder.write_result(result)
    return result
