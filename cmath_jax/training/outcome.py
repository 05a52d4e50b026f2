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


def seed_results(trainer: Trainer, trials: Sequence[Trial]) -> list[summary.SeedResult]:
    """Returns what the best epoch of each trial is worth, as many at once as the trainer has places for."""
    if len(trials) > trainer.devices.trials:
        first, rest = trials[: trainer.devices.trials], trials[trainer.devices.trials :]
        return seed_results(trainer, first) + seed_results(trainer, rest)
    best = [trial.best_state(trainer).evaluated for trial in trials]
    params, evaluator, labels = trainer.devices.put_trials(best), trainer.evaluator, trainer.corpus.labels
    validation_tnc, test = evaluator.probabilities(params, "validation"), evaluator.evaluate(params, "test")
    results = []
    for t, trial in enumerate(trials):
        probability = {"validation": validation_tnc[t], "test": test.probability[t]}
        scores = {split: scored(split, labels(split), x_nc)[0] for split, x_nc in probability.items()}
        results.append(
            summary.SeedResult(
                seed=trial.seed,
                history=trial.history,
                **scores,
                evaluation=jax.tree.map(lambda x_tn, t=t: x_tn[t], test),
                parameters=sum(math.prod(x.shape) for x in jax.tree.leaves(best[t])),
                calibration=Calibration.of(probability, {split: labels(split) for split in EVALUATED}),
            )
        )
    return results


def write_outcome(trainer: Trainer, trials: Sequence[Trial], references: summary.References) -> Outcome:
    """Evaluates the trials of a run on the test split, and writes its folder.

    Returns:
      The content of `result.json`, or what stopped one of the trials.
    """
    failures = [trial.failure for trial in trials if trial.failure is not None]
    if failures:
        return failures[0]
    config, folder, corpus = trials[0].config, trials[0].folder, trainer.corpus
    reference = references.of(config)
    seeds = seed_results(trainer, trials)
    result = summary.summarize(config, corpus, seeds, reference)
    folder.sort_metrics()
    folder.write_predictions(summary.predictions(corpus, seeds, reference[1]))
    folder.write_representations(representations(corpus, trainer.standardizer, config, seeds[0]))
    chosen = summary.best_seed(seeds)
    params = trials[chosen.seed].best_state(trainer).evaluated
    folder.write_model(trained_model(config, corpus, trainer.standardizer, params, seeds, result))
    folder.write_result(result)
    return result
