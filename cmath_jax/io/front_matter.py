"""The header of a Markdown file: facts for programs, in YAML between two lines of dashes."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

# What YAML reads as text without quotes; the words are truth values and nothing in YAML 1.1.
_PLAIN = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[a-z][\w./-]*", re.ASCII | re.IGNORECASE)
_NOT_PRINTABLE = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def front_matter(values: Mapping[str, Any]) -> str:
    """Returns the header with the values that are known: None and what is empty are left out."""
    known = {name: value for name, value in values.items() if value not in (None, "", [], {})}
    return "\n".join(["---", *_lines(known), "---", ""])


def _lines(value: Any) -> Iterator[str]:
    """Yields the lines of an object or of a list; what is inside of it is indented."""
    for name, inner in value.items() if isinstance(value, Mapping) else ((None, each) for each in value):
        head = "-" if name is None else f"{name}:"
        if not isinstance(inner, Mapping | list):
            yield f"{head} {_scalar(inner)}"
        elif not inner:
            yield f"{head} {'{}' if isinstance(inner, Mapping) else '[]'}"
        elif name is None:
            first, *rest = _lines(inner)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        else:
            yield head
            yield from (f"  {line}" for line in _lines(inner))


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return _NOT_PRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
