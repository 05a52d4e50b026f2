"""What is made ready before the first client comes: batches of all shapes that requests can bring."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cmath_jax.config import Config, override
from cmath_jax.data.batches import Batch
from cmath_jax.data.corpus import UNLABELLED, Conversation
from cmath_jax.data.sources.schema import Transcript
from cmath_jax.data.standardize import Standardizer
from cmath_jax.errors import InputError
from cmath_jax.prediction.predictor import MOST_SLOTS, BatchPredictions, Predictor, Warnings
from cmath_jax.prediction.trained import Facts, TrainedModel
from cmath_jax.serve.limits import Limits
from cmath_jax.serve.warmup import warm_up

pytest.importorskip("soundfile", reason="soundfile is not installed (requirements-serve.txt)")


def talk(length: int, id: str = "x") -> Conversation:
    labels_n = np.full(length, UNLABELLED, np.int32)
    return Conversation(id, {"t": np.ones((length, 2), np.float32)}, np.zeros(length, np.int32), labels_n)


class Recorder(Predictor):
    """Makes batches as any predictor does, and notes their shapes instead of computing them."""

    def __init__(self, modalities: str = "t") -> None:
        config = override(Config(), {"data.modalities": modalities})
        scaling = Standardizer({"t": np.zeros(2, np.float32)}, {"t": np.ones(2, np.float32)})
        facts = cast(Facts, None)
        self.trained = TrainedModel(config, ("a", "b"), 2, {"t": 2}, {"t": {}}, scaling, 1.0, facts, {})
        self.numbers = (np.float32(1), np.zeros((1, 2), np.float32))
        self.shapes: list[tuple[int, ...]] = []
        self._params: Any = {}
        self._step: Any = self.note

    def note(self, params: Any, batch: Batch, *numbers: Any) -> BatchPredictions:
        shape = batch.utterance_rl.shape
        self.shapes.append(shape)
        return BatchPredictions(cast(Any, np.full((*shape, 2), 0.5)), cast(Any, np.zeros(shape)), {})

    def extract(
        self, transcripts: Sequence[Transcript], folder: Path | None = None
    ) -> tuple[list[Conversation], list[Warnings]]:
        return [talk(len(transcript)) for transcript in transcripts], [[()] * len(one) for one in transcripts]


def asked(predictor: Recorder, *lengths: int) -> set[tuple[int, ...]]:
    """The shapes that a batch of conversations takes."""
    predictor.shapes.clear()
    predictor.predict_features([talk(length, str(i)) for i, length in enumerate(lengths)])
    return {*predictor.shapes}


@pytest.mark.parametrize("utterances", [1, 20, 32, 33, 64, 65, 70, 256])
@pytest.mark.parametrize("batch_utterances", [1, 33, 65, 164, 512])
def test_clients_bring_no_other_shape(utterances: int, batch_utterances: int) -> None:
    predictor = Recorder()
    warm_up(predictor, Limits(utterances=utterances, batch_utterances=batch_utterances))
    ready = {*predictor.shapes}
    rng = np.random.default_rng(0)
    drawn = [rng.integers(1, utterances + 1, batch_utterances) for _ in range(20)]
    equal = [np.full(batch_utterances, n) for n in {utterances, *(n for n in (32, 33, 65, 129) if n <= utterances)}]
    one_less = [np.array([n, *[n + 1] * 600]) for n in (32, 64, 128) if n < utterances]
    for lengths in (*drawn, *equal, *one_less):
        # As many as the batcher takes at once: one in any case.
        count = max(1, int((lengths.cumsum() <= batch_utterances).sum()))
        assert asked(predictor, *lengths[:count]) <= ready


def test_short_conversations_are_made_ready_for_too() -> None:
    """A full batch of them needs many rows, though one of them needs one."""
    predictor = Recorder()
    warm_up(predictor, Limits(utterances=32, batch_utterances=512))
    assert {*predictor.shapes} == {(rows, 64) for rows in (1, 2, 4, 8, 16)}
    assert asked(predictor, *[32] * 16) == {(8, 64)}


def test_no_more_is_made_ready_than_can_come() -> None:
    predictor = Recorder()
    warm_up(predictor, Limits(utterances=10_000, batch_utterances=100_000))
    assert len({*predictor.shapes}) == 7 + 6 + 5 + 4 + 3 + 2 + 1 + 2
    assert max(predictor.shapes, key=lambda shape: shape[0] * shape[1]) == (1, 4 * MOST_SLOTS)


def test_a_model_of_video_is_refused() -> None:
    with pytest.raises(InputError, match="knows only video"):
        warm_up(Recorder("v"), Limits())
