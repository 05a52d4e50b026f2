"""What trials say of a split, in the order of its utterances."""

import jax
import numpy as np
import pytest
from samples import tiny
from single import ONE_DEVICE

from cmath_jax.data.batches import Table
from cmath_jax.data.packing import Shape
from cmath_jax.errors import TrainingDivergedError
from cmath_jax.evaluation.metrics import scored
from cmath_jax.models.registry import make_model
from cmath_jax.training.corpora import load_configured
from cmath_jax.training.evaluator import EVALUATED
from cmath_jax.training.trainer import Trainer


@pytest.mark.parametrize(("devices", "trials"), [(1, 1), (3, 1), (2, 3), (4, 2)])
def test_each_utterance_is_said_what_its_conversation_alone_would_be(devices: int, trials: int) -> None:
    config = tiny(parallel__devices=devices)
    corpus = load_configured(config)
    trainer = Trainer.of(config, corpus, trials)
    states = trainer.fresh_states(range(trials))
    model = make_model(config.model, corpus, config.data.modalities, config.precision)
    apply = jax.jit(model.apply, static_argnames="train")
    for split in EVALUATED:
        told = trainer.evaluator.evaluate(states.params, split)
        np.testing.assert_array_equal(told.probability, trainer.evaluator.probabilities(states.params, split))
        talks = trainer.standardizer.apply(corpus.splits[split])
        slots = max(map(len, talks))
        for t, state in enumerate(trainer.devices.get_trials(states)):
            expected_nc = np.concatenate(
                [
                    jax.nn.softmax(apply({"params": state.params}, batch, train=False).logits_rlc)[0, : len(talk)]
                    for talk in talks
                    for batch in [Table.of([talk], config.data.modalities).batch([[0]], Shape(1, slots))]
                ]
            )
            np.testing.assert_allclose(told.probability[t], expected_nc, rtol=1e-4, atol=1e-6)


def test_parameters_that_are_not_finite_have_no_score() -> None:
    corpus = load_configured(ONE_DEVICE)
    made = Trainer.of(ONE_DEVICE, corpus)
    params = jax.tree.map(lambda x: x * np.nan, made.fresh_states([0]).params)
    with pytest.raises(TrainingDivergedError, match="no longer finite"):
        scored("validation", corpus.labels("validation"), made.evaluator.probabilities(params, "validation")[0])
