"""Load and run scripts: tools/ is not a package.

A new Python loads torch and the toolboxes for seven seconds of a core, most of what a short run of a tool takes. So
tools run here in forks of a server process that has loaded them: each has a process of its own all the same, with its
own environment, working folder, exit status and death.
"""

import importlib.util
import io
import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

import torch

from mmcv_custom.cli import subprocess_tools

ROOT = Path(__file__).resolve().parents[1]
# In this order: mmcv_custom.compat comes before the toolboxes.
LOADED = ["mmcv_custom", "mmcv_custom.engine.runner", "mmdet.apis", "mmseg.apis", "mmpretrain.apis"]


def load_script(path):
    """Load the script at ``path`` (absolute or relative to the repository) under a module name that hides no other."""
    path = ROOT / path
    spec = importlib.util.spec_from_file_location(f"_script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    with patch.object(sys, "path", [str(path.parent), *sys.path]):  # it may import its neighbours
        spec.loader.exec_module(module)
    return module


def run_script(path, *arguments):
    """Run the script at ``path`` with these arguments in this very process, for scripts that leave no trace in it.

    Returns what ``subprocess.run`` with captured text returns.
    """
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = _run([str(ROOT / path), *map(str, arguments)])
    return subprocess.CompletedProcess(path, code, out.getvalue(), err.getvalue())


class Tool:
    """A running tool: a fork of the server, with its output in two files."""

    def __init__(self, path, *arguments, cwd=None, env=None):
        """Start the script at ``path`` (absolute or relative to the repository) with these arguments.

        Args:
            cwd: working folder; None for the current one.
            env: environment variables to set; those of value None are unset.
        """
        self.command = [str(ROOT / path), *map(str, arguments)]
        self.folder = tempfile.TemporaryDirectory(prefix="tool-")  # goes with this object
        self.out, self.err = (Path(self.folder.name) / name for name in ("out", "err"))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LOADED)
        environment = {name: str(v) for name, v in {**os.environ, **(env or {})}.items() if v is not None}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
        files = [str(self.out), str(self.err)]
        self.process = context.Process(target=_serve, args=(self.command, str(cwd or os.getcwd()), environment, files))
        self.process.start()

    def wait(self, timeout=600):
        """Wait for its end and return what ``subprocess.run`` with captured text returns."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.kill()
            raise AssertionError(f"{shlex.join(self.command)} did not end in {timeout} s:\n{self.said()[-3000:]}")
        return subprocess.CompletedProcess(
            self.command, self.process.exitcode, self.out.read_text(), self.err.read_text()
        )

    def kill(self):
        """End it and its own children by SIGKILL."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()

    def said(self):
        """Return what it has printed so far: the output, then the errors."""
        return "".join(file.read_text() for file in (self.out, self.err) if file.exists())


def run_tool(path, *arguments, cwd=None, env=None, code=None, timeout=600):
    """Run a tool to its end, see ``Tool``, and return what ``subprocess.run`` with captured text returns.

    Args:
        code: the exit status that it must end with; None for any.
    """
    done = Tool(path, *arguments, cwd=cwd, env=env).wait(timeout)
    assert code in (None, done.returncode), done.stdout[-3000:] + done.stderr[-3000:]
    return done


def _serve(command, cwd, environment, files):
    """Become the process of one tool; runs in a fork of the server."""
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # its own children start as those of any program
    torch.set_num_threads(1)  # forks of a process with a pool of threads hang
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [str(Path(command[0]).parent), *environment["PYTHONPATH"].split(os.pathsep)]
    with forks_for_tools():
        sys.exit(_run(command))


def forks_for_tools():
    """Let tools that run other tools do so in forks of their own process; a context manager."""

    apart = subprocess_tools.run_tool

    def run(*command, **streams):
        if streams:
            return apart(*command, **streams)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            sys.path[0] = str(Path(command[0]).parent)
            code = _run([*map(str, command)])
            sys.stdout.flush()
            os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return patch.object(subprocess_tools, "run_tool", run)


def _run(command):
    """Run a script as the main program and return its exit status."""
    with patch.object(sys, "argv", command):
        try:
            runpy.run_path(command[0], run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
                return 1
            return end.code or 0
        except Exception:
            traceback.print_exc()
            return 1
    return 0
