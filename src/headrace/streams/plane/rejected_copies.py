"""The copies of rejected rows that go to ``<topic>.dead-letters``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from headrace.bus.producer import RefusedError
from headrace.bus.topics import dead_letters
from headrace.errors import TerminalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import polars as pl

    from headrace.bus.producer import EventProducer
    from headrace.bus.source_partition import SourcePartition

_LETTER = ["__offset", "__reason", "__error", "__key", "__value"]
logger = structlog.get_logger(__name__)


def letter_id(source: SourcePartition, offset: int) -> str:
    """What names a rejected record for good: ``<topic id>-<partition>-<offset>``."""
    return f"{source.text}-{offset}"


class RejectedCopy:
    """One rejected row, with an id of topic id, partition and offset."""

    def __init__(self, topic: str, source: SourcePartition, row: Mapping[str, Any]) -> None:
        self._topic, self._key, self._value = dead_letters(topic), row["__key"], row["__value"]
        headers = {
            "headrace_id": letter_id(source, row["__offset"]),
            "headrace_reason": row["__reason"],
            "headrace_error": row["__error"],
        }
        self._headers = {name: text.encode() for name, text in headers.items()}

    def send(self, producer: EventProducer) -> None:
        """Produce it. Raises BusUnavailableError."""
        try:
            producer.put(self._topic, self._key, self._value, headers=self._headers)
        except RefusedError as error:  # of others before it, which the producer has given up by now
            _say(error)
            self.send(producer)
        except TerminalError as error:  # too large with its headers: the log has the bytes
            logger.warning("dead letter without its value", topic=self._topic, error=str(error))
            producer.put(self._topic, None, None, headers=self._headers)


def flush(producer: EventProducer) -> None:
    """Wait until all letters are acknowledged, or refused for good. Raises BusUnavailableError."""
    try:
        producer.flush()
    except RefusedError as error:
        _say(error)


def _say(error: RefusedError) -> None:
    """A letter is a copy: the rejected row stands in the log with its bytes."""
    topics = sorted({record.topic for record in error.records})
    logger.error("refused messages are given up: the event log has the rows", topics=topics, error=str(error))


def letters(topic: str, source: SourcePartition, rejected: pl.DataFrame) -> Iterator[RejectedCopy]:
    """The letters of rejected rows of the log."""
    return (RejectedCopy(topic, source, row) for row in rejected.select(_LETTER).iter_rows(named=True))
