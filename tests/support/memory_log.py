"""An event log in memory for the rows of one model: what is appended is there at the next read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import polars as pl

from headrace.bus.control_topics import DEFAULT_NAMESPACE
from headrace.bus.source_partition import SourcePartition
from headrace.event_log.columns import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.stream import Stream
    from headrace.event_log.readable_log import ReadableLog

TOPIC_ID = bytes([7]) * 16
_TYPES: dict[str, Any] = {
    "int": pl.Int64, "float": pl.Float64, "str": pl.String, "bool": pl.Boolean, "datetime": pl.Datetime("us", "UTC"),
}  # fmt: skip


class MemoryLog:
    """Rows are appended as dicts, with their partition, the time at which they were available, and a verdict."""

    namespace = DEFAULT_NAMESPACE

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = {stream.topic: stream for stream in streams}
        self._rows: dict[str, list[dict[str, Any]]] = {topic: [] for topic in self._streams}

    def append(
        self, topic: str, row: dict[str, Any], at_us: int, *, partition: int = 0, verdict: str = ACCEPTED
    ) -> None:
        """Add a row with the next offset of its partition."""
        rows = self._rows[topic]
        offset = sum(each["__partition"] == partition for each in rows)
        own = {"__partition": partition, "__offset": offset, "__available_at": at_us, "__topic_id": TOPIC_ID}
        rows.append({**row, **own, "__verdict": verdict})

    def frame(self, topic: str, start: int) -> pl.DataFrame:
        """The rows from the ``start``-th on."""
        fields = {f.name: pl.List(_TYPES[f.kind]) if f.many else _TYPES[f.kind] for f in self._streams[topic].fields}
        own: dict[str, Any] = {
            "__partition": pl.Int32,
            "__offset": pl.Int64,
            "__available_at": pl.Datetime("us", "UTC"),
        }
        schema: dict[str, Any] = {**fields, **own, "__topic_id": pl.Binary, "__verdict": pl.String}
        return pl.DataFrame(self._rows[topic][start:], schema=schema, orient="row")

    def reader(self, topic: str, columns: Sequence[str] | None = None) -> MemoryReader:
        """A reader that gives each row once. It gives all columns, also if fewer are asked for."""
        del columns
        return MemoryReader(self, topic)

    @property
    def log(self) -> ReadableLog:
        """This log as what is read by a model."""
        return cast("ReadableLog", self)


class MemoryReader:
    """Gives each row of a topic once. Nothing is undone, so it never begins again."""

    restarts = 0

    def __init__(self, log: MemoryLog, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._read = 0

    def read(self, snapshot: object = None) -> pl.DataFrame:
        """The rows that are new since the last call."""
        del snapshot
        found = self._log.frame(self._topic, self._read)
        self._read += found.height
        return found

    def positions(self) -> dict[SourcePartition, int]:
        """The offset below which every row was read."""
        read = self._log.frame(self._topic, 0).head(self._read).group_by("__partition").len().iter_rows()
        return {SourcePartition(partition, TOPIC_ID): count for partition, count in read}
