"""The answer to what a conversation feels like: the emotion of each utterance, and how sure the model is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cmath_jax.data.corpus import MODALITIES, UNLABELLED, Conversation
from cmath_jax.io.tables import html_table

LIKELIEST = 3  # emotions that are shown


@dataclass(frozen=True, repr=False)
class Prediction:
    """The emotion of an utterance, and how sure the model is of it.

    Attributes:
      label: the most probable emotion.
      probabilities: emotion -> probability, calibrated.
      uncertainty: 0 to 1: how often a draw from the fused Gaussian (eq. 17) is given another label.
      entropy: 0 to 1: of the probabilities, as a share of the highest that it could be.
      gates: centre -> modality -> the mean weight of the gate over features (eq. 12); empty for a single modality.
      missing: the letters of the modalities that the utterance lacks.
      warnings: what its user should know of how the utterance was read, a sentence each; the path of a recording, where
        it is about one, as the utterance names it.
    """

    label: str
    probabilities: dict[str, float]
    uncertainty: float
    entropy: float
    gates: dict[str, dict[str, float]]
    missing: str = ""
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns it ready for JSON, to six digits."""
        return {name: _rounded(value) for name, value in vars(self).items()}

    def __repr__(self) -> str:
        notes = [f"without {self._lacks()}"] if self.missing else []
        notes += [f"warning: {warning}" for warning in self.warnings]
        return f"<Prediction {'; '.join([*self._likeliest(), f'uncertainty {self.uncertainty:.2f}', *notes])}>"

    def _repr_html_(self) -> str:
        ordered = sorted(self.probabilities.items(), key=lambda pair: -pair[1])
        rows = [("emotion", "probability"), *((name, f"{share:.3f}") for name, share in ordered)]
        return html_table(rows, caption=f"{self.label}, uncertainty {self.uncertainty:.2f}, entropy {self.entropy:.2f}")

    def _likeliest(self) -> list[str]:
        ordered = sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:LIKELIEST]
        return [f"{name} {share:.2f}" for name, share in ordered]

    def _lacks(self) -> str:
        return " and ".join(MODALITIES[m] for m in self.missing)


class ConversationPredictions(list[Prediction]):
    """The predictions of one conversation: a list of them, which shows itself line by line.

    Attributes:
      conversation: the one that they belong to.
      speakers: the name of each utterance's speaker.
    """

    def __init__(
        self, predictions: Iterable[Prediction], conversation: Conversation, speakers: Sequence[str] = ()
    ) -> None:
        super().__init__(predictions)
        self.conversation = conversation
        self.speakers = tuple(speakers) or tuple(str(speaker) for speaker in conversation.speakers)

    def rows(self, classes: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Returns a row for each utterance, with a column for each emotion and for each weight of the gates.

        Args:
          classes: the emotions of the corpus that the conversation is from, to name its own labels: `Corpus.classes`.
            Without them there are none.
        """
        return [self._row(i, prediction, classes) for i, prediction in enumerate(self)]

    def _row(self, i: int, p: Prediction, classes: Sequence[str]) -> dict[str, Any]:
        said, label = self.conversation.sentences, int(self.conversation.labels[i])
        row: dict[str, Any] = {"conversation": self.conversation.id, "utterance": i, "speaker": self.speakers[i]}
        row["text"] = said[i] if said else ""
        if classes:
            row["label"] = None if label == UNLABELLED else classes[label]
        row |= {"prediction": p.label, "probability": p.probabilities[p.label]}
        row |= {"uncertainty": p.uncertainty, "entropy": p.entropy, "missing": p.missing}
        row["warnings"] = "; ".join(p.warnings)
        row |= {f"p({name})": share for name, share in p.probabilities.items()}
        return row | {f"gate({c}, {m})": share for c, weights in p.gates.items() for m, share in weights.items()}

    def __repr__(self) -> str:
        lines = (f"  {self.speakers[i]}: {', '.join(p._likeliest())}" for i, p in enumerate(self))
        return "\n".join([f"<Predictions of {self.conversation.id!r}, {len(self)} utterances", *lines]) + ">"

    def _repr_html_(self) -> str:
        said = self.conversation.sentences or ("",) * len(self)
        columns = {
            "speaker": self.speakers,
            "text": said,
            "emotion": [p.label for p in self],
            "probability": [f"{p.probabilities[p.label]:.2f}" for p in self],
            "next": [", ".join(p._likeliest()[1:]) for p in self],
            "uncertainty": [f"{p.uncertainty:.2f}" for p in self],
            "missing": [p._lacks() if p.missing else "" for p in self],
            "warnings": ["; ".join(p.warnings) for p in self],
        }
        shown = {name: column for name, column in columns.items() if any(column)}
        words = [i for i, name in enumerate(shown) if name not in ("probability", "uncertainty")]
        rows = [[*shown], *map(list, zip(*shown.values(), strict=True))]
        return html_table(rows, words, caption=repr(self.conversation.id))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(x) for name, x in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return round(value, 6) if isinstance(value, float) else value
