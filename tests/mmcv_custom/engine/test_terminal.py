"""mmcv_custom.engine.terminal: the terminal shows what people read, the log file everything."""

import io
import logging

import pytest

from mmcv_custom.engine.terminal import quieten


@pytest.mark.parametrize("with_file", [True, False])
def test_long_messages_go_to_the_file_only(with_file, tmp_path):
    logger, terminal = logging.Logger("run"), io.StringIO()
    logger.addHandler(logging.StreamHandler(terminal))
    if with_file:
        logger.addHandler(logging.FileHandler(tmp_path / "run.log"))
    assert quieten(logger) == quieten(logger) == (str(tmp_path / "run.log") if with_file else None)
    logger.info("Config:\nmodel = dict()")
    logger.info("\n---\nSystem environment:")
    logger.info("Epoch(train) [1][20/60]  loss: 1.0")
    logger.warning("Name of parameter is a warning")
    shown = terminal.getvalue()
    assert "Epoch(train)" in shown and "is a warning" in shown
    assert ("model = dict()" in shown) == ("System environment" in shown) == (not with_file)
    if with_file:
        text = (tmp_path / "run.log").read_text()
        assert "model = dict()" in text and "System environment" in text and len(logger.handlers[0].filters) == 1
