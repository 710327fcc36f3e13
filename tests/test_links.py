"""Relative links of all Markdown files lead to files, and to headings, that exist."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=[\"']([^\"']+)[\"']")


def broken_links(file):
    """Return the links of a Markdown file whose target does not exist, code blocks left out."""
    text, found = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL), []
    for markdown, html in LINK.findall(text):
        path, _, heading = (markdown or html).partition("#")
        target = file.parent / path if path else file
        external = re.match(r"[a-z]+:", path)
        missing = not target.exists() or (heading and target.suffix == ".md" and heading not in anchors(target))
        found += [markdown or html] if missing and not external else []
    return found


def anchors(file):
    """Return the names that GitHub gives to the headings of a file."""
    headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_links_of_all_documents():
    try:
        listed = subprocess.run(
            ["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    broken = {name: broken_links(ROOT / name) for name in listed.split() if (ROOT / name).exists()}
    assert {name: links for name, links in broken.items() if links} == {}


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("[a](other.md) [b](other.md#the-part) [c](#here) <https://x.org>\n# Here", []),
        ("[a](none.md)", ["none.md"]),
        ("[a](other.md#no-part)", ["other.md#no-part"]),
        ("<img src='none.png' alt=''> [a](https://x.org/none.md)", ["none.png"]),
        ("```\n[a](none.md)\n```", []),
    ],
)
def test_a_broken_link_is_found(tmp_path, text, links):
    (tmp_path / "other.md").write_text("# The part\n")
    (tmp_path / "a.md").write_text(text)
    assert broken_links(tmp_path / "a.md") == links
