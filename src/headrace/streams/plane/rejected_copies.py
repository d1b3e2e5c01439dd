"""The copies of rejected rows that go to ``<topic>.dead-letters``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from headrace.bus.source_partition import RecordPlace
from headrace.bus.topics import dead_letter_topic
from headrace.errors import RefusedError, TerminalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl

    from headrace.bus.producer import EventProducer
    from headrace.bus.source_partition import SourcePartition

_COPIED = ["__offset", "__reason", "__error", "__key", "__value"]
logger = structlog.get_logger(__name__)


def letter_id(source: SourcePartition, offset: int) -> str:
    """Return the permanent id of a rejected record: ``<topic id>-<partition>-<offset>``."""
    return RecordPlace(source, offset).text


@dataclass(frozen=True)
class RejectedCopy:
    """The copy of one rejected row. Its header ``headrace_id`` is the record's :func:`letter_id`."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


def copies_of(topic: str, source: SourcePartition, rejected: pl.DataFrame) -> Iterator[RejectedCopy]:
    """Return the copies of rejected rows of the log."""
    rows = rejected.select(_COPIED).iter_rows(named=True)
    return (
        RejectedCopy(
            dead_letter_topic(topic), row["__key"], row["__value"], _headers(letter_id(source, row["__offset"]), row)
        )
        for row in rows
    )


def _headers(of_letter: str, row: Mapping[str, Any]) -> dict[str, bytes]:
    texts = {"headrace_id": of_letter, "headrace_reason": row["__reason"], "headrace_error": row["__error"]}
    return {name: text.encode() for name, text in texts.items()}


class RejectedCopies:
    """Sends copies of rejected rows through one producer."""

    def __init__(self, producer: EventProducer) -> None:
        self._producer = producer

    def send(self, copy: RejectedCopy) -> None:
        """Produce one copy. Raises BusUnavailableError."""
        try:
            self._producer.put(copy.topic, copy.key, copy.value, headers=copy.headers)
        except RefusedError as error:  # these are earlier messages; the producer has given them up by now
            _log_refused(error)
            self.send(copy)
        except TerminalError as error:  # too large with its headers: the log has the bytes
            logger.warning("dead letter without its value", topic=copy.topic, error=str(error))
            self._producer.put(copy.topic, None, None, headers=copy.headers)

    def flush(self) -> None:
        """Wait until all copies are acknowledged, or refused for good. Raises BusUnavailableError."""
        try:
            self._producer.flush()
        except RefusedError as error:
            _log_refused(error)


def _log_refused(error: RefusedError) -> None:
    """Log that refused messages are given up. Copies may be missing: the event log has the rows with their bytes."""
    topics = sorted({record.topic for record in error.records})
    logger.error("refused messages are given up: the event log has the rows", topics=topics, error=str(error))
