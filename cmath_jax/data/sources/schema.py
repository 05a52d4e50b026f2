"""The forms of conversations and of corpus.json, wherever they come from: files, requests, standard input, Python.

pydantic holds decoded JSON against the classes, and describes them for OpenAPI. It is imported only where there is
something to decode: a slip on the command line is answered sooner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from reprlib import repr as brief
from typing import Annotated, Any, TypeVar

import numpy as np

from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.sources.counts import COUNT_CHECKS
from cmath_jax.errors import InputError, suggestion
from cmath_jax.io.places import placed


class Rules:
    """Rules for a value beyond its type, in the words of pydantic's core schema: `"1"` is never a number."""

    def __init__(self, **rules: Any) -> None:
        self.rules = {"strict": True} | rules

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return handler(source) | self.rules


# Only of a text whose length is asked for does pydantic see that it is none: JSON can spell half of a surrogate pair.
Text = Annotated[str, Rules(min_length=0)]
Index = Annotated[int, Rules(ge=0, le=2**31 - 1)]
Seconds = Annotated[float, Rules(gt=-1e12, lt=1e12, allow_inf_nan=False)]  # no recording is longer
NO_OTHERS = {"extra": "forbid"}  # a field of another name is most likely misspelled


@dataclass(frozen=True)
class Utterance:
    """An utterance: what one speaker says in one go. What is not known is null, or left out."""

    speaker: Index | Text = field(metadata={"description": "A name; or an index from 0, as all in the conversation."})
    text: Text | None = field(default=None, metadata={"description": "The words."})
    label: Text | None = field(default=None, metadata={"description": "The emotion. To predict, it is not used."})
    id: Text | None = field(default=None, metadata={"description": "A name of its own."})
    start: Seconds | None = field(default=None, metadata={"description": "Seconds in the recording, from 0."})
    end: Seconds | None = field(default=None, metadata={"description": "Seconds in the recording; after the start."})
    audio: Text | None = field(default=None, metadata={"description": "The path of a recording, or its upload's name."})
    video: Text | None = field(default=None, metadata={"description": "The path of a recording."})

    __pydantic_config__ = NO_OTHERS

    def __post_init__(self) -> None:
        if (self.start or 0) < 0 or (self.end is not None and self.end <= (self.start or 0)):
            raise InputError(f"start {self.start} and end {self.end} are no span of time")


@dataclass(frozen=True)
class Transcript:
    """A conversation without features."""

    id: Annotated[str, Rules(min_length=1)] = field(metadata={"description": "Its name; otherwise its number from 1."})
    utterances: tuple[Utterance, ...] = field(metadata={"min_length": 1, "description": "In time order."})
    split: Annotated[str, Rules(type="literal", expected=[*SPLITS])] | None = field(
        default=None, metadata={"description": "To predict, it is not used."}
    )

    __pydantic_config__ = NO_OTHERS

    def __len__(self) -> int:
        return len(self.utterances)

    def speaker_indices(self) -> np.ndarray:
        """Returns int32 [n]: names are numbered by their first appearance, numbers are indices already."""
        order: dict[str | int, int] = {}
        for utterance in self.utterances:
            order.setdefault(utterance.speaker, len(order))
        numbered = all(isinstance(speaker, int) for speaker in order)
        return np.array([u.speaker if numbered else order[u.speaker] for u in self.utterances], np.int32)


@dataclass(frozen=True)
class Stated:
    """The content of a corpus.json: what it says of a folder; what is empty, or 0, it does not say."""

    name: Text = ""
    classes: Annotated[tuple[Any, ...], Rules(strict=False, min_length=1)] = ()  # names, as `check_classes` finds out
    speakers: Annotated[int, Rules(ge=1, le=2**31 - 1)] = 0
    license: Text = ""
    source: Text = ""
    check_counts: Annotated[str, Rules(type="literal", expected=[*COUNT_CHECKS])] = "error"

    __pydantic_config__ = NO_OTHERS


