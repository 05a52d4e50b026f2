"""The files of a result: of the best epoch of each seed, whatever number of trials is tested at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import tiny

from cmath_jax.errors import TrainingDivergedError
from cmath_jax.io.termination import Termination
from cmath_jax.results.summary import References
from cmath_jax.training import outcome as outcomes
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.fit import resume, train
from cmath_jax.training.outcome import write_outcome
from cmath_jax.training.run_folder import RunFolder
from cmath_jax.training.trainer import Trainer
from cmath_jax.training.trial import Trial

CONFIG = tiny(seeds=3, train__epochs=2, train__patience=0, parallel__devices=1)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    corpus = load_configured(CONFIG)
    with RunFolder(tmp_path_factory.mktemp("run")) as folder, Termination() as termination:
        found = resume([(CONFIG, folder)], corpus)
        folder.begin(CONFIG, corpus)
        for trial in found:
            train(Trainer.of(CONFIG, corpus), [trial], termination)
    return found


def test_the_best_epoch_is_tested_two_at_once_or_one(trials: list[Trial]) -> None:
    """Three trials in groups of two: nobody is left out, and the scores are those that validation has logged."""
    corpus = load_configured(CONFIG)
    outcomes.test(Trainer.of(CONFIG, corpus, 2), trials)
    together = [trial.result for trial in trials if trial.result]
    outcomes.test(Trainer.of(CONFIG, corpus), trials)
    alone = [trial.result for trial in trials if trial.result]
    assert [result.seed for result in together] == [0, 1, 2]
    for one, other, trial in zip(together, alone, trials, strict=True):
        np.testing.assert_allclose(one.evaluation.probability, other.evaluation.probability, rtol=2e-3, atol=1e-5)
        best = max(row["validation"]["weighted_f1"] for row in trial.history)
        assert other.validation.weighted_f1 == pytest.approx(best)
        assert one.parameters == other.parameters > 0


def test_a_run_with_a_failure_has_no_result(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    failure = TrainingDivergedError("the loss is nan")
    monkeypatch.setattr(trials[1], "failure", failure)
    corpus = load_configured(CONFIG)
    outcome: Any = write_outcome(Trainer.of(CONFIG, corpus), trials, References(corpus))
    assert outcome is failure
    assert not (Path(trials[0].folder.path) / "result.json").exists()
