"""The header of a Markdown file says to a reader of YAML what it was given."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmath_jax.io.front_matter import front_matter

yaml = pytest.importorskip("yaml")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-99, 99)
    | st.floats(-1e3, 1e3).map(lambda x: round(x, 2))
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)


def read(text: str) -> Any:
    assert text.startswith("---\n") and text.endswith("---\n")
    return yaml.safe_load(text.removeprefix("---\n").removesuffix("---\n"))


@given(st.dictionaries(st.sampled_from(["license", "model-index", "tags"]), VALUES, min_size=1))
def test_it_is_read_as_it_was_given(values: dict[str, Any]) -> None:
    known = {name: value for name, value in values.items() if value not in (None, "", [], {})}
    assert (read(front_matter(values)) or {}) == known


@pytest.mark.parametrize(
    "text", ["no", "1.0", "a: b", "# x", "\x85\u2028", "é ü", "😀", "- x", "'", '"', "---", "1e3", " x "]
)
def test_text_stays_text(text: str) -> None:
    assert read(front_matter({"a": text, "b": [text], "c": [{"d": text}]})) == {
        "a": text,
        "b": [text],
        "c": [{"d": text}],
    }


def test_it_is_easy_to_read() -> None:
    text = front_matter({"language": "en", "tags": ["jax"], "model-index": [{"name": "talk", "results": [{"x": 1.5}]}]})
    expected = ["---", "language: en", "tags:", "  - jax", "model-index:", "  - name: talk", "    results:"]
    assert text.splitlines() == [*expected, "      - x: 1.5", "---"]