Form = TypeVar("Form", Utterance, Transcript, Stated)

# What is said of an error, by field and kind, else by the kind that pydantic gives it, else by field, else "".
_SENTENCES: Mapping[str, str] = {
    "": "{name} is {found}, not a number",
    "string_type": "{name} is {found}, not text",
    "string_unicode": "{name} is not Unicode text: {value} has a lone surrogate",
    "dataclass_type": "{found} stands where an object is wanted ({form})",
    "unexpected_keyword_argument": "unknown field {quoted}; {near}",
    "invalid_key": "unknown field {quoted}; {near}",
    "value_error": "{message}",
    "id string_too_short": "the conversation has no id",
    "split": f"{{name}} {{value}} is not one of {', '.join(SPLITS)}",
    "utterances": "{name} is {found}, not a list",
    "utterances too_short": "it is empty (0 utterances)",
    "speaker": "{name} is {found}, neither a name nor a number",
    "speaker greater_than_equal": "{name} {value} is not an index",
    "speaker less_than_equal": "{name} {value} is not an index",
    "classes": "{name} is {found}, not a list of names",
    "speakers greater_than_equal": "{name} is {value}: one is the least",
    "speakers less_than_equal": "{name} is {value}: there cannot be as many",
    "check_counts": f'"{{name}}" is {{value}}; it can be {" or ".join(COUNT_CHECKS)}',
}


def decode(form: type[Form], value: Any, where: str) -> Form:
    """Returns decoded JSON in its form. Raises InputError, which names the place of what is wrong."""
    from pydantic import ValidationError

    try:
        found: Form = _adapters()[form].validate_python(value)
        return found
    except ValidationError as error:
        wrong = min(error.errors(include_url=False), key=_order)
        i, name = _place(wrong["loc"])
        if form is Transcript and (i >= 0 or name in ("utterances", "split")):
            where = f"{where}, conversation {brief(value['id'])}"
        if i >= 0:
            where = f"{where}, utterance {i}"
        with placed(where, utterance=i if i >= 0 else None):
            raise InputError(f"{where}: {_sentence(Utterance if i >= 0 else form, name, wrong)}") from error


@cache
def _adapters() -> Mapping[type, Any]:
    from pydantic import TypeAdapter

    return {form: TypeAdapter(form) for form in (Utterance, Transcript, Stated)}


def _place(names: tuple[Any, ...]) -> tuple[int, Any]:
    """Returns the number of the utterance, or -1, and the name of the field, or ""."""
    i, names = (names[1], names[2:]) if names[:1] == ("utterances",) and len(names) > 1 else (-1, names)
    return i, names[0] if names else ""


def _order(wrong: Mapping[str, Any]) -> tuple[bool, int, int]:
    """Puts the error first that is to be told: an unknown field may be a missing one misspelled, the rule of one type
    of a field says more than that it is not of the other, and a list is called short where something in it is wrong.
    """
    kind, (i, _) = wrong["type"], _place(wrong["loc"])
    return kind == "too_short", i, 0 if kind == "unexpected_keyword_argument" else 2 if kind.endswith("_type") else 1


def _sentence(form: type, name: Any, wrong: Mapping[str, Any]) -> str:
    kind, known = wrong["type"], [each.name for each in fields(form)]
    value = None if kind == "missing" else wrong["input"]
    found = "missing" if value is None else f"{brief(value)} ({type(value).__name__})"
    if form is Stated:  # a file that is written by hand: names as they stand there, and no types of Python
        found, known = brief(value), [f'"{each}"' for each in known]
    sentence = next(_SENTENCES[key] for key in (f"{name} {kind}", kind, name, "") if key in _SENTENCES)
    return sentence.format(
        name=name or "the name of a field",
        quoted=brief(name),
        value=brief(value),
        found=found,
        form=form.__name__.lower(),
        near=suggestion(str(name), known),
        message=wrong.get("ctx", {}).get("error"),
    )
