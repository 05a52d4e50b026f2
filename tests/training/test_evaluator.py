"""What trials say of a split, in the order of its utterances."""

import jax
import numpy as np
import pytest
from single import ONE_DEVICE

from cmath_jax.errors import TrainingDivergedError
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.trainer import Trainer


def test_parameters_that_are_not_finite_have_no_score() -> None:
    made = Trainer.of(ONE_DEVICE, load_configured(ONE_DEVICE))
    params = jax.tree.map(lambda x: x * np.nan, made.fresh_states([0]).params)
    with pytest.raises(TrainingDivergedError, match="no longer finite"):
        made.evaluator.score("validation", made.evaluator.probabilities(params, "validation")[0])
