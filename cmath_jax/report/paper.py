"""Gives what the paper prints (`paper.json`), and what its numbers have to be read with."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from cmath_jax.results.circumstances import NAMES, Circumstances, modalities_in_words

LENGTH_GROUPS_OF_OTHERS = "meld"  # a data set that the paper does not have is cut where MELD is
CAVEATS = {
    "main_results": (
        "The rows without numbers of ours are quoted by the paper from other papers; nobody ran them again, and which "
        "features each of them used is not told.",
        "SDT's numbers are those of its own paper, which chose the epoch on the test set.",
    ),
    "modalities": (
        "The paper's video-only score on MELD, 48.12 and 31.27, is exactly that of always answering neutral.",
    ),
}
PROTOCOL = "The paper does not say how the epoch of its scores was chosen; ours is chosen on validation data."


# The rule by which a number of the paper may stand beside one of ours. The features are in paper.json, by data set.
RULE = (
    "A number of the paper stands beside one of ours where both are of the same data set and its whole test split, of "
    "the same modalities, and of published feature files of the kind that the paper used."
)


def why_apart(dataset: str, circumstances: Circumstances, utterances: int, modalities: str = "tav") -> str:
    """Returns why the paper's number for these modalities may not stand beside a score, by `RULE`; "" if it may.

    Args:
      utterances: labelled ones of the test split of the score.
    """
    numbers = _numbers()["datasets"].get(dataset)
    if numbers is None:
        return "the paper has no such data set"
    if utterances != numbers["test_utterances"]:
        return f"the paper's test split has {numbers['test_utterances']} utterances, and this one {utterances}"
    if circumstances.modalities != modalities:
        seen = circumstances.seen
        return f"the paper's numbers are of {modalities_in_words(modalities)}, and these of {seen}"
    if not circumstances.features:
        return "which features the run took is not stated"
    for m, wanted in numbers["features"].items():
        found = circumstances.features.get(m)
        if found and (found.origin, found.size, found.vectors) != ("published", wanted["size"], wanted["vectors"]):
            return (
                f"the paper's {NAMES[m]} features are {wanted['size']} published ones ({wanted['how']}), and those of "
                f"this run {found.size} ({found.words(m)})"
            )
    return ""


@cache
def _numbers() -> dict[str, Any]:
    return json.loads(resources.files(__package__).joinpath("paper.json").read_text(encoding="utf-8"))


def knows(dataset: str) -> bool:
    return dataset in _numbers()["datasets"]


def caveats(dataset: str, kind: str) -> tuple[str, ...]:
    """Returns what has to be said beside the numbers that the paper prints."""
    return CAVEATS.get(_table(kind), ()) if knows(dataset) else ()


def scores(dataset: str, kind: str) -> Mapping[str, Mapping[str, float | None]]:
    """Returns row -> column (accuracy, weighted_f1, emotions) -> percent; empty where there is nothing."""
    return _numbers()["datasets"].get(dataset, {}).get(_table(kind), {})


def _table(kind: str) -> str:
    return "main_results" if kind == "runs" else kind


def best_width(dataset: str) -> int | None:
    return _numbers()["datasets"].get(dataset, {}).get("best_width")


def best_gammas(dataset: str) -> tuple[float, float] | None:
    point = _numbers()["datasets"].get(dataset, {}).get("best_gammas")
    return (point[0], point[1]) if point else None


def length_groups(dataset: str) -> dict[str, tuple[int, int | None]]:
    """Returns name of a group -> its shortest and longest conversation, in utterances; None is without an end."""
    datasets = _numbers()["datasets"]
    groups = datasets.get(dataset, datasets[LENGTH_GROUPS_OF_OTHERS])["length_groups"]
    return {name: (first, last) for name, (first, last) in groups.items()}
