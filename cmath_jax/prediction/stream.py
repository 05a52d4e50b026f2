"""Labels conversations that are still going on: each utterance when it comes, from the past alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.prediction.answers import Prediction
from cmath_jax.prediction.predictor import Predictor, conversation_of


class Stream:
    """A conversation, utterance by utterance. An utterance that has been labelled keeps its label.

    Each is labelled with all that came before it. A model that was not trained with `model.causal=true` has learned to
    look at both sides of an utterance, and does worse on the last one.
    """

    def __init__(self, predictor: Predictor, id: str = "stream", folder: Path | None = None) -> None:
        """Starts a conversation; `folder` is where the paths of recordings begin."""
        self._predictor, self._id, self._folder = predictor, id, folder
        self._said: list[Utterance] = []
        self._rows: list[dict[str, np.ndarray]] = []
        # An encoder of text may look at some utterances before the one that it encodes.
        self._context = {m: int(s.get("context") or 0) for m, s in predictor.trained.extraction.items()}

    def say(self, utterance: Utterance) -> Prediction:
        """Returns the label of the next utterance, from what is said and recorded. Raises InputError."""
        features = {}
        warnings: list[str] = []
        for m in self._predictor.modalities:
            before = self._said[max(0, len(self._said) - self._context.get(m, 0)) :]
            recent = Transcript(self._id, (*before, utterance))
            (conversation,), (found,) = self._predictor.extract([recent], self._folder, m)
            features[m] = conversation.features[m][-1]
            warnings.extend(found[-1])
        return self.hear(utterance, features, warnings)

    def hear(self, utterance: Utterance, features: dict[str, np.ndarray], warnings: Sequence[str] = ()) -> Prediction:
        """Returns the label of the next utterance, from its features, m -> [d_m], and warnings of them.

        Raises InputError.
        """
        said, rows = [*self._said, utterance], [*self._rows, features]
        x = {m: np.stack([row[m] for row in rows]) for m in features}
        conversation = conversation_of(Transcript(self._id, tuple(said)), x)
        told: list[Sequence[str]] = [*[()] * len(self._said), warnings]
        prediction = self._predictor.predict_features([conversation], [told])[0][-1]
        self._said, self._rows = said, rows
        return prediction
