"""The same training gives the same numbers with accumulated gradients."""

import pytest
from same_numbers import CLOSE, Project, accumulation, relative
from scripts import Tool

from mmcv_custom.errors import ConfigError


def launch(commands, environments, folder):
    tools = [Tool(*command, cwd=folder, env=env) for command, env in zip(commands, environments, strict=True)]
    for done in [tool.wait() for tool in tools]:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_accumulated_halves_give_the_losses_of_whole_batches(tmp_path):
    for found in accumulation(Project(tmp_path, launch)):
        assert found["difference"] <= found["tolerance"] == CLOSE, found


def test_differences_are_relative_and_by_step():
    a, b = [dict(step=1, loss=2.0)], [dict(step=1, loss=2.1)]
    assert relative(a, b) == pytest.approx(0.05)
    with pytest.raises(ConfigError, match="1 and 0 steps"):
        relative(a, [])
