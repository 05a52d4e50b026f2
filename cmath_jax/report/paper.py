"""What the paper prints (`paper.json`), and what its numbers have to be read with."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

LENGTH_GROUPS_OF_OTHERS = "meld"  # a data set that the paper does not have is cut where MELD is
CAVEATS = {
    "main_results": (
        "The rows without numbers of ours are quoted by the paper from other papers, which used weaker text features; "
        "nobody ran them again.",
        "SDT's numbers are those of its own paper, which chose the epoch on the test set.",
    ),
    "modalities": (
        "The paper's video-only score on MELD, 48.12 and 31.27, is exactly that of always answering neutral.",
    ),
}
PROTOCOL = "The paper does not say how the epoch of its scores was chosen; ours is chosen on validation data."


@cache
def _numbers() -> dict[str, Any]:
    return json.loads(resources.files(__package__).joinpath("paper.json").read_text(encoding="utf-8"))


def knows(dataset: str) -> bool:
    return dataset in _numbers()["datasets"]


def caveats(dataset: str, kind: str) -> tuple[str, ...]:
    """What has to be said beside the numbers that the paper prints."""
    return CAVEATS.get(_table(kind), ()) if knows(dataset) else ()


def scores(dataset: str, kind: str) -> Mapping[str, Mapping[str, float | None]]:
    """Name of a row -> name of a column (accuracy, weighted_f1, emotions) -> percent; empty where there is nothing."""
    return _numbers()["datasets"].get(dataset, {}).get(_table(kind), {})


def _table(kind: str) -> str:
    return "main_results" if kind == "runs" else kind


def best_width(dataset: str) -> int | None:
    return _numbers()["datasets"].get(dataset, {}).get("best_width")


def best_gammas(dataset: str) -> tuple[float, float] | None:
    point = _numbers()["datasets"].get(dataset, {}).get("best_gammas")
    return (point[0], point[1]) if point else None


def length_groups(dataset: str) -> dict[str, tuple[int, int | None]]:
    """Name of a group -> its shortest and longest conversation, in utterances; None is without an end."""
    datasets = _numbers()["datasets"]
    groups = datasets.get(dataset, datasets[LENGTH_GROUPS_OF_OTHERS])["length_groups"]
    return {name: (first, last) for name, (first, last) in groups.items()}
