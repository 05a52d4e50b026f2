"""Conversations of many requests share calls of the model, and not their fates."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest
import serve_samples as samples

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError
from cmath_jax.serve.batching import Batcher


def spoken(text: str, length: int = 1) -> Transcript:
    return Transcript(text, tuple(Utterance("A", text) for _ in range(length)))


class Gate:
    """Holds the first call back, until what shall be waiting is waiting."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, batch: Sequence[Transcript]) -> None:
        self.entered.set()
        assert self.open.wait(10)


@pytest.fixture
def make() -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def make(model: samples.StandIn, utterances: int = 100, **options: Any) -> Batcher:
        made.append(Batcher(model.predict, utterances, **options))
        return made[-1]

    yield make
    for batcher in made:
        batcher.close(10)
        assert not batcher.alive


def held(make: Callable[..., Batcher], model: samples.StandIn, **options: Any) -> tuple[Batcher, Gate]:
    """A batcher whose thread is busy with a first conversation."""
    gate = Gate()
    model.before = gate
    batcher = make(model, **options)
    batcher.submit([spoken("first")])
    assert gate.entered.wait(10)
    return batcher, gate


def names(model: samples.StandIn) -> list[list[str]]:
    return [[transcript.id for transcript in batch] for batch in model.batches]


def test_what_waits_is_computed_together(make: Callable[..., Batcher]) -> None:
    model = samples.StandIn()
    observed: list[tuple[int, int]] = []
    batcher, gate = held(make, model, observe=lambda *sizes: observed.append(sizes))
    answers = [batcher.submit([spoken(text, 2)])[0] for text in ("happy", "scared", "so")]
    assert batcher.waiting == 3
    assert batcher.busy_seconds() > 0
    gate.open.set()
    assert [[each.label for each in answer.result(10)] for answer in answers] == [
        ["joy"] * 2,
        ["fear"] * 2,
        ["neutral"] * 2,
    ]
    assert names(model) == [["first"], ["happy", "scared", "so"]]
    assert observed == [(1, 1), (3, 6)]
    assert batcher.waiting == 0


def test_batches_have_their_limit_and_order(make: Callable[..., Batcher]) -> None:
    model = samples.StandIn()
    batcher, gate = held(make, model, utterances=5)
    lengths = {"a": 2, "b": 3, "c": 1, "d": 9, "e": 5, "f": 1}
    answers = batcher.submit([spoken(text, length) for text, length in lengths.items()])
    gate.open.set()
    assert [len(answer.result(10)) for answer in answers] == list(lengths.values())
    assert names(model) == [["first"], ["a", "b"], ["c"], ["d"], ["e"], ["f"]]


def test_a_poisoned_conversation_harms_nobody_else(make: Callable[..., Batcher]) -> None:
    model = samples.StandIn()
    batcher, gate = held(make, model)
    good, poison, bug, last = batcher.submit([spoken(text) for text in ("happy", "poison", "bug", "scared")])
    gate.open.set()
    assert good.result(10)[0].label == "joy"
    assert last.result(10)[0].label == "fear"
    with pytest.raises(InputError, match="'poison', utterance 0"):
        poison.result(10)
    with pytest.raises(ZeroDivisionError):
        bug.result(10)
    assert names(model)[1:] == [["happy", "poison", "bug", "scared"], ["happy"], ["poison"], ["bug"], ["scared"]]
    assert batcher.submit([spoken("happy")])[0].result(10)[0].label == "joy"


def test_who_has_left_costs_nothing(make: Callable[..., Batcher]) -> None:
    model = samples.StandIn()
    batcher, gate = held(make, model)
    gone, there = batcher.submit([spoken("gone"), spoken("there")])
    assert gone.cancel()
    gate.open.set()
    assert there.result(10)
    assert names(model) == [["first"], ["there"]]


def test_a_predictor_that_loses_an_utterance_is_found_out() -> None:
    model = samples.StandIn()
    batcher = Batcher(lambda batch: [answer[1:] for answer in model.predict(batch)], 100)
    with pytest.raises(RuntimeError, match="1 predictions for 2 utterances"):
        batcher.submit([spoken("a", 2)])[0].result(10)
    batcher.close(10)


def test_closing_finishes_the_call_that_is_under_way() -> None:
    model, gate = samples.StandIn(), Gate()
    model.before = gate
    batcher = Batcher(model.predict, 100)
    [under_way] = batcher.submit([spoken("happy")])
    assert gate.entered.wait(10)
    [waiting] = batcher.submit([spoken("late")])
    closing = threading.Thread(target=batcher.close, args=(10,))
    closing.start()
    with pytest.raises(CancelledError):
        waiting.result(10)
    assert closing.is_alive()
    gate.open.set()
    assert under_way.result(10)[0].label == "joy"
    closing.join(10)
    assert not batcher.alive
    assert names(model) == [["happy"]]
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit([spoken("after")])
