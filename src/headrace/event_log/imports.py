"""The imports of history from files: what each has brought into the event log, and which of them were undone.

The table ``_headrace_imports`` has a row for each import that was begun, and a row for each that was undone. An import
is *complete* if the table of its stream has the Delta transaction of its source partition: that transaction and all of
its rows are one commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import polars as pl
from deltalake import write_deltalake

from headrace.base.times import utc_datetime
from headrace.bus.source_partition import SourcePartition
from headrace.event_log.columns import IMPORTS_TABLE
from headrace.event_log.durable_commit import make_durable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deltalake import DeltaTable

    from headrace.event_log.event_log import EventLog

TABLE = IMPORTS_TABLE
ImportState = Literal["begun", "complete", "undone"]
_SCHEMA = {"id": pl.String(), "topic": pl.String(), "what": pl.String(), "at_us": pl.Int64(), "document": pl.String()}


class ImportedFile(msgspec.Struct, frozen=True):
    """A file of an import: its name, and the SHA-256 of its bytes in hex digits."""

    name: str
    digest: str


class ImportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An import as it is kept in the event log. Times are microseconds since the epoch.

    ``source`` is the source partition of its rows. ``rejected`` counts rejected rows by reason. ``left_out`` are the
    rows from ``until_us`` on, which the topic has. ``available_at`` says since when a row was known.
    """

    source: str
    topic: str
    files: list[ImportedFile]
    available_at: str
    rows: int
    rejected: dict[str, int] = {}
    left_out: int = 0
    first_us: int | None = None
    last_us: int | None = None
    until_us: int | None = None
    by: str = ""
    at_us: int = 0
    state: ImportState = "begun"

    @property
    def id(self) -> str:
        """The name of the import in commands: the part of its source's id that differs between imports."""
        return import_id(self.partition)

    @property
    def partition(self) -> SourcePartition:
        """The source partition of its rows."""
        return SourcePartition.from_text(self.source)


def import_id(source: SourcePartition) -> str:
    """Return the id of an import, as commands show it: 12 hex digits."""
    return source.topic_id.hex()[14:26]


class Imports:
    """The imports of an event log. Every method may raise OfflineStoreUnavailableError."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._table: DeltaTable | None = None
        self._completed: set[str] = set()  # a complete import stays complete: its transaction is in the table for ever

    def all(self) -> list[ImportRecord]:
        """Return every import, the oldest first."""
        rows, found = self._rows(), dict[str, ImportRecord]()
        for row in rows.sort("at_us", maintain_order=True).iter_rows(named=True):
            if row["what"] == "begun":
                found[row["id"]] = msgspec.json.decode(row["document"], type=ImportRecord)
        undone = set(rows.filter(pl.col("what") == "undone")["id"])
        known = self._complete(found.values())
        return [
            msgspec.structs.replace(each, state="undone" if id_ in undone else "complete" if id_ in known else "begun")
            for id_, each in found.items()
        ]

    def of(self, topic: str) -> list[ImportRecord]:
        """Return the complete imports of a topic, the oldest first. An import that was undone is none of them."""
        return [each for each in self.all() if each.topic == topic and each.state == "complete"]

    def undone(self, topic: str) -> list[ImportRecord]:
        """Return the imports of a topic that were undone."""
        return [each for each in self.all() if each.topic == topic and each.state == "undone"]

    def begin(self, record: ImportRecord) -> None:
        """Keep what is known of an import, before its rows are committed."""
        self._append(record.source, record.topic, "begun", record.at_us, msgspec.json.encode(record).decode())

    def undo(self, record: ImportRecord, at_us: int) -> None:
        """Note that an import does not count any more. Its rows are still there."""
        self._append(record.source, record.topic, "undone", at_us, "{}")

    def _complete(self, records: Iterable[ImportRecord]) -> set[str]:
        asked = [each for each in records if each.source not in self._completed]
        tables = {topic: self._log.table(topic) for topic in {each.topic for each in asked} if self._log.exists(topic)}
        self._completed |= {
            each.source
            for each in asked
            if each.topic in tables and tables[each.topic].transaction_version(each.source) is not None
        }
        return self._completed

    def _rows(self) -> pl.DataFrame:
        if self._table is None and not self._log.exists(TABLE):
            return pl.DataFrame(schema=_SCHEMA)
        self._table = self._log.newest(TABLE, self._table)
        with self._log.storage(TABLE):
            return pl.DataFrame(self._table.to_pyarrow_table())

    def _append(self, id_: str, topic: str, what: str, at_us: int, document: str) -> None:
        row = pl.DataFrame({"id": id_, "topic": topic, "what": what, "at_us": at_us, "document": document}, _SCHEMA)
        with self._log.storage(TABLE):
            write_deltalake(
                self._log.path(TABLE),
                row.to_arrow(compat_level=pl.CompatLevel.oldest()),
                mode="append",
                storage_options=self._log.storage_options,
            )
            self._table = self._log.newest(TABLE, self._table)
            make_durable(self._table)


def days(record: ImportRecord) -> str:
    """Return the span of an import's rows in words, by when they were available.

    >>> days(ImportRecord(source="", topic="sales", files=[], available_at="at", rows=0))
    'no rows'
    """
    if record.first_us is None or record.last_us is None:
        return "no rows"
    first, last = (utc_datetime(us).strftime("%Y-%m-%d %H:%M") for us in (record.first_us, record.last_us))
    return f"{first} to {last}"
