"""Logs what a client of Kafka hears while the brokers are away: few lines, and one when they answer again."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

_REPEAT_S = 60.0
_SURE_S, _SILENT_S = 10.0, 60.0
"""Records that come so long after the last error are new ones. Without records, so long a silence says the same."""
_HOW_LONG = re.compile(r"\s*\(after [^)]*\)")
logger = structlog.get_logger(__name__)


class ClientErrors:
    """The errors of one client, as its ``error_cb``. The same error is logged once a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_s: dict[str, float] = {}
        self._first_s: float | None = None
        self._last_s = 0.0

    def __call__(self, error: KafkaError) -> None:
        """Called by the client with each error."""
        now_s, said = self._clock(), _HOW_LONG.sub("", error.str())
        self._first_s = now_s if self._first_s is None else self._first_s
        self._last_s = now_s
        if now_s - self._logged_s.get(said, -_REPEAT_S) >= _REPEAT_S:
            self._logged_s[said] = now_s
            logger.warning("kafka client", error=said)

    def polled(self, *, has_records: bool) -> None:
        """Called after each poll. It logs once that Kafka answers again."""
        if self._first_s is None:
            return
        silent_s = self._clock() - self._last_s
        if silent_s >= _SILENT_S or (has_records and silent_s >= _SURE_S):
            logger.info("kafka answers again", failed_for_s=round(self._last_s - self._first_s))
            self._first_s = None
            self._logged_s.clear()
