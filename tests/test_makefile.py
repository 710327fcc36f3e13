"""``make`` with a Python of one's own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("target", ["lint", "test"])
def test_a_python_without_the_tools_is_told_what_it_lacks(tmp_path, target):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    done = subprocess.run(["make", target, f"PY={bare}"], cwd=ROOT, capture_output=True, text=True)
    first = done.stderr.splitlines()[0]
    assert done.returncode and first == (
        f'make: {bare} lacks ruff mypy pytest: run make without PY or install the dev extra (pip install -e ".[dev]").'
    )
