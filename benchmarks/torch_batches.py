"""Conversations for PyTorch, as this field batches them: a Dataset, a DataLoader, padding to the longest of a step.

Shapes: b conversations of a batch, l utterances of the longest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from cmath_jax.data.corpus import UNLABELLED, Conversation


class PaddedBatch(NamedTuple):
    """Conversations side by side, each padded to the longest.

    Attributes:
      features: m -> float32 [b, l, d_m]; 0 in padding.
      speaker_bl: int64; 0 in padding.
      label_bl: int64; -1 in padding and where an utterance has no label.
      umask_bl: bool, true where there is an utterance.
    """

    features: dict[str, Tensor]
    speaker_bl: Tensor
    label_bl: Tensor
    umask_bl: Tensor

    def to(self, device: torch.device) -> "PaddedBatch":
        features = {m: u_blm.to(device) for m, u_blm in self.features.items()}
        return PaddedBatch(features, *(x_bl.to(device) for x_bl in self[1:]))


class ConversationDataset(Dataset[PaddedBatch]):
    """Conversations as tensors, one after another: an item is a batch of one."""

    def __init__(self, conversations: Sequence[Conversation], modalities: str) -> None:
        self.items = [
            PaddedBatch(
                {m: torch.from_numpy(talk.features[m]) for m in modalities},
                torch.from_numpy(talk.speakers.astype(np.int64)),
                torch.from_numpy(talk.labels.astype(np.int64)),
                torch.ones(len(talk), dtype=torch.bool),
            )
            for talk in conversations
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> PaddedBatch:
        return self.items[index]


def collate(items: Sequence[PaddedBatch]) -> PaddedBatch:
    """Pads the conversations of a step to the longest of them."""

    def pad(tensors: Sequence[Tensor], padding: int = 0) -> Tensor:
        return pad_sequence(list(tensors), batch_first=True, padding_value=padding)

    return PaddedBatch(
        {m: pad([item.features[m] for item in items]) for m in items[0].features},
        pad([item.speaker_bl for item in items]),
        pad([item.label_bl for item in items], UNLABELLED),
        pad([item.umask_bl for item in items]),
    )


def make_loader(conversations: Sequence[Conversation], modalities: str, batch_size: int) -> "DataLoader[PaddedBatch]":
    """Batches of so many conversations, in a new order every epoch."""
    dataset = ConversationDataset(conversations, modalities)
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, collate_fn=collate)
