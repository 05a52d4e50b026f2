"""A source is a name in a table: what is entered there is checked, loaded and named."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from cmath_jax.data.catalog.source import Options
from cmath_jax.data.corpus import Corpus
from cmath_jax.data.load import SOURCES, check_source, load_corpus
from cmath_jax.data.sources.simulate import Simulation, simulate
from cmath_jax.errors import InputError


@dataclass(frozen=True)
class Ten:
    """Ten conversations of the built-in corpus, for whoever names a folder that is there."""

    def check(self, options: Options) -> None:
        if not Path(options.features_dir).is_dir():
            raise InputError(f"ten needs features_dir, and {options.features_dir} is no folder")

    def load(self, options: Options) -> Corpus:
        return simulate(Simulation(train=10, validation=0, test=2))


@pytest.fixture(autouse=True)
def entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "ten", Ten)


def test_a_new_source_is_loaded_by_its_name(tmp_path: Path) -> None:
    """And gets its validation split, as every other."""
    check_source("ten", features_dir=tmp_path)
    read = load_corpus("ten", features_dir=tmp_path)
    assert {split: len(talks) for split, talks in read.splits.items()} == {"train": 8, "validation": 2, "test": 2}


@pytest.mark.parametrize("call", [check_source, load_corpus])
def test_a_new_source_says_what_it_lacks(call: object, tmp_path: Path) -> None:
    assert callable(call)
    with pytest.raises(InputError, match=r"ten needs features_dir, and .*none is no folder"):
        call("ten", features_dir=tmp_path / "none")
    with pytest.raises(InputError, match="dir='x' is for the corpus conversations, but the corpus is 'ten'"):
        call("ten", dir="x")


def test_a_new_source_is_among_those_that_are_known() -> None:
    with pytest.raises(InputError, match=r"known are meld, iemocap, simulated, ten and the path .* did you mean ten\?"):
        check_source("tenn")
