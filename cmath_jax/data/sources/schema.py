"""The forms of conversations and of corpus.json, wherever they come from: files, requests, standard input, Python.

pydantic holds decoded JSON against the classes, and describes them for OpenAPI. It is imported only where there is
something to decode: a slip on the command line is answered sooner.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from reprlib import repr as brief
from typing import Annotated, Any, TypeVar

import numpy as np

from cmath_jax.data.corpus import SPLITS
from cmath_jax.data.sources.counts import COUNT_CHECKS
from cmath_jax.errors import InputError, suggestion
from cmath_jax.io.places import placed

FAR = 1e12  # seconds; no recording is longer, and an infinity is no number


class Rules:
    """What pydantic asks of a value beyond its type, in the words of its core schema: `"1"` is never a number."""

    def __init__(self, **rules: Any) -> None:
        self.rules = rules

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {**handler(source), "strict": True, **self.rules}


class Checked:
    """A form whose fields have to fit each other, too."""

    def misfit(self) -> str:
        """Returns what does not fit; "" where all does."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        def check(value: Checked) -> Checked:
            if found := value.misfit():
                raise ValueError(found)
            return value

        function = {"type": "no-info", "function": check}
        return {"type": "function-after", "function": function, "schema": handler(source)}


# Only of a text whose length is asked for does pydantic see that it is none: JSON can spell half of a surrogate pair.
Text = Annotated[str, Rules(min_length=0)]
Name = Annotated[str, Rules(min_length=1)]
Index = Annotated[int, Rules(ge=0, le=2**31 - 1)]
Seconds = Annotated[float, Rules(gt=-FAR, lt=FAR, allow_inf_nan=False)]
STRICT = {"extra": "forbid"}  # of a class: other fields are most likely misspelled


def about(description: str, wanted: str = "not text", **rules: Any) -> dict[str, Any]:
    """Returns what a field is, and the end of the sentence about a value that is something else."""
    return {"description": description, "wanted": wanted, **rules}


@dataclass(frozen=True)
class Utterance(Checked):
    """What one speaker says in one go; None stands for what is not known."""

    speaker: Text | Index = field(
        metadata=about(
            "A name; or an index from 0, if all speakers of the conversation are.", "neither a name nor a number"
        )
    )
    text: Text | None = field(default=None, metadata=about("The words."))
    label: Text | None = field(
        default=None, metadata=about("The emotion; left out where nobody has labelled it. Predictions do not use it.")
    )
    id: Text | None = field(default=None, metadata=about("A name of its own."))
    start: Seconds | None = field(default=None, metadata=about("Seconds in the recording.", "not a number"))
    end: Seconds | None = field(
        default=None, metadata=about("Seconds in the recording; after the start.", "not a number")
    )
    audio: Text | None = field(default=None, metadata=about("The recording: a path or the name of an upload."))
    video: Text | None = field(default=None, metadata=about("The recording: a path."))

    __pydantic_config__ = STRICT

    def misfit(self) -> str:
        if (self.start or 0) < 0 or (self.end is not None and self.end <= (self.start or 0)):
            return f"start {self.start} and end {self.end} are no span of time"
        return ""


@dataclass(frozen=True)
class Transcript(Checked):
    """A conversation without features."""

    id: Name = field(metadata=about("Its name; otherwise its number, from 1."))
    utterances: tuple[Utterance, ...] = field(metadata=about("In time order.", "not a list", min_length=1))
    split: Annotated[str, Rules(type="literal", expected=[*SPLITS])] | None = field(
        default=None, metadata=about("Where it belongs; left out where it belongs to none.")
    )

    __pydantic_config__ = STRICT

    def __len__(self) -> int:
        return len(self.utterances)

    def misfit(self) -> str:
        kinds = {type(utterance.speaker) for utterance in self.utterances}
        return "some speakers are names and some are numbers" if len(kinds) > 1 else ""

    def speaker_indices(self) -> np.ndarray:
        """int32 [n]: names are numbered by their first appearance in the conversation, numbers are indices already."""
        order: dict[str | int, int] = {}
        for utterance in self.utterances:
            order.setdefault(utterance.speaker, len(order))
        numbered = all(isinstance(speaker, int) for speaker in order)
        return np.array([u.speaker if numbered else order[u.speaker] for u in self.utterances], np.int32)


