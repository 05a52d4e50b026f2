"""The loop of the host: what a step that is not finite does to it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import chex
import jax.numpy as jnp
import pytest
from samples import final_arrays
from single import ONE_DEVICE

from cmath_jax.data.batches import Batch
from cmath_jax.errors import TrainingDivergedError
from cmath_jax.training import fit as fitting
from cmath_jax.training import step, trainer
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.trainer import Trainer


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(state: step.TrainState, batch: Batch, *others: Any, **options: Any) -> Any:
        a_rld = jnp.where((state.step == 6) & (batch.segment_rl > 0)[..., None], jnp.inf, batch.features["a"])
        return step.train_step(state, replace(batch, features={**batch.features, "a": a_rld}), *others, **options)

    monkeypatch.setattr(trainer, "train_step", poisoned)
    config = ONE_DEVICE
    with pytest.raises(TrainingDivergedError) as error:
        fitting.fit(config, tmp_path)
    made = Trainer.of(config, load_configured(config))
    for word in ("epoch 2", "step 7", *made.batches.conversations(1, 2)):
        assert word in str(error.value)
    latest, _ = final_arrays(tmp_path, config)
    assert int(latest["state"].step) == 4
    chex.assert_tree_all_finite(latest["state"].params)
