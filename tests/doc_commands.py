"""The commands that pages, docstrings of tools and the Makefile print."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pages of results name what was run at their commits.
AT_THEIR_COMMITS = ("results.md", "benchmarks.md")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.name not in AT_THEIR_COMMITS]
PAGES += sorted((ROOT / "configs").rglob("README.md"))
PAGES += [ROOT / folder / "README.md" for folder in ("data", "pretrained", "ops")]
TOOLS = sorted([*ROOT.glob("*.py"), *(ROOT / "tools").rglob("*.py")])
PROGRAMS = ("python", "sh", "make", "token-pruning", "pip", "curl", "docker")
# A backslash before a bar is Markdown's, in tables.
INLINE = re.compile(r"`((?:[A-Z_]+=\S+ +)*(?:" + "|".join(PROGRAMS) + r") [^`]+)`")
START = re.compile(r"(?:[A-Z_]+=\S+ +)*(?:" + "|".join(PROGRAMS) + r")\b")


@dataclass(frozen=True)
class Command:
    """One printed command: where it stands (file:line), and its words without variables before it and comments."""

    place: str
    words: tuple[str, ...]

    def __str__(self):
        return f"{self.place}: {shlex.join(self.words)}"


def command(place, text):
    """Return the command of one line of shell, or None for an empty one."""
    words = shlex.split(text.replace(r"\|", "|"), comments=True)
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return Command(place, tuple(words)) if words else None


def joined_lines(text, first):
    """Yield (number, line) of a text that begins at line ``first``; a backslash joins a line to the next."""
    start, kept = first, ""
    for number, line in enumerate(text.splitlines(), first):
        if not kept:
            start = number
        kept = f"{kept} {line.strip()}" if kept else line
        if kept.endswith("\\"):
            kept = kept[:-1].rstrip()
            continue
        yield start, kept
        kept = ""


def page_commands(page):
    """Return the commands of a Markdown page: those of its shell blocks, of indented blocks and within sentences."""
    text, place, found = page.read_text(), page.relative_to(ROOT), []
    for block in re.finditer(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if block[1] == "sh":
            first = text[: block.start(2)].count("\n") + 1
            found += [command(f"{place}:{number}", line) for number, line in joined_lines(block[2], first)]
    # Blocks become empty lines, so that the lines below keep their numbers.
    text = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    found += indented(text, place, 1)
    for match in INLINE.finditer(text):
        found.append(command(f"{place}:{text[: match.start()].count(chr(10)) + 1}", match[1]))
    return [one for one in found if one]


def docstring_commands(file):
    """Return the commands that the docstring of a tool shows on indented lines of their own."""
    docstring = re.match(r'(?:#!.*\n)?"""(.*?)"""', file.read_text(), re.DOTALL)
    return indented(docstring[1].replace("\\\\", "\\"), file.relative_to(ROOT), 1) if docstring else []


def indented(text, place, first):
    """Return the commands on lines that four spaces indent."""
    lines = [(number, line) for number, line in joined_lines(text, first) if line.startswith("    ")]
    return [command(f"{place}:{number}", line) for number, line in lines if START.match(line.strip())]


def all_commands():
    """Return every printed command."""
    found = [one for page in PAGES for one in page_commands(page)]
    return found + [one for tool in TOOLS for one in docstring_commands(tool)]


if __name__ == "__main__":
    for one in all_commands():
        print(one)
