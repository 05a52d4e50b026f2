"""Computes scores beside those of the main tables: at the best test epoch, and by length of the conversation.

Shapes: t trials (seeds), n test utterances, b test conversations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cmath_jax.data.corpus import UNLABELLED
from cmath_jax.evaluation.joint_test import compare_models
from cmath_jax.evaluation.metrics import Scores, over_seeds
from cmath_jax.evaluation.statistics import Comparison, Interval, Utterances, compare_utterances, holm
from cmath_jax.report import paper
from cmath_jax.report.load import Run, Score
from cmath_jax.report.studies import SectionResults, Study
from cmath_jax.report.tables import label_of


@dataclass(frozen=True)
class Peak:
    """The weighted F1 that choosing the epoch on the test set would have added to a run."""

    label: str
    selected: Score
    peak: Score
    gap: Score


@dataclass(frozen=True)
class LengthGroup:
    """The weighted F1 of the test conversations of some lengths.

    Attributes:
      lengths: shortest and longest, in utterances; None is without an end.
      conversations, utterances: how many there are; utterances with a label.
      scores: by the label of the model, over seeds.
      intervals: by the label of the model: of the mean over seeds, if other conversations had been drawn; None where
        there is only one.
      comparisons: by the label of each model but the first: the first minus it, over seeds and these conversations.
      p_values: of the comparisons, Holm-corrected over all groups and models.
    """

    name: str
    lengths: tuple[int, int | None]
    conversations: int
    utterances: int
    scores: dict[str, Score]
    intervals: dict[str, Interval | None]
    comparisons: dict[str, Comparison]
    p_values: dict[str, float | None]


def named_runs(study: Study) -> dict[str, Run]:
    """Returns every run of the study once, by the label of the first point that has it."""
    labels: dict[int, str] = {}
    for section in study.sections:
        for name, run in section.runs.items():
            labels.setdefault(id(run), label_of(section.kind, name))
    named: dict[str, Run] = {}
    for key, run in study.runs.items():
        label, number = labels[key], 2
        while label in named:
            label, number = f"{labels[key]} ({number})", number + 1
        named[label] = run
    return named


def peaks(study: Study) -> list[Peak]:
    """Returns a peak for each run; the gap is taken seed by seed."""
    rows = []
    for label, run in named_runs(study).items():
        gaps = [peak - chosen for peak, chosen in zip(run.test_peak.values, run.weighted_f1.values, strict=True)]
        rows.append(Peak(label, run.weighted_f1, run.test_peak, Score.of(over_seeds(gaps))))
    return rows


def length_groups(section: SectionResults, study: Study) -> list[LengthGroup]:
    """Returns the groups of the paper for this data set, with the points of the section as models."""
    runs = {label_of(section.kind, name): run for name, run in section.runs.items()}
    if not runs:
        return []
    first = next(iter(runs.values())).predictions
    runs = {label: run for label, run in runs.items() if run.predictions.same_utterances(first)}
    length_b = np.bincount(first.conversation_n)
    groups = []
    for name, (shortest, longest) in paper.length_groups(study.dataset).items():
        chosen_b = (length_b >= shortest) & (length_b <= (np.inf if longest is None else longest))
        chosen_n = chosen_b[first.conversation_n] & (first.label_n != UNLABELLED)
        groups.append(_group(name, (shortest, longest), int(chosen_b.sum()), chosen_n, runs))
    adjusted = iter(holm([compared.p_value for group in groups for compared in group.comparisons.values()]))
    return [replace(group, p_values={label: next(adjusted) for label in group.comparisons}) for group in groups]


def _group(
    name: str, lengths: tuple[int, int | None], conversations: int, chosen_n: np.ndarray, runs: dict[str, Run]
) -> LengthGroup:
    utterances = int(chosen_n.sum())
    if not utterances:
        return LengthGroup(name, lengths, conversations, 0, {}, {}, {}, {})
    chosen = {label: _Chosen.of(run, chosen_n) for label, run in runs.items()}
    first, *others = chosen
    a = chosen[first]
    return LengthGroup(
        name=name,
        lengths=lengths,
        conversations=conversations,
        utterances=utterances,
        scores={label: each.score() for label, each in chosen.items()},
        intervals={label: each.interval() for label, each in chosen.items()},
        comparisons={
            label: compare_models(a.utterances, a.prediction_tn, chosen[label].prediction_tn) for label in others
        },
        p_values={},
    )


@dataclass(frozen=True)
class _Chosen:
    """The predictions of some utterances."""

    utterances: Utterances
    prediction_tn: np.ndarray

    @classmethod
    def of(cls, run: Run, chosen_n: np.ndarray) -> "_Chosen":
        p = run.predictions
        utterances = Utterances(p.label_n[chosen_n], p.conversation_n[chosen_n], len(run.classes))
        return cls(utterances, p.prediction_tn[:, chosen_n])

    def score(self) -> Score:
        label_n, classes = self.utterances.label_n, self.utterances.classes
        values: Sequence[float] = [Scores.of(label_n, n, classes).weighted_f1 for n in self.prediction_tn]
        return Score.of(over_seeds(values))

    def interval(self) -> Interval | None:
        # Against predictions without an error, whose score is 100 in every resample.
        perfect_1n = self.utterances.label_n[np.newaxis]
        gap = compare_utterances(self.utterances, self.prediction_tn, perfect_1n).interval
        return Interval(100 + gap.low, 100 + gap.high) if gap else None
