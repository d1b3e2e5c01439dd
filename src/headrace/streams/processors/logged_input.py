"""The events of a processor's source in the event log: history, also what Kafka does not have any more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.dataset as ds

from headrace.base.times import utc_datetime
from headrace.bus.event_reader import EventReader
from headrace.bus.formats.json_format import Json
from headrace.bus.source_partition import SourcePartition
from headrace.bus.written_events import written_events
from headrace.errors import CodecError
from headrace.event_log.columns import ACCEPTED
from headrace.streams.imports.wire_rows import WireRows
from headrace.streams.processors.input_batch import InputBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.event_log.readable_log import ReadableLog
    from headrace.streams.processors.processor import Processor

_PLACE = ["__partition", "__offset"]
NextOffsets = dict[tuple[str, int], int]
"""The next offset of each topic's partitions."""


@dataclass(frozen=True)
class LoggedRecord:
    """An accepted record of the log, as a consumer would have it. Its value is JSON, written from the row."""

    place: tuple[int, int]
    content: bytes

    def partition(self) -> int:
        """Return the number of its partition."""
        return self.place[0]

    def offset(self) -> int:
        """Return its offset."""
        return self.place[1]

    def key(self) -> None:
        """Return None: the log keeps no keys of accepted records."""

    def value(self) -> bytes:
        """Return its value."""
        return self.content


class LoggedInput:
    """The accepted records of a source of which the log has all columns, from the ``begins`` of its partitions on.

    They are those of one incarnation of the topic, in the order in which they were available: so events that are made
    from them are available in that order, too.
    """

    def __init__(self, processor: Processor, log: ReadableLog, topic_id: bytes, begins: Mapping[int, int]) -> None:
        self._processor, self._stream, self._log = processor, processor.source, log.snapshot()
        self._topic_id, self._begins = topic_id, begins
        self._wire = WireRows(self._stream.event, self._stream.columns)
        self._reader = EventReader(replace(self._stream, format=Json()))

    @cached_property
    def _places(self) -> pl.DataFrame:
        """Partition, offset and ``available_at`` of the records, in order."""
        accepted = ds.field("__verdict") == ACCEPTED
        found = self._log.select(self._stream.topic, accepted, ["__available_at"])
        begins = {"__partition": list(self._begins), "__begins": list(self._begins.values())}
        begins_of = pl.DataFrame(begins, schema={"__partition": pl.Int32, "__begins": pl.Int64})
        found = found.filter(pl.col("__topic_id") == self._topic_id).join(begins_of, on="__partition", how="left")
        found = found.filter(pl.col("__offset") >= pl.col("__begins").fill_null(0))
        return found.select(*_PLACE, "__available_at").sort("__available_at", *_PLACE)

    @property
    def count(self) -> int:
        """The number of the records. Raises OfflineStoreUnavailableError."""
        return self._places.height

    def batches(self, rows: int) -> Iterator[tuple[InputBatch, NextOffsets]]:
        """Yield the records in batches, and the next offset of each partition that a batch has.

        Raises OfflineStoreUnavailableError.
        """
        for places in self._places.iter_slices(rows):
            frame = self._rows(places)
            fields = frame.select(field.name for field in self._stream.columns)
            lines = self._wire.lines(fields, is_text=False)
            records: list[Any] = [
                LoggedRecord(place, line) for place, line in zip(frame.select(_PLACE).iter_rows(), lines, strict=True)
            ]
            known_us: int = places.get_column("__available_at").dt.epoch("us").max()  # type: ignore[assignment]
            ends = {
                (self._stream.topic, partition): offset + 1 for partition, offset in frame.select(_PLACE).iter_rows()
            }
            yield InputBatch(records, self._read(fields, lines), at=utc_datetime(known_us)), ends

    def _rows(self, places: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of these places, in the order of partition and offset."""
        columns = [*_PLACE, *(field.name for field in self._stream.columns)]
        parts = []
        for (partition,), own in places.partition_by("__partition", as_dict=True).items():
            source, offsets = SourcePartition(int(partition), self._topic_id), own.get_column("__offset")
            first, last = offsets.item(0), offsets.item(-1)
            found = self._log.read_from(self._stream.topic, source, first, last + 1, columns)
            parts.append(found.join(own.select("__offset"), on="__offset", how="semi", maintain_order="left"))
        return pl.concat(parts).sort(_PLACE)

    def _read(self, frame: pl.DataFrame, lines: list[bytes]) -> Any:
        if self._processor.frame:
            return lambda begin, end: frame.slice(begin, end - begin)
        return lambda begin, end: self._events(lines[begin:end])

    def _events(self, lines: list[bytes]) -> list[Any]:
        rows = self._reader.rows(lines)
        if rows is None:
            raise CodecError(f"{self._stream.topic!r}: rows of the event log do not fit the event type any more")
        written = written_events(self._stream.event)
        return rows if written is None else list(map(written.event, rows))
