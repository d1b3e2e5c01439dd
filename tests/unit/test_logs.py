from __future__ import annotations

import json
import logging

import pytest
import structlog

from headrace.app.terminal.logs import configure_logs

pytestmark = pytest.mark.usefixtures("restored_logs")


def test_a_pipe_gets_json_lines_of_our_loggers_and_of_other_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    structlog.get_logger("headrace.worker").info("folded", rows=3)
    logging.getLogger("another").warning("odd %s", "thing")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["rows"], ours["logger"], ours["level"]) == ("folded", 3, "headrace.worker", "info")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("odd thing", "another", "warning")


def test_logs_obey_no_color_and_levels(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("warning", json=False, colors=False)
    structlog.get_logger("headrace").info("unseen")
    structlog.get_logger("headrace").warning("seen")
    shown = capsys.readouterr().err
    assert "seen" in shown
    assert "unseen" not in shown
    assert "\x1b" not in shown
