"""The corpus that a config names, and what training needs of it."""

from collections.abc import Iterator

import numpy as np

from cmath_jax.config import Config
from cmath_jax.data.corpus import SPLITS, Corpus, is_present
from cmath_jax.data.load import load_corpus
from cmath_jax.data.prepared.stored import StoredConversation, StoredSplit
from cmath_jax.errors import InputError
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
    for m in config.data.modalities:
        if m not in corpus.dims:
            raise InputError(f"data.modalities={config.data.modalities!r}, but {corpus.name} has only {[*corpus.dims]}")
    for split in SPLITS:
        if not corpus.class_counts(split).any():
            raise InputError(f"the {split} split of {corpus.name} has no labelled utterance")


def class_weights(corpus: Corpus) -> np.ndarray:
    """Returns float32 [C]: inverse frequency in the training split; 1 is the weight of a class of mean size."""
    count_c = corpus.class_counts("train")
    return (count_c.sum() / (len(count_c) * np.maximum(count_c, 1))).astype(np.float32)


def lacks(corpus: Corpus, modalities: str) -> bool:
    """Returns whether any utterance of the corpus lacks one of these modalities."""

    def present(split: str, m: str) -> Iterator[np.ndarray]:
        conversations = corpus.splits[split]
        if isinstance(conversations, StoredSplit):  # whose features need not be read
            yield conversations.present[m]
        else:
            for c in conversations:
                yield c.present[m] if isinstance(c, StoredConversation) else is_present(c.features[m])

    return not all(present_n.all() for split in SPLITS for m in modalities for present_n in present(split, m))
