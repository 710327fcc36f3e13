"""Commands whose reader leaves, as `head` does, end quietly; other broken pipes are bugs."""

import os
import subprocess
import sys

import pytest

QUIET = "from mmcv_custom.cli.closed_pipe import ending_with_the_reader as quiet\n"
PROGRAMS = {
    "printed": QUIET + "with quiet():\n    for i in range(99999): print(i)",
    "printed at the end": QUIET + "import time\nwith quiet():\n    print('a', flush=True); time.sleep(1); print('b')",
    "logged": (
        QUIET + "import logging, sys\nfrom mmcv_custom.engine.terminal import quieten\nlogger = logging.Logger('run')\n"
        "logger.addHandler(logging.StreamHandler(sys.stdout)); quieten(logger)\n"
        "with quiet():\n    for i in range(99999): logger.info(i)"
    ),
    "of the command": (
        "import sys, time\nfrom mmcv_custom.cli import __main__ as command\n"
        "command.config_names = lambda: [str(i) for i in range(99999)]\nsys.exit(command.main(['configs']))"
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_reader_that_leaves(name):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAMS[name]]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout.readline()
    program.stdout.close()
    said = program.stderr.read()
    program.stderr.close()
    assert (program.wait(), said) == (141, "")


def test_another_pipe_is_a_bug():
    from mmcv_custom.cli.closed_pipe import ending_with_the_reader

    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), ending_with_the_reader():
        os.write(writer, b"a")
    os.close(writer)
