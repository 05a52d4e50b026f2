"""Says in sentences what a search and the final training of its models allow to say."""

from collections.abc import Iterable, Sequence

from cmath_jax.evaluation.statistics import Comparison, Interval
from cmath_jax.report.numerals import interval, number, p_value, signed
from cmath_jax.report.search import Search
from cmath_jax.report.studies import FULL_MODEL, PAPER_SETTINGS
from cmath_jax.report.tables import Row, ScoreTable, label_of

LEVEL = 0.05
SAMPLERS = {"random": "drawn at random", "tpe": "proposed by TPE"}
SELECTION = (
    "Hyper-parameters were chosen on the validation split alone; the test scores are those of the final training, with "
    "seeds that the search never used."
)
SCORE_OF_A_TRIAL = (
    "The score of a trial is its best validation epoch among those that it was trained for, as the rule saw it. "
    "A failed trial counts as 0."
)


def verdict(table: ScoreTable, search: Search) -> tuple[str, ...]:
    """Returns which tuned model is best on the test split, and how CMATH compares with it and with the linear model.

    Each is a sentence. All numbers are those of the rows of the main table.
    """
    names = {model.name: label_of("main_results", model.name) for model in search.models}
    tuned = [row for row in table.rows if row.label in names.values() and row.seeds]
    if not tuned:
        return (f"The search is done for {_models(len(names))}; no final training has a result as yet.",)
    ranked = sorted(tuned, key=lambda row: -_score(row))
    best = ranked[0]
    trials, seeds = (len(model.trials) for model in search.models), (len(row.seeds) for row in tuned)
    budget = f"after a search of {_span(trials, 'trial')} of up to {_span([search.epochs], 'epoch')}"
    budget += f", and with {_span(seeds, 'seed')} of the final training"
    if len(tuned) > 1:
        of = f"the highest weighted F1 on the test split of {_models(len(tuned))}, {_mean(best)}"
        said = [f"{best.label} has {of}, {budget} each."]
    else:
        said = [f"{best.label} has a weighted F1 of {_mean(best)} on the test split, {budget}."]
    cmath = next((row for row in tuned if row.label == names.get(FULL_MODEL)), None)
    if cmath is None:
        return (*said, "CMATH is not among the tuned models that have a result, and so no model is compared with it.")
    others = [row for row in ranked if row is not cmath]
    if others:
        said.append(_against(cmath, others[0], f"the next, {others[0].label}" if cmath is best else others[0].label))
    linear = [row for row in table.rows if row.kind == "reference" and row.label.startswith("linear")]
    said += [_against(cmath, row, "the linear model") for row in linear[:1]]
    paper = [row for row in table.rows if row.label == label_of("main_results", PAPER_SETTINGS) and row.seeds]
    said += [_against(cmath, row, "the paper's settings") for row in paper]
    return tuple(said)


def procedure(search: Search) -> tuple[str, ...]:
    """Returns how hyper-parameters were searched for and chosen, in sentences."""
    how = SAMPLERS.get(search.sampler, f"proposed by {search.sampler}")
    early = [str(rung) for rung in search.rungs if rung < search.epochs]
    halving = f"; after {' and '.join(early)} of them the better half went on" if early else ""
    budget = (
        f"Each model had {_span([search.trials], 'trial')}, {how}, of up to {_span([search.epochs], 'epoch')}{halving}."
    )
    doubled = f"In more than one folder, and shown from the first: {', '.join(search.repeated)}."
    return SELECTION, budget, SCORE_OF_A_TRIAL, *([doubled] if search.repeated else [])


def _against(cmath: Row, other: Row, name: str) -> str:
    """Returns how CMATH compares with another row. The comparison of the table is the row minus CMATH."""
    if other.joint is None:
        ahead = _score(cmath) - _score(other)
        return f"Against {name}, CMATH has {signed(ahead)} points; its predictions were not compared."
    ahead = -other.joint.difference + 0.0  # no minus before a zero
    if other.p_value is None:
        why = "one seed tells nobody how far seeds scatter" if 1 in _seeds(cmath, other) else "its noise is not known"
        return f"Against {name}, CMATH has {signed(ahead)} points; whether that is chance is not known: {why}."
    between = f"95 % interval {interval(_turned(other.joint))}, p {p_value(other.p_value)}"
    end = ": the two cannot be told apart" if other.p_value >= LEVEL else ""
    return f"Against {name}, CMATH has {signed(ahead)} points ({between}, Holm-corrected){end}."


def _turned(comparison: Comparison) -> Interval:
    assert comparison.interval is not None  # there is one where there is a p-value
    return Interval(-comparison.interval.high + 0.0, -comparison.interval.low + 0.0)


def _score(row: Row) -> float:
    score = row.measures["weighted_f1"].score
    assert score is not None
    return score.mean


def _mean(row: Row) -> str:
    score = row.measures["weighted_f1"].score
    assert score is not None
    spread = f" ± {number(score.std)}" if len(row.seeds) > 1 else ""
    return f"{number(score.mean)}{spread} %".replace(" ", "\N{NO-BREAK SPACE}")


def _seeds(*rows: Row) -> Sequence[int]:
    return [len(row.seeds) for row in rows if row.kind != "reference"]


def _models(count: int) -> str:
    return "one model" if count == 1 else f"{count} models"


def _span(counts: Iterable[int], noun: str) -> str:
    """Returns a number, or the smallest and the largest of several, with a noun in its right form."""
    found = sorted(set(counts))
    text = str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"
    return f"{text} {noun}" if found == [1] else f"{text} {noun}s"
