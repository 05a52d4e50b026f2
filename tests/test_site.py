"""The site of mkdocs.yml: it builds without a warning, has all pages, and fetches nothing from elsewhere."""

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs.hooks import LINK, relinked

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(path.relative_to(ROOT / "docs").with_suffix(".html")) for path in (ROOT / "docs").rglob("*.md"))
needs_mkdocs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="MkDocs is not there (requirements-docs.txt)",
)


class Fetched(HTMLParser):
    """What a browser fetches by itself for a page, and the names that links can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.names.add(given.get("id", ""))
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.addresses.append(given["href"])
        elif tag != "a" and "src" in given:
            self.addresses.append(given["src"])


def read(page: Path) -> Fetched:
    found = Fetched()
    found.feed(page.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@needs_mkdocs
def test_every_page_is_built_and_no_program_is(site: Path) -> None:
    built = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    assert {*PAGES, "examples_talk.html"} <= built
    assert [*site.rglob("*.py")] == []


@pytest.mark.slow
@needs_mkdocs
def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        for address in read(page).addresses:
            assert not re.match(r"(\w+:)?//", address), f"{page}: {address}"
            if page.name != "404.html":  # which has absolute paths
                assert (page.parent / address.partition("?")[0]).is_file(), f"{page}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(\w+:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
@needs_mkdocs
def test_the_public_names_are_described_with_their_arguments(site: Path) -> None:
    names = {name for page in (site / "api").glob("*.html") for name in read(page).names}
    assert {
        "cmath_jax.data.load.load_corpus",
        "cmath_jax.data.corpus.Corpus",
        "cmath_jax.data.corpus.Conversation",
        "cmath_jax.config.Config",
        "cmath_jax.training.fit.fit",
        "cmath_jax.prediction.predictor.predict",
        "cmath_jax.prediction.predictor.Predictor",
        "cmath_jax.prediction.answers.Prediction",
        "cmath_jax.models.cmath.CMATH",
        "cmath_jax.models.outputs.Outputs",
    } <= names
    text = (site / "api" / "data.html").read_text(encoding="utf-8")
    for section in ("Parameters:", "Raises:", "Attributes:"):
        assert f">{section}</span>" in text


@pytest.mark.slow
@needs_mkdocs
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_it_has_no_barriers(site: Path, width: int, scheme: str) -> None:
    import browsers  # skips where there is no browser, and not all tests here need one

    with browsers.chromium() as browser:
        for name in ("index.html", "model.html", "results.html", "api/data.html"):
            page, _ = browsers.opened(browser, (site / name).as_uri(), width, scheme)
            assert browsers.barriers(page) == []
            page.close()


@pytest.mark.parametrize(
    ("link", "page", "own", "expected"),
    [
        ("[a](data.md#counts)", "docs/model.md", "model.md", "[a](data.md#counts)"),
        ("[a](../examples/talk/README.md)", "docs/data.md", "data.md", "[a](examples_talk.md)"),
        ("[a](../../docs/data.md)", "examples/talk/README.md", "examples_talk.md", "[a](data.md)"),
        ("[a](../library.md)", "docs/api/index.md", "api/index.md", "[a](../library.md)"),
        ("[a](../CITATION.cff)", "docs/index.md", "index.md", "a"),
        ("[a](../nothing.md)", "docs/index.md", "index.md", "[a](../nothing.md)"),
    ],
)
def test_links_of_the_project_become_links_of_the_site(link: str, page: str, own: str, expected: str) -> None:
    assert LINK.sub(lambda found: relinked(found, page, own), link) == expected


def test_other_links_stay() -> None:
    for text in ("[a](https://example.org/b)", "[a](#counts)", "![a](images/b.png)", "`[a][b]`"):
        assert LINK.search(text) is None
