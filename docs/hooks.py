"""What the site does with the pages of docs/: it adds those that lie elsewhere, mends links, lets keys reach tables."""

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# Page of the project -> page of the site. Other files of the project are named on the site, without a link.
ELSEWHERE = {"examples/talk/README.md": "examples_talk.md"}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie elsewhere."""
    file = type(next(iter(files)))
    for source, page in ELSEWHERE.items():
        files.append(file.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Returns a page with its links as the site needs them; on GitHub they lead through the folders of the project."""
    own = page.file.src_uri
    source = next((path for path, name in ELSEWHERE.items() if name == own), f"docs/{own}")
    return LINK.sub(lambda link: relinked(link, source, own), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Lets the keyboard reach tables: what is wider than the window is scrolled by it."""
    return html.replace("<table>", '<table tabindex="0">')


def relinked(link: "re.Match[str]", source: str, own: str, elsewhere: Mapping[str, str] = ELSEWHERE) -> str:
    """Returns a link of the page at `source` in the project as one of the page `own` of the site.

    What is in the project but not on the site keeps its words alone; what is not there at all stays, and MkDocs
    fails over it.
    """
    text, target, anchor = link[1], link[2], link[3] or ""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    inside = elsewhere.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
    if inside is None:
        return text if (ROOT / path).exists() else link[0]
    return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(own) or '.')}{anchor})"
