"""Load scripts as modules: tools/ is not a package."""

import importlib.util
import io
import runpy
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]


def load_script(path):
    """Load the script at ``path`` (absolute or relative to the repository) under a module name that hides no other."""
    path = ROOT / path
    spec = importlib.util.spec_from_file_location(f"_script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def run_script(path, *arguments):
    """Run the script at ``path`` with these arguments in this process: a process of its own loads torch for seconds.

    Returns what ``subprocess.run`` with captured text returns.
    """
    command = [str(ROOT / path), *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", command):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):
                print(code, file=sys.stderr)
                code = 1
        except Exception:
            traceback.print_exc()
            code = 1
    return subprocess.CompletedProcess(command, code or 0, out.getvalue(), err.getvalue())
