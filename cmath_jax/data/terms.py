"""The meaning of the letters and numbers of a corpus: modalities, splits, what is without a label or missing."""

import numpy as np

MODALITIES = {"t": "text", "a": "audio", "v": "visual"}
SPLITS = ("train", "validation", "test")
UNLABELLED = -1  # an utterance without a label: context for the others, absent from every loss and score


def is_present(x_nd: np.ndarray) -> np.ndarray:
    """Returns which utterances have a modality, bool [n]; in its features [n, d] the others have rows of NaN."""
    lacking_n = np.isnan(x_nd[..., :1]).all(axis=-1)
    if lacking_n.any():  # rarely: the first feature alone tells that nothing is missing
        lacking_n = np.isnan(x_nd).all(axis=-1)
    return ~lacking_n
