"""Speakers that are most likely misspelled: in a conversation every name becomes a speaker, whatever it says."""

import unicodedata
from collections.abc import Sequence
from reprlib import repr as brief

from cmath_jax.data.sources.schema import Transcript


def doubtful_speakers(transcripts: Sequence[Transcript]) -> list[str]:
    """Returns a sentence about each two names in one conversation that hardly differ, with the first conversation."""
    where: dict[tuple[str, str], list[str]] = {}
    for transcript in transcripts:
        spelled: dict[str, str] = {}  # what is left of a name -> its first spelling in the conversation
        for name in dict.fromkeys(u.speaker for u in transcript.utterances if isinstance(u.speaker, str)):
            first = spelled.setdefault(_plain(name), name)
            if first != name:
                one, other = sorted((first, name))
                where.setdefault((one, other), []).append(transcript.id)
    return [_of_pair(*pair, ids) for pair, ids in where.items()]


def _of_pair(one: str, other: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
    return (
        f"the speakers {brief(one)} and {brief(other)} of conversation {brief(ids[0])}{more} differ in case, "
        "white space or marks alone: if they are one, write the name in one way"
    )


def _plain(name: str) -> str:
    """Removes from a name what is easily mistaken: case, white space, invisible marks, forms of a character."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(c for c in folded if not c.isspace() and unicodedata.category(c) != "Cf")
