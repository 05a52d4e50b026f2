"""The corpus that a config names, and what training needs of it."""

import numpy as np

from cmath_jax.config import Config
from cmath_jax.data.corpus import SPLITS, Corpus
from cmath_jax.data.load import load_corpus
from cmath_jax.errors import InputError, require
from cmath_jax.io.command import respelled
from cmath_jax.training.devices import make_devices


def load_configured(config: Config) -> Corpus:
    """Loads the corpus that a config names. Raises InputError as `load_corpus`, with the names of the config."""
    options = {k: v for k, v in vars(config.data).items() if k not in ("modalities", "standardize")}
    try:
        return load_corpus(config.dataset, **options)
    except InputError as error:
        raise InputError(respelled(str(error), {name: f"data.{name}" for name in options})) from error


def check_usable(config: Config, corpus: Corpus) -> None:
    """Raises InputError if the corpus lacks what the config needs, or what any training needs, or this machine does."""
    make_devices(config.parallel, config.train.batch_size)
    rate = config.optim.policy_rate
    require(
        not rate or config.model.policies,
        f"optim.policy_rate={rate} is for a model with policies, and {config.model.name} has none: set it to 0",
    )
    # A config of an earlier version may have one of these alone, and its model can predict: only training refuses it.
    decay = config.optim.policy_decay
    require(
        not decay or rate > 0,
        f"optim.policy_decay={decay} has no effect with optim.policy_rate=0: set both or none",
    )
    decay = getattr(config.model, "temperature_decay", 1.0)
    require(
        decay == 1 or rate > 0,
        f"model.temperature_decay={decay} has no effect with optim.policy_rate=0: set it to 1, or give a rate",
    )
    for m in config.data.modalities:
        if m not in corpus.dims:
            raise InputError(f"data.modalities={config.data.modalities!r}, but {corpus.name} has only {[*corpus.dims]}")
    for split in SPLITS:
        if not corpus.class_counts(split).any():
            raise InputError(f"the {split} split of {corpus.name} has no labelled utterance")
    _check_text_layers(config, corpus)


def _check_text_layers(config: Config, corpus: Corpus) -> None:
    """Raises InputError if a model that reads several vectors of a text gets one."""
    parts, layer = getattr(config.model, "text_layers", 1), config.data.text_layer
    if parts == 1 or "t" not in config.data.modalities:
        return
    way_on = "set model.text_layers=1, or data.text_layer=0, which loads all published vectors"
    require(
        layer == 0 or not corpus.published,
        f"model.text_layers={parts}, but data.text_layer={layer} loads one vector: {way_on}",
    )
    width = corpus.dims["t"]
    require(width % parts == 0, f"model.text_layers={parts} does not divide the {width} text features: {way_on}")


def class_weights(corpus: Corpus) -> np.ndarray:
    """Returns float32 [c]: inverse frequency in the training split; 1 is the weight of a class of mean size."""
    count_c = corpus.class_counts("train")
    weight_c: np.ndarray = count_c.sum() / (len(count_c) * np.maximum(count_c, 1))
    return weight_c.astype(np.float32)
