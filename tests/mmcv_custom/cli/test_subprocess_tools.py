"""A tool that runs another tool waits for its end."""

import os
import signal
import subprocess
import sys
import time

import pytest
from scripts import ROOT

from mmcv_custom.cli import subprocess_tools

PARENT = """
from mmcv_custom.cli.launch import run
from mmcv_custom.cli.subprocess_tools import call
run(lambda: call("child.py"))
"""
CHILD = """
import pathlib, time
pathlib.Path("begun").touch()
try:
    time.sleep(600)
finally:
    time.sleep(1)  # as if it ended its data workers
    pathlib.Path("ended").touch()
"""


def test_an_interrupted_tool_ends_before_the_one_that_runs_it(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "child.py").write_text(CHILD)
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    parent = subprocess.Popen(
        [sys.executable, "parent.py"],
        cwd=tmp_path,
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    while not (tmp_path / "begun").exists():
        assert parent.poll() is None, parent.stderr.read()
        time.sleep(0.05)
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    _, said = parent.communicate(timeout=120)
    assert (tmp_path / "ended").exists()
    assert parent.returncode == 128 + signal.SIGINT and said.decode().endswith("parent.py: interrupted\n")


def test_the_status_of_a_tool_becomes_that_of_the_one_that_runs_it(capfd):
    assert subprocess_tools.run_tool("-c", "raise SystemExit(7)") == 7
    with pytest.raises(SystemExit) as end:
        subprocess_tools.call("-c", "raise SystemExit(7)")
    assert end.value.code == 7 and "$ python -c" in capfd.readouterr().out
