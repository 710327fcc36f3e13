"""README and docs: files that they name exist, and the options of their commands are the tools'."""

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages of results name what was run at their commits.
PAGES = [page for page in PAGES if page.name not in ("results.md", "benchmarks.md")]
PAGES += sorted((ROOT / "configs").rglob("README.md"))
PAGES += [ROOT / folder / "README.md" for folder in ("data", "pretrained", "ops")]
# Files that the reader makes, and one of another project.
WRITTEN = {"configs/deit/ppt_deit-s_r50_half.py", "configs/deit/evit_deit-s_0.6.py", "ops/test.py"}
WRITTEN |= {"tests/parity/test_NAME.py", "token_pruning/methods/NAME.py"}
FILE = re.compile(r"(?<![\w/.-])(?:configs|tools|ops|docs|tests|mmcv_custom|token_pruning)/[\w./{},-]+\.(?:py|sh|md)\b")
SHARED = "".join((ROOT / f"mmcv_custom/{name}.py").read_text() for name in ("cli/launch", "inference/cli"))


def expanded(name):
    """Return the names that braces stand for: a{b,c}d is abd and acd."""
    parts = [part.split(",") for part in re.split(r"[{}]", name)]
    parts = [[",".join(part)] if i % 2 == 0 else part for i, part in enumerate(parts)]
    return ["".join(one) for one in itertools.product(*parts)]


def pages():
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@pages()
def test_files_that_are_named_exist(page):
    text = re.sub(r"\]\([^)]+\)", "]", page.read_text())
    names = {name for found in FILE.findall(text) for name in expanded(found)}
    missing = [name for name in names if "..." not in name and not (ROOT / name).exists()]
    assert sorted(missing) == sorted(set(missing) & WRITTEN)


def commands(text):
    """Return (script, options) of the commands of a page."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        found += block.replace("\\\n", " ").splitlines()
    found += re.findall(r"`((?:python|sh) [^`]+)`", text)
    for line in found:
        words = shlex.split(line, comments=True)
        while words and "=" in words[0]:  # variables
            words = words[1:]
        if len(words) > 1 and words[0] == "python" and not words[1].startswith("-"):
            yield words[1], [word.split("=")[0] for word in words[2:] if word.startswith("--")]


@pages()
def test_options_are_those_of_the_tools(page):
    for script, options in commands(page.read_text()):
        path = ROOT / script
        if path.is_dir():
            path = path / "__main__.py"
        if not path.is_file():  # of another project, as a page may show it
            assert not script.startswith("tools/"), script
            continue
        text = (
            path.read_text() + SHARED + "".join(p.read_text() for p in path.parent.glob("*.py") if path.parent != ROOT)
        )
        assert not [option for option in options if f'"{option}"' not in text], script


@pytest.mark.parametrize("page", [page for page in PAGES if "ops" not in page.parts], ids=lambda page: page.stem)
def test_programs_define_all_names_that_they_use(page, tmp_path):
    """A program, which begins with its imports, runs as it is printed; other blocks are excerpts."""
    pytest.importorskip("ruff")
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    for i, block in enumerate(block for block in blocks if re.match("import |from ", block)):
        (tmp_path / f"program_{i}.py").write_text(block)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,F822,F823", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
