"""Tables hold what they were given, in text, HTML and Markdown."""

from html.parser import HTMLParser

import pytest

from cmath_jax.io.tables import html_table, markdown_table, text_table

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'single' | * _ ` [a](b)"


class Cells(HTMLParser):
    """Reads the cells of a table, and notes every element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.elements: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data


def test_columns_of_text_are_straight() -> None:
    assert text_table([["", "train"], ["joy", "5"], ["sadness", "12"]]) == [
        "         train",
        "joy          5",
        "sadness     12",
    ]


@pytest.mark.parametrize("head", [True, False])
def test_html_holds_every_cell_and_nothing_that_acts(head: bool) -> None:
    rows = [["name", "number"], [HOSTILE, "1"], ["b", "2"]]
    found = Cells(html_table(rows, caption=HOSTILE, head=head))
    assert found.rows == rows
    assert found.elements <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert ("thead" in found.elements) == head


def test_html_has_no_colours_of_its_own() -> None:
    """So it is read on a light page and on a dark one."""
    assert not {"color", "background", "class", "<style"} & {*html_table([["a"], ["b"]]).replace("=", " ").split()}


def test_markdown_is_read_as_text() -> None:
    markdown = pytest.importorskip("markdown_it")
    rows = [["", "train"], [HOSTILE, "1"], ["two\nlines", ""]]
    found = Cells(markdown.MarkdownIt().enable("table").render(markdown_table(rows)))
    assert found.rows == [["", "train"], [HOSTILE, "1"], ["two lines", ""]]
