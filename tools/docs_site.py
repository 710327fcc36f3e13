"""A hook of the documentation site (mkdocs.yml): the README is its first page, and links out of docs/ become text.

With DOCS_SOURCE, the address of the repository's files on the web, links to files outside of docs/ lead there instead.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Return the Markdown of a page as the site shows it."""
    if page.file.src_uri == "README.md":
        markdown = (ROOT / "README.md").read_text().replace("](docs/", "](").replace('src="docs/', 'src="')
        folder = ROOT
    else:
        folder = ROOT / "docs"

    def link(match: re.Match) -> str:
        text, target = match.groups()
        path, _, heading = target.partition("#")
        if "://" in path or not path:
            return match[0]
        inside = (ROOT / "docs" / path).exists() and not path.startswith("..")
        if inside:
            return match[0]
        source = os.environ.get("DOCS_SOURCE")
        if not source:
            return text
        file = os.path.relpath((folder / path).resolve(), ROOT)
        return f"[{text}]({source.rstrip('/')}/{file}{'#' + heading if heading else ''})"

    return LINK.sub(link, markdown)
