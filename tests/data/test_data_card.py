"""A folder of conversations has a card that the Hugging Face hub reads, with what is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from own_samples import odd_corpus

from cmath_jax.data.sources.card import LICENSES, SIZES, data_card
from cmath_jax.data.sources.own import read_folder, read_own, write_own
from cmath_jax.data.sources.schema import Stated
from cmath_jax.data.tools.check import check

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
TALK = Path(__file__).parents[2] / "examples" / "talk"


def read(path: Path) -> Any:
    return hub.DatasetCard.load(path).data


def test_what_is_written_has_a_card(tmp_path: Path) -> None:
    corpus = replace(odd_corpus(), license="CC-BY-4.0", source="a *study*")
    folder = write_own(corpus, tmp_path / "new")
    found, text = read(folder / "README.md"), (folder / "README.md").read_text()
    assert (found.pretty_name, found.license, found.language) == (corpus.name, "cc-by-4.0", None)
    assert found.size_categories == ["n<1K"] and found.task_categories == ["text-classification"]
    for words in ("Source: a *study*. Licence: CC-BY-4.0.", *(f"class {name}" for name in corpus.classes)):
        assert words.replace("*", "") in text.replace("*", "").replace("\\", ""), words
    assert "README.md" not in check(folder)
    assert read_own(folder).fingerprint() == corpus.fingerprint()


@pytest.mark.parametrize(
    ("stated", "license"),
    [("", None), ("MIT", "mit"), ("GPL-3.0", "gpl-3.0"), ("by agreement with its makers", "other")],
)
def test_a_licence_is_named_as_the_hub_names_it(stated: str, license: str | None) -> None:
    text = data_card(Stated(name="mine", classes=("a", "b"), license=stated), odd_corpus().splits)
    assert hub.DatasetCard(text).data.license == license
    assert (stated or "not stated; ask") in text


def test_known_data_sets_have_a_language() -> None:
    known = ("meld", "IEMOCAP", "meld3", "iemocap4")
    for name, language in (*((name, "en") for name in known), ("mine", None), ("no", None), ("no3", None)):
        found = hub.DatasetCard(data_card(Stated(name=name, classes=("a", "b")), odd_corpus().splits)).data
        assert (found.pretty_name, found.language) == (name, language)


def test_the_example_has_such_a_header() -> None:
    found, own = read(TALK / "README.md"), read_folder(TALK)
    assert (found.pretty_name, found.license) == (own.name, own.license.lower())
    assert found.size_categories == ["n<1K"] and found.language == "en"
    assert found.license in LICENSES and found.size_categories[0] in dict((b, a) for a, b in SIZES)
