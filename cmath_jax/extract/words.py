"""Finds what an encoder reads of each utterance of a conversation, and what its user should know of it."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cmath_jax.extract.encoders import Encoder

# Categories of Unicode of which nothing is seen: control signs, formats, halves of signs, spaces and ends of lines.
UNSEEN = ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")
# Signs of other categories that only change the one before them, or join two.
CHANGING = (0x034F, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))


@dataclass(frozen=True)
class Words:
    """The text that is read of an utterance.

    Attributes:
      text: with what was said before it; None where the utterance has nothing that could be read.
      notes: what its user should know of it.
    """

    text: str | None
    notes: tuple[str, ...] = ()


def read_words(sentences: Sequence[str | None], context: int, encoder: Encoder) -> list[Words]:
    """Returns every sentence after so many of those before it that have words."""
    separator, special = encoder.separator, sorted(encoder.tokenizer.all_special_tokens, key=len, reverse=True)

    def plain(sentence: str) -> str:
        # What people write is never read as the end of an utterance, or as padding.
        for token in special:
            sentence = sentence.replace(token, " ".join(token)) if len(token) > 1 else sentence
        return sentence.strip()

    spoken = [plain(sentence) if sentence else "" for sentence in sentences]
    seen = [sentence if any(map(_is_seen, sentence)) else "" for sentence in spoken]
    tokens = iter(encoder.tokens([sentence for sentence in seen if sentence]))
    read = [next(tokens) if sentence else [] for sentence in seen]
    words = []
    for i, sentence in enumerate(spoken):
        if not read[i]:
            # Where there is no text there is nothing wrong.
            words.append(Words(None, ("its text has no words: the encoder reads nothing of it",) if sentence else ()))
            continue
        before = [spoken[j] for j in range(max(i - context, 0), i) if read[j]]
        words.append(Words(separator.join([*before, sentence]), _notes(sentence, read[i], encoder)))
    return words


def texts_with_context(sentences: Sequence[str | None], context: int, encoder: Encoder) -> list[str | None]:
    """Returns every sentence after so many of those before it; None where there is nothing to read."""
    return [words.text for words in read_words(sentences, context, encoder)]


def _is_seen(sign: str) -> bool:
    return unicodedata.category(sign) not in UNSEEN and ord(sign) not in CHANGING


def _notes(sentence: str, tokens: Sequence[int], encoder: Encoder) -> tuple[str, ...]:
    tokenizer = encoder.tokenizer
    notes = []
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown in tokens:
        names = tokenizer.convert_ids_to_tokens([token for token in tokens if token != unknown])
        lost = _unknown_parts(sentence, unknown, tokenizer)
        told = f" ({lost})" if lost else ""
        if any(_is_word(name) for name in names):
            notes.append(f"the encoder does not know a part of its text{told}, and reads it as it reads all unknown")
        else:
            notes.append(f"the encoder knows no part of its text{told}: all such texts are alike to it")
    room = encoder.max_tokens - tokenizer.num_special_tokens_to_add()
    if len(tokens) > room:
        which = "last" if tokenizer.truncation_side == "left" else "first"
        notes.append(f"its text is too long: of {len(tokens)} tokens the encoder reads the {which} {room}")
    return tuple(notes)


def _is_word(token: str) -> bool:
    """Returns whether a token is more than punctuation."""
    return any(unicodedata.category(sign)[0] in "LNS" for sign in token)


def _unknown_parts(sentence: str, unknown: int, tokenizer: Any) -> str:
    """Returns what of a sentence is unknown; nothing for tokenizers that do not tell where their tokens lie."""
    if not tokenizer.is_fast:
        return ""
    found = tokenizer(sentence, add_special_tokens=False, return_offsets_mapping=True)
    parts = [
        sentence[start:end]
        for token, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True)
        if token == unknown
    ]
    return " ".join(dict.fromkeys(parts))[:40]