@dataclass(frozen=True)
class Stated:
    """What corpus.json says of a folder; what is empty it does not say."""

    name: Text = field(default="", metadata=about("Of the corpus."))
    # What is in it is checked as that of any corpus.
    classes: tuple[Any, ...] = field(
        default=(),
        metadata=about("The labels, in the order of the model's outputs.", "not a list of names", min_length=1),
    )
    speakers: Annotated[int, Rules(ge=1, le=2**31 - 1)] = field(
        default=0, metadata=about("How many indices there are.", "not a number")
    )
    license: Text = field(default="", metadata=about("Of the data."))
    source: Text = field(default="", metadata=about("Where it is from."))
    check_counts: Annotated[str, Rules(type="literal", expected=[*COUNT_CHECKS])] = field(
        default="error", metadata=about("Whether a data set of a known name may have other counts.")
    )

    __pydantic_config__ = STRICT


# What is wrong, by the kind of pydantic's error; "" is any other. `found` is the value that was given, and its type.
_SENTENCES: Mapping[str, str] = {
    "": "{name} is {found}, {wanted}",
    "dataclass_type": "{found} stands where an object is wanted ({form})",
    "unexpected_keyword_argument": "unknown field {quoted}; {near}",
    "string_unicode": "{name} is not Unicode text: {value} has a lone surrogate",
    "value_error": "{message}",
}
_SENTENCES_OF: Mapping[type, Mapping[str, str]] = {
    Utterance: dict.fromkeys(("greater_than_equal", "less_than_equal"), "{name} {value} is not an index"),
    Transcript: {
        "string_too_short": "the conversation has no id",
        "too_short": "it is empty (0 utterances)",
        "literal_error": f"{{name}} {{value}} is not one of {', '.join(SPLITS)}",
    },
    Stated: {
        "": "{name} is {value}, {wanted}",
        "unexpected_keyword_argument": "unknown field {quoted}; {near_quoted}",
        "literal_error": f'"{{name}}" is {{value}}; it can be {" or ".join(COUNT_CHECKS)}',
        "greater_than_equal": "{name} is {value}: one is the least",
        "less_than_equal": "{name} is {value}: one is the least",
    },
}

Form = TypeVar("Form", Utterance, Transcript, Stated)


def decode(form: type[Form], value: Any, where: str) -> Form:
    """Returns decoded JSON in its form. Raises InputError, which names the place, the first that is wrong in it."""
    from pydantic import ValidationError

    try:
        found: Form = _adapter(form).validate_python(value)
        return found
    except ValidationError as error:
        wrong = _first(error.errors(include_url=False))
        at, i, name = wrong["loc"][:1], *_place(wrong["loc"])
        if form is Transcript and (at in (("split",), ("utterances",)) or wrong["type"] == "value_error"):
            where = f"{where}, conversation {brief(value['id'])}"
        if i is not None:
            where = f"{where}, utterance {i}"
        with placed(where, utterance=i):
            raise InputError(f"{where}: {_sentence(form if i is None else Utterance, name, wrong)}") from error


@cache
def _adapter(form: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(form)


def _place(loc: tuple[int | str, ...]) -> tuple[int | None, str]:
    """Returns the number of the utterance and the name of the field; what follows is which of its types is meant."""
    i = loc[1] if loc[:1] == ("utterances",) and len(loc) > 1 else None
    names = loc if i is None else loc[2:]
    return (None if i is None else int(i)), str(names[0]) if names else ""


def _first(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the error to tell: of the conversation, then by utterance; of an object an unknown field, which may be
    another one misspelled, then by field; of a field that has several types not that the value is of another one.
    """

    def order(wrong: Mapping[str, Any]) -> tuple[float, bool]:
        i, _ = _place(wrong["loc"])
        # Of a list with something wrong in it pydantic says, too, that it is short.
        last = float("inf") if wrong["type"] == "too_short" else -1
        return last if i is None else i, wrong["type"] != "unexpected_keyword_argument"

    place = _place(min(errors, key=order)["loc"])
    return min((e for e in errors if _place(e["loc"]) == place), key=lambda e: str(e["type"]).endswith("_type"))


def _sentence(form: type, name: str, wrong: Mapping[str, Any]) -> str:
    sentences = {**_SENTENCES, **_SENTENCES_OF[form]}
    value = None if wrong["type"] == "missing" else wrong["input"]
    known = {each.name: each.metadata["wanted"] for each in fields(form)}
    return sentences.get(wrong["type"], sentences[""]).format(
        name=name or "the name of a field",
        quoted=brief(name),
        value=brief(value),
        found="missing" if value is None else f"{brief(value)} ({type(value).__name__})",
        wanted=known.get(name),
        form=form.__name__.lower(),
        near=suggestion(name, known),
        near_quoted=suggestion(name, [f'"{each}"' for each in known]),
        message=wrong.get("ctx", {}).get("error"),
    )
