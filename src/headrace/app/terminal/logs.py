"""Logging: readable lines on a terminal, one JSON object per line elsewhere; always on standard error."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor


def configure_logs(level: str = "info", *, json: bool | None = None, colors: bool | None = None) -> None:
    """Write the log lines of headrace, and of every library that uses `logging`, in one format.

    If `json` is None, lines are JSON unless standard error is a terminal. If `colors` is None, lines are coloured if
    standard error is a terminal and NO_COLOR is not set.
    """
    is_terminal = sys.stderr.isatty()
    as_json = not is_terminal if json is None else json
    colored = (is_terminal and not os.environ.get("NO_COLOR")) if colors is None else colors
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(as_json=as_json, colored=colored))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _formatter(*, as_json: bool, colored: bool) -> structlog.stdlib.ProcessorFormatter:
    rendering: list[Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=colored)]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )
