"""Curriculum learning: the conversations from easy to hard; every epoch knows a few more than the one before.

The difficulty is that of MultiDAG+CL (Nguyen et al. 2024): (shifts + speakers) / (utterances + speakers). A shift is an
utterance whose label is not that of the one before it of the same speaker.

Shapes: n utterances of a split, b its conversations.
"""

from dataclasses import dataclass

import numpy as np

from cmath_jax.data.corpus import UNLABELLED


@dataclass(frozen=True)
class Curriculum:
    """The order in which conversations become known; a pure function of labels, speakers and lengths.

    Attributes:
      order_b: the conversations, the first ones in front.
      bucket: how many more are known from epoch to epoch.
    """

    order_b: np.ndarray
    bucket: int

    @classmethod
    def of(cls, label_n: np.ndarray, speaker_n: np.ndarray, length_b: np.ndarray, buckets: int) -> "Curriculum":
        """Returns the curriculum of so many buckets, of equal size but for the last; 0: all are known at once.

        Where the last ones would be empty there are fewer.
        """
        if not buckets:
            return cls(np.arange(len(length_b)), len(length_b))
        order_b = np.argsort(difficulty(label_n, speaker_n, length_b), kind="stable")
        return cls(order_b, -(-len(order_b) // buckets))

    @property
    def first_whole(self) -> int:
        """Returns the first epoch that knows all conversations."""
        return -(-len(self.order_b) // self.bucket) - 1

    def known(self, epoch: int) -> np.ndarray:
        """Returns the conversations of an epoch, which count from 0."""
        return self.order_b[: self.bucket * (epoch + 1)]


def difficulty(label_n: np.ndarray, speaker_n: np.ndarray, length_b: np.ndarray) -> np.ndarray:
    """Returns how difficult conversations are, float64 [b], in (0, 1]."""
    most = int(speaker_n.max()) + 1
    speakers_b = np.bincount(np.unique(_who(speaker_n, length_b)) // most, minlength=len(length_b))
    difficulty_b: np.ndarray = (shifts(label_n, speaker_n, length_b) + speakers_b) / (length_b + speakers_b)
    return difficulty_b


def shifts(label_n: np.ndarray, speaker_n: np.ndarray, length_b: np.ndarray) -> np.ndarray:
    """Counts the shifts of conversations, int64 [b]. To or from an utterance without a label there is none."""
    who_n = _who(speaker_n, length_b)
    order_n = np.argsort(who_n, kind="stable")  # of each speaker one after the other, in the order of time
    now_n, before_n = order_n[1:], order_n[:-1]
    labelled_n = (label_n[now_n] != UNLABELLED) & (label_n[before_n] != UNLABELLED)
    shift_n = (who_n[now_n] == who_n[before_n]) & labelled_n & (label_n[now_n] != label_n[before_n])
    conversation_n = np.repeat(np.arange(len(length_b)), length_b)
    return np.bincount(conversation_n[now_n][shift_n], minlength=len(length_b))


def _who(speaker_n: np.ndarray, length_b: np.ndarray) -> np.ndarray:
    """Returns a number for each speaker of each conversation, int64 [n]."""
    return np.repeat(np.arange(len(length_b)), length_b) * (int(speaker_n.max()) + 1) + speaker_n
