"""Computes the tables of a search: what each model took and came to, and which hyper-parameters mattered."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cmath_jax.report.load import Score
from cmath_jax.report.search import STATES, ModelSearch, Option, Search
from cmath_jax.report.search_importance import Importance, can_compute, importance
from cmath_jax.report.studies import Study
from cmath_jax.report.tables import label_of


@dataclass(frozen=True)
class SearchRow:
    """A row of both tables: the search of a model, and its final training.

    Attributes:
      best: the best validation score of the search; None where no trial is complete.
      validation, test: weighted F1 of the final training, over seeds; None where there is none as yet.
      importance: None where it cannot be computed here.
    """

    label: str
    model: ModelSearch
    validation: Score | None
    test: Score | None
    importance: Importance | None

    @property
    def best(self) -> float | None:
        return self.model.chosen.score() if self.model.chosen else None

    @property
    def trials(self) -> str:
        """The number of trials in each state."""
        return " / ".join(str(self.model.count(state)) for state in STATES)

    @cached_property
    def chosen(self) -> dict[str, str]:
        """The options of the chosen trial, as the page writes them."""
        options = self.model.chosen.options if self.model.chosen else {}
        return {name: written(value) for name, value in options.items()}


@dataclass(frozen=True)
class SearchTables:
    """The tables of a search.

    Attributes:
      verdict: what it all comes to, in sentences.
      with_importance: whether what computes the importances is installed.
    """

    verdict: tuple[str, ...]
    rows: tuple[SearchRow, ...]
    first_rung: int
    with_importance: bool

    @cached_property
    def hyperparameters(self) -> tuple[str, ...]:
        """The names of all that were searched for, each once."""
        return tuple(dict.fromkeys(dimension.name for row in self.rows for dimension in row.model.space))

    @property
    def reasons(self) -> str:
        """Why a model has no importances, in a sentence for each."""
        missing = [row for row in self.rows if row.importance and row.importance.reason]
        return " ".join(
            f"{row.label}: no shares, because {row.importance.reason}." for row in missing if row.importance
        )

    def files(self, name: str) -> Iterator[tuple[str, Sequence[Sequence[Any]]]]:
        """Yields name and content of the CSV files of the tables."""
        yield f"{name}-models", self._models()
        yield f"{name}-hyperparameters", self._hyperparameters()

    def _models(self) -> list[list[Any]]:
        scores = ("final validation", "test")
        parts = [f"{score} {part}" for score in scores for part in ("mean", "std")]
        header = ["model", *STATES, "epochs", "seconds", "compile_seconds", "best validation", *parts, "chosen"]
        rows: list[list[Any]] = [header]
        for row in self.rows:
            model = row.model
            final = [
                x for score in (row.validation, row.test) for x in ([score.mean, score.std] if score else [None] * 2)
            ]
            spent = [*(model.count(state) for state in STATES), model.epochs, model.seconds, model.compile_seconds]
            options = json.dumps(model.chosen.options, ensure_ascii=False) if model.chosen else ""
            rows.append([row.label, *spent, row.best, *final, options])
        return rows

    def _hyperparameters(self) -> list[list[Any]]:
        rows: list[list[Any]] = [["model", "hyper-parameter", "share", "chosen"]]
        for row in self.rows:
            shares: Mapping[str, float] = row.importance.shares if row.importance else {}
            for dimension in row.model.space:
                rows.append([row.label, dimension.name, shares.get(dimension.name), row.chosen.get(dimension.name)])
        return rows


def search_tables(search: Search, study: Study, verdict: tuple[str, ...]) -> SearchTables:
    """Returns the tables of the search of a study."""
    known = can_compute()
    rows = []
    for model in search.models:
        run = study.find("main_results", model.name)
        rows.append(
            SearchRow(
                label=label_of("main_results", model.name),
                model=model,
                validation=run.validation_f1 if run else None,
                test=run.weighted_f1 if run else None,
                importance=importance(model, search.rungs[0]) if known else None,
            )
        )
    return SearchTables(verdict, tuple(rows), search.rungs[0], known)


def written(value: Option) -> str:
    """Returns an option as the page writes it: a number with three digits that count."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)
