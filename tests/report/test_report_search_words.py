"""What is said of a search: every case, with the numbers of the rows that it is made of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import search_samples

from cmath_jax.evaluation.statistics import Comparison, Interval
from cmath_jax.report.load import Score
from cmath_jax.report.search import Search, read_search
from cmath_jax.report.search_words import procedure, verdict
from cmath_jax.report.tables import Measure, Row, ScoreTable

MINUS = "\N{MINUS SIGN}"
MEAN = "64.00 ± 0.50 %".replace(" ", "\N{NO-BREAK SPACE}")


def search(*models: str, trials: int = 8) -> Search:
    found = {name: search_samples.model_search(name, trials) for name in models}
    entry = {"trials": trials, "epochs": 16, "rungs": [4, 8, 16], "sampler": "random", "models": found}
    return read_search(Path("result.json"), entry)


def row(label: str, mean: float | None, p: float | None = None, ahead: float | None = None, **more: Any) -> Row:
    """A row whose weighted F1 is `ahead` points above that of CMATH, one point to both sides."""
    seeds = more.pop("seeds", (0, 1, 2) if mean is not None and more.get("kind") != "reference" else ())
    score = Score(mean, 0.5, (mean,) * max(len(seeds), 1)) if mean is not None else None
    interval = Interval(ahead - 1, ahead + 1) if ahead is not None and p is not None else None
    joint = Comparison(ahead, interval, p) if ahead is not None else None
    measures = {"weighted_f1": Measure(score=score)}
    return Row(
        **{"label": label, "kind": "run", "measures": measures, "emotions": {}, "seeds": seeds, **more},
        joint=joint,
        p_value=p,
    )


def table(*rows: Row) -> ScoreTable:
    return ScoreTable("main_results", rows, (), "CMATH")


LINEAR = row("linear, text + audio + video", 60.0, 0.001, -4.0, kind="reference")
CMATH = row("CMATH", 64.0, kind="full")


def test_cmath_is_best_and_stands_beside_the_next() -> None:
    best, after, linear = verdict(table(CMATH, row("SDT", 63.0, 0.2, -1.0), LINEAR), search("cmath", "sdt"))
    assert best == (
        f"CMATH has the highest weighted F1 on the test split of 2 models, {MEAN}, after a "
        "search of 8 trials of up to 16 epochs, and with 3 seeds of the final training each."
    )
    assert after == (
        "Against the next, SDT, CMATH has +1.00 points (95 % interval 0.00 to 2.00, p 0.200, Holm-corrected): the two "
        "cannot be told apart."
    )
    assert linear == (
        "Against the linear model, CMATH has +4.00 points (95 % interval 3.00 to 5.00, p 0.001, Holm-corrected)."
    )


def test_another_model_is_best() -> None:
    best, after = verdict(
        table(CMATH, row("SDT", 66.0, 0.0001, 2.0), row("MMGCN", 62.0, 0.01, -2.0)), search("cmath", "sdt", "mmgcn")
    )
    assert best.startswith("SDT has the highest weighted F1 on the test split of 3 models, 66.00")
    between = f"95 % interval {MINUS}3.00 to {MINUS}1.00, p < 0.001, Holm-corrected"
    assert after == f"Against SDT, CMATH has {MINUS}2.00 points ({between})."


def test_the_level_itself_tells_nothing_apart() -> None:
    assert "told apart" in verdict(table(CMATH, row("SDT", 63.0, 0.05, -1.0)), search("cmath", "sdt"))[1]
    assert "told apart" not in verdict(table(CMATH, row("SDT", 63.0, 0.0499, -1.0)), search("cmath", "sdt"))[1]


def test_equal_scores_have_no_minus() -> None:
    said = verdict(table(CMATH, row("SDT", 64.0, 1.0, 0.0)), search("cmath", "sdt"))[1]
    assert "+0.00 points" in said and "told apart" in said


def test_with_a_single_model_nothing_is_highest() -> None:
    said = verdict(table(CMATH, LINEAR), search("cmath"))
    assert said[0].startswith(f"CMATH has a weighted F1 of {MEAN} on the test split, after a search")
    assert "highest" not in " ".join(said) and said[1].startswith("Against the linear model") and len(said) == 2


def test_with_one_seed_there_is_no_p() -> None:
    rows = table(row("CMATH", 64.0, kind="full", seeds=(0,)), row("SDT", 63.0, None, -1.0, seeds=(0,)))
    best, after = verdict(rows, search("cmath", "sdt", trials=1))
    assert "64.00\N{NO-BREAK SPACE}%, after a search of 1 trial of up to 16 epochs, and with 1 seed of" in best
    assert after == (
        "Against the next, SDT, CMATH has +1.00 points; whether that is chance is not known: one seed tells nobody how "
        "far seeds scatter."
    )


def test_a_difference_without_a_comparison_is_no_finding() -> None:
    linear = row("linear, text", 60.0, kind="reference")
    assert verdict(table(CMATH, linear), search("cmath"))[1] == (
        "Against the linear model, CMATH has +4.00 points; its predictions were not compared."
    )


def test_the_paper_s_settings_are_compared_but_no_tuned_model() -> None:
    paper = row("CMATH, the paper's settings", 70.0, 0.3, 6.0)
    said = verdict(table(CMATH, paper), search("cmath"))
    assert said[0].startswith(f"CMATH has a weighted F1 of {MEAN}")
    assert said[1].startswith(f"Against the paper's settings, CMATH has {MINUS}6.00 points")


def test_without_cmath_nothing_is_compared() -> None:
    said = verdict(table(row("SDT", 66.0), row("MMGCN", 62.0)), search("sdt", "mmgcn"))
    assert said[0].startswith("SDT has the highest") and said[1].startswith("CMATH is not among") and len(said) == 2


def test_without_a_final_training() -> None:
    rows = table(row("CMATH", None, kind="absent"), row("SDT", None, kind="absent"))
    assert verdict(rows, search("cmath", "sdt")) == (
        "The search is done for 2 models; no final training has a result as yet.",
    )


def test_a_model_that_is_not_trained_yet_is_not_counted() -> None:
    rows = table(CMATH, row("SDT", 63.0, 0.2, -1.0), row("MMGCN", None, kind="absent"))
    assert "of 2 models" in verdict(rows, search("cmath", "sdt", "mmgcn"))[0]


def test_models_that_are_not_of_the_search_are_not_counted() -> None:
    assert "highest" not in verdict(table(CMATH, row("SDT", 66.0, 0.2, 2.0)), search("cmath"))[0]


def test_the_procedure_says_what_was_done() -> None:
    said = " ".join(procedure(search("cmath")))
    assert "chosen on the validation split alone" in said and "seeds that the search never used" in said
    assert "8 trials, drawn at random, of up to 16 epochs; after 4 and 8 of them the better half went on." in said
    assert "failed trial counts as 0" in said and "more than one folder" not in said
    other = " ".join(procedure(replace(search("cmath"), sampler="tpe", rungs=(16,), repeated=("cmath",))))
    assert "proposed by TPE, of up to 16 epochs." in other and "shown from the first: cmath." in other
