"""Finds the test conversations that a run reads worst, line by line."""

from dataclasses import dataclass

import numpy as np

from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.report.load import Run

SHOWN = 8
LIKELIEST = 3


@dataclass(frozen=True)
class Line:
    """An utterance of such a conversation.

    Attributes:
      speaker, text: "" where the run did not keep them.
      label: the true emotion; "" where there is none.
      likeliest: the emotions with the highest probabilities, the highest first, which is the prediction.
    """

    number: int
    speaker: str
    text: str
    label: str
    prediction: str
    probability: float
    likeliest: tuple[tuple[str, float], ...]

    @property
    def wrong(self) -> bool:
        return bool(self.label) and self.label != self.prediction


@dataclass(frozen=True)
class ShownConversation:
    name: str
    lines: tuple[Line, ...]

    @property
    def errors(self) -> int:
        return sum(line.wrong for line in self.lines)

    @property
    def labelled(self) -> int:
        return sum(bool(line.label) for line in self.lines)


def worst(run: Run, count: int = SHOWN) -> list[ShownConversation]:
    """Returns the conversations with the most errors of the first seed; of equals, the first ones of the data."""
    p = run.predictions
    wrong_n = (p.prediction_tn[0] != p.label_n) & (p.label_n != UNLABELLED)
    errors_b = np.bincount(p.conversation_n, weights=wrong_n, minlength=len(p.conversations))
    chosen = [b for b in np.argsort(-errors_b, kind="stable")[:count] if errors_b[b]]
    return [
        ShownConversation(p.conversations[b], tuple(_line(run, int(n)) for n in np.flatnonzero(p.conversation_n == b)))
        for b in chosen
    ]


def _line(run: Run, n: int) -> Line:
    p, classes = run.predictions, run.classes
    probability_c, prediction = p.probability_tnc[0, n], p.prediction_tn[0, n]
    likeliest = np.argsort(-probability_c, kind="stable")[:LIKELIEST]
    return Line(
        number=int(p.utterance_n[n]),
        speaker=p.speaker_n[n] if p.speaker_n else "",
        text=p.text_n[n] if p.text_n else "",
        label=classes[p.label_n[n]] if p.label_n[n] != UNLABELLED else "",
        prediction=classes[prediction],
        probability=float(probability_c[prediction]),
        likeliest=tuple((classes[c], float(probability_c[c])) for c in likeliest),
    )
