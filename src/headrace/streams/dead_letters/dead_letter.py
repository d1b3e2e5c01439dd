"""Dead letters as the event log has them: each rejected row, with the record's bytes.

The log is the truth: it also has rejected rows that were too large to be copied to ``<topic>.dead-letters``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.dataset as ds

from headrace.base.times import epoch_us
from headrace.bus import kafka_clients
from headrace.bus.message import readable_headers
from headrace.bus.source_partition import SourcePartition
from headrace.bus.topics import incarnations, retained_offsets
from headrace.errors import BusUnavailableError, TerminalError, TopicUnknownError
from headrace.event_log.columns import REJECTED
from headrace.streams.plane.rejected_copies import letter_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from headrace.bus.formats.record_format import Headers
    from headrace.event_log.event_log import EventLog

_WHICH = ["__topic_id", "__partition", "__offset", "__record_timestamp", "__reason", "__error"]
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class DeadLetter:
    """A rejected record: its place in Kafka, its timestamp, and why it was rejected."""

    topic: str
    source: SourcePartition
    offset: int
    at: datetime
    reason: str
    error: str

    @property
    def id(self) -> str:
        """``<topic id>-<partition>-<offset>``, also the header ``headrace_id`` of its copy."""
        return letter_id(self.source, self.offset)

    @property
    def place(self) -> str:
        """``<partition>-<offset>``. It names the record if the topic is known and was never created anew."""
        return f"{self.source.partition}-{self.offset}"

    @property
    def at_us(self) -> int:
        """The record timestamp in microseconds."""
        return epoch_us(self.at)


@dataclass(frozen=True)
class RecordContent:
    """The bytes of a record, and its headers if they were asked for; None if they are gone or no text."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def find_letters(log: EventLog, topics: Iterable[str], reason: str | None = None) -> list[DeadLetter]:
    """Return the dead letters of some topics, the newest first. Raises OfflineStoreUnavailableError."""
    keep = _rejected() if reason is None else _rejected() & (ds.field("__reason") == reason)
    found = [
        DeadLetter(topic, SourcePartition(partition, topic_id), offset, at, why, error)
        for topic in topics
        if log.exists(topic)
        for topic_id, partition, offset, at, why, error in _read(log, topic, keep, _WHICH).iter_rows()
    ]
    return sorted(found, key=lambda letter: (letter.at, letter.topic, letter.id), reverse=True)


def letter_named(letters: Sequence[DeadLetter], name: str) -> DeadLetter:
    """Return the one letter whose id is, or ends with, ``name``. Raises TerminalError if there is none, or several."""
    found = [letter for letter in letters if letter.id == name or letter.id.endswith(f"-{name}")]
    if len(found) == 1:
        return found[0]
    if not found:
        raise TerminalError(f"there is no dead letter {name!r}; `headrace dead-letters list` shows those there are")
    several = ", ".join(f"{letter.topic} {letter.id}" for letter in found)
    raise TerminalError(f"{name!r} is the end of several ids: {several}; name one of them in full, or add --stream")


def read_contents(log: EventLog, letters: Sequence[DeadLetter]) -> list[RecordContent]:
    """Return the bytes of letters of one source partition, in their order. Raises OfflineStoreUnavailableError."""
    topic, source = letters[0].topic, letters[0].source
    offsets = [letter.offset for letter in letters]
    keep = _rejected() & (ds.field("__partition") == source.partition) & ds.field("__offset").isin(offsets)
    keep &= (ds.field("__offset") >= min(offsets)) & (
        ds.field("__offset") <= max(offsets)
    )  # the log chooses files by this
    rows = _read(log, topic, keep, ["__topic_id", "__offset", "__key", "__value"])
    rows = rows.filter(pl.col("__topic_id") == source.topic_id).drop("__topic_id")
    found = {offset: RecordContent(key, value) for offset, key, value in rows.iter_rows()}
    return [found[offset] for offset in offsets]


def read_headers(bootstrap_servers: str, letter: DeadLetter) -> list[tuple[str, bytes | None]] | None:
    """Return the record's headers, which only its topic has.

    None if the topic does not have the record any more, or if the name of a header is no text.

    Raises BusUnavailableError.
    """
    from confluent_kafka import TopicPartition  # noqa: PLC0415

    if not _is_held(bootstrap_servers, letter):
        return None
    consumer = kafka_clients.reader(bootstrap_servers, "dead-letters")
    try:
        consumer.assign([TopicPartition(letter.topic, letter.source.partition, letter.offset)])
        for message in consumer.consume(1, _TIMEOUT_S):
            if message.error() is None:
                return readable_headers(message) if message.offset() == letter.offset else None
        raise BusUnavailableError(f"{letter.topic}-{letter.place} cannot be read at {bootstrap_servers}: try again")
    finally:
        consumer.close()


def _is_held(bootstrap_servers: str, letter: DeadLetter) -> bool:
    client = kafka_clients.admin(bootstrap_servers)
    try:
        if incarnations(client, [letter.topic])[letter.topic].topic_id != letter.source.topic_id:
            return False
        found = retained_offsets(client, letter.topic, letter.source.partition)
    except TopicUnknownError:
        return False
    return found.begins <= letter.offset < found.ends


def _rejected() -> Any:
    return ds.field("__verdict") == REJECTED


def _read(log: EventLog, topic: str, keep: Any, columns: list[str]) -> pl.DataFrame:
    """Return some columns of some rows. Files without a rejected row are not opened."""
    with log.storage(topic):
        return pl.DataFrame(log.table(topic).to_pyarrow_dataset().to_table(columns=columns, filter=keep))
