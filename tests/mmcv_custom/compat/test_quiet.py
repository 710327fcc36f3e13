"""Messages about packages that this project does not use are not shown; all others are."""

import logging

import mmengine.logging

from mmcv_custom.compat import quiet


def test_only_debug_messages_are_left_out(capsys):
    assert mmengine.logging.print_log is quiet.print_log
    quiet.print_log("seen")
    quiet.print_log("warned", level=logging.WARNING)
    quiet.print_log("Could not import OneDL", level=logging.DEBUG)
    assert capsys.readouterr().out.split() == ["seen", "warned"]


def test_loggers_get_messages_of_every_level(caplog):
    logger = logging.getLogger("test_quiet")
    with caplog.at_level(logging.DEBUG, "test_quiet"):
        quiet.print_log("detail", logger, logging.DEBUG)
    assert caplog.messages == ["detail"]
