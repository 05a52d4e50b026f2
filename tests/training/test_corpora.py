"""The corpus of a config, and what training needs of it."""

from dataclasses import replace

import numpy as np
import pytest
from samples import tiny

from cmath_jax.config import override
from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import InputError
from cmath_jax.training.corpora import class_weights, load_configured
from cmath_jax.training.trainer import Trainer


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_labels_is_refused_at_the_door(split: str) -> None:
    corpus = load_corpus("simulated", simulation=tiny().data.simulation)
    for conversation in corpus.splits[split]:
        conversation.labels[:] = -1
    with pytest.raises(InputError, match=f"{split} split of simulated has no labelled utterance"):
        Trainer.of(tiny(), corpus)


def test_class_weights_are_inverse_frequencies_of_training() -> None:
    corpus = load_configured(tiny())
    weights, counts = class_weights(corpus), corpus.class_counts("train")
    there = counts > 0
    np.testing.assert_allclose((weights * counts)[there], counts.sum() / len(counts), rtol=1e-5)


def test_missing_modalities_are_refused() -> None:
    corpus = load_corpus("simulated", simulation=tiny().data.simulation)
    for split in SPLITS:
        for conversation in corpus.splits[split]:
            del conversation.features["a"]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="has only"):
        Trainer.of(tiny(), corpus)


@pytest.mark.parametrize(
    ("layers", "layer", "published", "words"),
    [
        (3, 1, "F", r"model\.text_layers=3, but data\.text_layer=1 loads one vector: .* data\.text_layer=0"),
        (4, 0, "F", r"model\.text_layers=4 does not divide the 9 text features"),
        (4, 1, "", "does not divide the 9 text features"),
    ],
)
def test_a_model_of_several_text_vectors_gets_them(layers: int, layer: int, published: str, words: str) -> None:
    config = tiny(model__name="m3net", model__text_layers=layers, data__text_layer=layer)
    corpus = replace(load_configured(config), published=published)
    with pytest.raises(InputError, match=words):
        Trainer.of(config, corpus)
    Trainer.of(override(config, {"model.text_layers": 3, "data.text_layer": 0}), corpus)
    Trainer.of(override(config, {"data.modalities": "a"}), corpus)  # which has no text
