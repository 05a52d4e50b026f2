"""Writes the card of a folder of conversations: what is in it, for people and for the Hugging Face hub.

It says what is known, and no more; README.md is the name under which the hub shows it.
"""

from collections.abc import Mapping, Sequence

from cmath_jax.data.corpus import Conversation
from cmath_jax.data.sources.schema import Stated
from cmath_jax.data.summary import counts
from cmath_jax.io.front_matter import front_matter
from cmath_jax.io.tables import markdown_table

# Licences that the hub knows by these names; any other one is told in words.
LICENSES = (
    *("apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "mpl-2.0", "unlicense", "odc-by", "pddl"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
)
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
VARIANTS = {"meld3": "meld", "iemocap4": "iemocap"}  # with other classes
LANGUAGES = {"meld": "en", "iemocap": "en"}


def known_as(name: str) -> str:
    """Returns the name under which others know a data set, of which ours may be a variant with other classes."""
    plain = name.strip().lower()
    return VARIANTS.get(plain, plain)


def language_of(name: str) -> str:
    """Returns the code of the language that is spoken in a known data set; "" for any other one."""
    return LANGUAGES.get(known_as(name), "")


def data_card(stated: Stated, splits: Mapping[str, Sequence[Conversation]]) -> str:
    """Returns the card in Markdown, with its header, of conversations whose features are not looked at."""
    name, classes = stated.name or "", stated.classes or ()
    header = front_matter(
        {
            "pretty_name": name,
            "license": _license(stated.license or ""),
            "language": language_of(name),
            "task_categories": ["text-classification"],
            "size_categories": [_size(sum(len(c) for conversations in splits.values() for c in conversations))],
            "tags": ["emotion-recognition-in-conversations"],
            "viewer": False,  # it would take the lines for one split
        }
    )
    license = stated.license or "not stated; ask whoever made the data before you pass them on"
    origin = " ".join(f"Source: {stated.source}. Licence: {license}.".split())
    return f"""\
{header}
# {" ".join(name.split())}

Conversations with the emotion of each utterance. {origin}

{markdown_table(counts(splits, classes))}

| file | what |
|---|---|
| `conversations.jsonl` | a conversation in each line: its split, and of each utterance speaker, words, emotion |
| `corpus.json` | name, emotions in the order of their indices, licence, source |
| `text.npz`, `audio.npz`, `visual.npz` | features of each conversation, where there are any; a row of NaN is missing |
| `features.json` | how the features were extracted, where that is known |

cmath_jax reads the folder: `cmath_jax.load_corpus("DIR")`.

## Limits

- A label is what annotators took an utterance for, not what anyone felt.
- Whether those who speak agreed to be recorded, and to what is done with it, this card cannot say.
"""


def _license(stated: str) -> str:
    name = stated.strip().lower()
    return name if name in LICENSES else "other" if name else ""


def _size(utterances: int) -> str:
    return next((name for most, name in SIZES if utterances < most), "n>10M")
