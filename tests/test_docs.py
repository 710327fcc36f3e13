"""README and docs: files that they name exist, and programs define all names that they use."""

import itertools
import re
import subprocess
import sys

import pytest
from doc_commands import PAGES, ROOT

# Files that the reader makes, and one of another project.
WRITTEN = {"configs/deit/ppt_deit-s_r50_half.py", "configs/deit/evit_deit-s_0.6.py", "ops/test.py"}
WRITTEN |= {"tests/parity/test_NAME.py", "token_pruning/methods/NAME.py"}
FILE = re.compile(r"(?<![\w/.-])(?:configs|tools|ops|docs|tests|mmcv_custom|token_pruning)/[\w./{},-]+\.(?:py|sh|md)\b")


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
