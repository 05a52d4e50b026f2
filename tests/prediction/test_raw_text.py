"""Raw text through the extractor of the training, whole conversations and streams; the extractor is a stand-in."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import tiny

from cmath_jax.data.sources.schema import Transcript, Utterance
from cmath_jax.errors import InputError
from cmath_jax.extract import Extracted, Problem
from cmath_jax.prediction import predictor as prediction
from cmath_jax.prediction.predictor import Predictor, predict
from cmath_jax.prediction.stream import Stream
from cmath_jax.prediction.trained import TrainedModel
from cmath_jax.training.fit import fit

UNSEEN = "\u200b"  # a text in which there is nothing to read


class Encoder:
    """Stands in for an extractor: two numbers an utterance, and a note of what it was asked."""

    settings = {"encoder": "stand-in", "context": 3}  # noqa: RUF012
    dim = 9

    def __init__(self) -> None:
        self.asked: list[int] = []

    def features(self, transcripts: Any, folder: Path) -> Extracted:
        self.asked += map(len, transcripts)
        rows = []
        for transcript in transcripts:
            texts = [(utterance.text or "").strip(UNSEEN) for utterance in transcript.utterances]
            x_nd = np.array([np.cos(np.arange(9) + len(text)) for text in texts], np.float32)
            plain_nd = x_nd.copy()
            for back in (1, 2, 3):  # what was said before tells
                x_nd[back:] += 0.3 * plain_nd[:-back]
            x_nd[[not text for text in texts]] = np.nan
            rows.append(x_nd)
        told = {"Hm": "it says little", UNSEEN: "it has no words"}
        said = [(c, u, each.text) for c, t in enumerate(transcripts) for u, each in enumerate(t.utterances)]
        return Extracted(rows, [Problem(c, u, told[text]) for c, u, text in said if text in told])


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Of text alone, with an extractor, and trained to see only the past."""
    folder = tmp_path_factory.mktemp("causal") / "run"
    fit(tiny(model__causal=True, data__modalities="t"), folder)
    return replace(TrainedModel.load(folder), extraction={"t": Encoder.settings})


WORDS = ("Hello there", "You came!", "", "Why would I not", "I do not know", "Then sit")
TALK = Transcript("t", tuple(Utterance("AB"[i % 2], text or None) for i, text in enumerate(WORDS)))


def test_raw_text_goes_through_the_extractor_of_the_training(causal: TrainedModel, monkeypatch: Any) -> None:
    made: list[Any] = []

    def make(m: str, settings: Any) -> Encoder:
        made.append((m, settings))
        return Encoder()

    monkeypatch.setattr(prediction, "make_extractor", make)
    predictor = Predictor(causal)
    assert predictor.raw == "t"
    first, second = predictor.predict([TALK]), predictor.predict([TALK])
    assert first == second and made == [("t", Encoder.settings)]
    assert [p.missing for p in first[0]] == ["", "", "t", "", "", ""]
    as_json = {"utterances": [{"speaker": u.speaker, "text": u.text} for u in TALK.utterances]}
    assert predict(predictor, [as_json]) == first


def test_a_stream_says_what_a_causal_model_says_of_the_whole(causal: TrainedModel, monkeypatch: Any) -> None:
    """Utterance by utterance, and each is encoded once, with the context that the encoder asks for."""
    encoder = Encoder()
    monkeypatch.setattr(prediction, "make_extractor", lambda m, settings: encoder)
    predictor = Predictor(causal)
    (whole,) = predictor.predict([TALK])
    encoder.asked.clear()
    stream = Stream(predictor)
    for utterance, expected in zip(TALK.utterances, whole, strict=True):
        found = stream.say(utterance)
        assert found.label == expected.label
        np.testing.assert_allclose([*found.probabilities.values()], [*expected.probabilities.values()], atol=1e-5)
    assert encoder.asked == [1, 2, 3, 4, 4, 4]


def test_what_the_extractor_knows_is_told_beside_the_utterance(causal: TrainedModel, monkeypatch: Any) -> None:
    """Whatever the batch, and in a stream once, though an utterance is encoded again as context of the next ones."""
    monkeypatch.setattr(prediction, "make_extractor", lambda m, settings: Encoder())
    predictor = Predictor(causal)
    said = ("Hello there", "Hm", "Why would I not", "Hm", "Then sit")
    talk = Transcript("t", tuple(Utterance("A", text) for text in said))
    expected = [("it says little",) if text == "Hm" else () for text in said]
    found = predictor.predict([TALK, talk, TALK])
    assert [[p.warnings for p in predictions] for predictions in found] == [[()] * 6, expected, [()] * 6]
    assert found[1][1].to_dict()["warnings"] == ["it says little"]
    stream = Stream(predictor)
    assert [stream.say(utterance).warnings for utterance in talk.utterances] == expected


def test_why_nothing_is_known_of_a_conversation_is_told(causal: TrainedModel, monkeypatch: Any) -> None:
    monkeypatch.setattr(prediction, "make_extractor", lambda m, settings: Encoder())
    predictor = Predictor(causal)
    talk = Transcript("t", (Utterance("A", None), Utterance("A", UNSEEN), Utterance("B", UNSEEN)))
    with pytest.raises(InputError, match="utterance 1: it has no words; and no utterance has any text") as refused:
        predictor.predict([TALK, talk])
    assert refused.value.utterance == 1 and str(refused.value).startswith("conversation 't', utterance 1: ")
    assert refused.value.reason == "it has no words; and no utterance has any text, which is what the model goes by"
    with pytest.raises(InputError, match="utterance 0: it has no words; and no utterance has any text"):
        Stream(predictor).say(Utterance("A", UNSEEN))
    with pytest.raises(InputError, match="conversation 't': no utterance has any text") as refused:
        predictor.predict([Transcript("t", (Utterance("A", None),))])
    assert refused.value.utterance is None


def test_a_stream_goes_on_after_an_utterance_that_cannot_be_used(causal: TrainedModel, monkeypatch: Any) -> None:
    monkeypatch.setattr(prediction, "make_extractor", lambda m, settings: Encoder())
    stream = Stream(Predictor(causal))
    with pytest.raises(InputError, match="no utterance has any text"):
        stream.say(Utterance("A", None))
    assert stream.say(Utterance("A", "Hello there")).missing == ""
