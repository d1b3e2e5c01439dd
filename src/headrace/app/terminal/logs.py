"""Logging: readable lines on a terminal, one JSON object per line elsewhere; always on standard error.

A traceback has no local variables: they hold keys, passwords and rows.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import structlog

from headrace.base.redaction import without_secrets

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

_LONGEST = 4_000
"""The characters after which a text in a line is cut: an error of a train function may hold all of its rows."""
_FRAMES = 20


def plain_logs() -> None:
    """Write log lines to standard error, so that a command's output is its result alone. Called before each command."""
    structlog.reset_defaults()
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


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
        [_json_tracebacks(), _hide_secrets, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.processors.format_exc_info, _hide_secrets, _console(colored=colored)]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


def _json_tracebacks() -> Processor:
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=_FRAMES)
    return structlog.processors.ExceptionRenderer(frames)


def _console(*, colored: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=colored, exception_formatter=structlog.dev.plain_traceback)


def _hide_secrets(_: Any, __: str, line: EventDict) -> EventDict:
    found: EventDict = without_secrets(line, _LONGEST)
    return found
