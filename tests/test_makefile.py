"""``make`` with a Python of one's own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("target", "tools", "extra"),
    [
        ("lint", "ruff mypy pytest", "dev"),
        ("test", "ruff mypy pytest", "dev"),
        ("docs", "mkdocs material mkdocstrings", "docs"),
    ],
)
def test_a_python_without_the_tools_is_told_what_it_lacks(tmp_path, target, tools, extra):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    done = subprocess.run(["make", target, f"PY={bare}"], cwd=ROOT, capture_output=True, text=True)
    first = done.stderr.splitlines()[0]
    assert done.returncode and first == (
        f'make: {bare} lacks {tools}: run make without PY or install the {extra} extra (pip install -e ".[{extra}]").'
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_lint_does_not_judge_what_a_user_keeps_in_the_checkout():
    done = subprocess.run(["make", "-n", "lint", "PY=python"], cwd=ROOT, capture_output=True, text=True)
    (line,) = (line for line in done.stdout.splitlines() if "ruff check" in line)
    places = line.split("ruff check ")[1].split(" &&")[0].split()
    assert all((ROOT / place).exists() for place in places) and not {".", "work_dirs", "data"} & {*places}
    assert {"ops", "configs", "tools", "tests", "setup.py", "mmseg_custom"} <= {*places}
