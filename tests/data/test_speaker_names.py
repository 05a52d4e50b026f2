"""Names that hardly differ are doubted where they meet in one conversation; other names are not."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.data.sources.speaker_names import doubtful_speakers


def talk(id: str, *speakers: str | int) -> Transcript:
    return Transcript(id, tuple(Utterance(speaker, "so it is") for speaker in speakers))


# Without the i of Turkish that has no dot: in capitals it is another letter.
letters = st.characters(min_codepoint=33, max_codepoint=0x17F, categories=["L", "Nd"], exclude_characters="ı")
CHANGES: list[Callable[[str], str]] = [
    *(str.lower, str.upper),
    *(lambda name: f"{name} ", lambda name: f"\u200b{name}", lambda name: f" {name}\t"),
]


@given(st.text(letters, min_size=1), st.sampled_from(CHANGES))
def test_a_name_beside_another_spelling_of_it_is_doubted(name: str, change: Callable[[str], str]) -> None:
    other = change(name)
    doubts = doubtful_speakers([talk("a", name, "?", other, name)])
    assert len(doubts) == int(other != name)
    assert doubtful_speakers([talk("a", name, "?"), talk("b", other)]) == []  # who meets nobody is mistaken for nobody


@pytest.mark.parametrize(
    "speakers", [("Ann", "Anna"), ("Ann", "Bob", "Ann"), ("1-1", "11"), ("A", "B"), (0, 1, 0), ("Jo", "Joe")]
)
def test_other_names_are_others(speakers: tuple[str | int, ...]) -> None:
    assert doubtful_speakers([talk("a", *speakers)]) == []


def test_a_pair_is_told_once() -> None:
    (doubt,) = doubtful_speakers([talk("a", "Ann", "ann"), talk("b", "ann", "Ann"), talk("c", "Ann")])
    assert doubt.startswith("the speakers 'Ann' and 'ann' of conversation 'a' and 1 more differ in case")
