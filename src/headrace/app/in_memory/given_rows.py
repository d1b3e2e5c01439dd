"""Rows that are given, as a worker would have judged them: each gets its time, its verdict and its offset.

The rows of a stream are the records of one partition, in the order of their timestamps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.app.in_memory.record import Record, RecordBytes
from headrace.base.times import epoch_us
from headrace.bus.formats.json_format import Json
from headrace.bus.source_partition import NO_CLOCK, TOPIC_ID_BYTES, SourcePartition
from headrace.bus.stream import AfterEventTime
from headrace.bus.stream_spec import AVAILABLE_AT
from headrace.bus.table import Table
from headrace.errors import DefinitionError
from headrace.event_log.columns import REJECTED
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.file_pieces import FilePiece
from headrace.streams.imports.import_judge import ImportJudge, NoKeys, Reordered, filled
from headrace.streams.imports.wire_rows import WireRows
from headrace.streams.plane.record_judge import PartitionRecords, PartitionRun, RecordJudge
from headrace.streams.plane.table_judge import judge_of

if TYPE_CHECKING:
    from headrace.bus.stream import Stream

GivenRows = Any
"""A list of dicts, events and records, or a table of pandas, Polars or Arrow."""
_LATEST_US = 253_402_214_400_000_000
"""A day before the last time of a datetime."""
_SHOWN = 200


@dataclass(frozen=True)
class RowsInMemory:
    """Rows as the event log has them. ``places``: the number that each row had among those that were given."""

    stream: Stream
    source: SourcePartition
    frame: pl.DataFrame
    places: np.ndarray

    def check(self) -> None:
        """Raise DefinitionError, which names the first rejected row and its field, if a row is rejected."""
        rejected = self.rejected()
        if rejected:
            first = rejected[0]
            more = f" {len(rejected) - 1} more rows are rejected." if len(rejected) > 1 else ""
            raise DefinitionError(
                f"row {first.row} of {first.topic!r} is rejected ({first.reason}): {first.error}. It was {first.value}."
                f"{more} If the test is about rejected rows, give fold(…, rejected='keep')"
            )

    def rejected(self) -> list[LeftOutRow]:
        """Return the rejected rows, in the order in which they were given."""
        found = self.frame.with_columns(pl.Series("__place", self.places)).filter(pl.col("__verdict") == REJECTED)
        return [
            LeftOutRow(row["__place"], self.stream.topic, row["__reason"], row["__error"] or "", _shown(row["__value"]))
            for row in found.sort("__place").iter_rows(named=True)
        ]


@dataclass(frozen=True)
class LeftOutRow:
    """A row that a worker rejects: its number among the rows of its topic, from 0, the reason and the error."""

    row: int
    topic: str
    reason: str
    error: str
    value: str


def _shown(value: bytes | None) -> str:
    text = "" if value is None else value.decode(errors="replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def judged_rows(
    stream: Stream,
    given: GivenRows,
    number: int = 0,
    *,
    available_at: str | AfterEventTime | None = None,
    zone: str | None = None,
) -> RowsInMemory:
    """Return given rows of a stream as the log's rows. ``number`` tells the stream from others.

    A row is written when it is available: at its event time, unless the stream says otherwise, ``available_at`` says
    otherwise (``event_time+5m``, or the name of a column of times), or the row is a :class:`Record` with a timestamp.
    Raises DefinitionError for what is no row of the stream, and SettingsError for columns that do not fit.
    """
    source = SourcePartition(0, number.to_bytes(TOPIC_ID_BYTES, "big"))
    rule = _rule(stream, available_at, zone)
    if isinstance(given, FilePiece):
        return _Judging(stream, source, rule, zone).of_piece(given)
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return _Judging(stream, source, rule, zone).of_records(list(map(_record, given)))
    frame = table(given, f"the rows of {stream.topic!r}")
    return _Judging(stream, source, rule, zone).of_piece(FilePiece.of_frame(frame))


def _record(row: Any) -> Record:
    return row if isinstance(row, Record) else Record(row)


def _rule(stream: Stream, available_at: str | AfterEventTime | None, zone: str | None) -> Availability | None:
    """Return the rule by which a row gets its time; None for a table whose rows have no time of their own."""
    text = available_at.spec if isinstance(available_at, AfterEventTime) else available_at
    if text is None and stream.available_field is None:
        if stream.event_time == AVAILABLE_AT:
            return None
        text = "event_time+0s"
    return Availability.of(stream, text, zone)


def table(given: Any, what: str) -> pl.DataFrame:
    """Return a table of pandas, Polars or Arrow as a Polars one. Raises DefinitionError for anything else."""
    library = type(given).__module__.partition(".")[0]
    if isinstance(given, pl.DataFrame):
        return given
    if isinstance(given, pl.LazyFrame):
        collected: pl.DataFrame = given.collect()
        return collected
    if library in {"pandas", "pyarrow"}:
        converted: Any = pl.from_pandas(given) if library == "pandas" else pl.from_arrow(given)
        if isinstance(converted, pl.DataFrame):
            return converted
    message = f"{what} are a {type(given).__name__}: give a list of dicts or events, or a pandas, Polars or Arrow table"
    raise DefinitionError(message)


class _Judging:
    """Judges rows of one stream."""

    def __init__(self, stream: Stream, source: SourcePartition, rule: Availability | None, zone: str | None) -> None:
        self._stream, self._source, self._rule, self._zone = stream, source, rule, zone
        self._plain: Stream = replace(stream, format=Json())

    def of_piece(self, piece: FilePiece) -> RowsInMemory:
        """Return the rows of a table, or of lines of JSON."""
        if piece.columns is not None:
            self._check_zones(piece.columns)
        if isinstance(self._stream, Table):
            columns = piece.columns
            wire = WireRows(self._stream.event, self._stream.columns, self._zone)
            others = piece.other_values()
            lines = piece.lines if columns is None else wire.lines(columns, others, is_text=piece.is_text)
            return self._as_records([Record(line) for line in lines], self._plain, piece)
        imports = self._imports()
        if piece.columns is not None:
            imports.check(piece.names, f"the table of rows of {self._stream.topic!r}")
        return self._decoded(imports, piece, np.full(piece.height, NO_CLOCK))

    def of_records(self, records: Sequence[Record]) -> RowsInMemory:
        """Return the rows of records that are given one by one."""
        written = RecordBytes(self._stream)
        has_bytes = [isinstance(each.value, bytes) for each in records]
        if any(has_bytes) and not isinstance(self._stream.format, Json):
            if not all(own or each.value is None for own, each in zip(has_bytes, records, strict=True)):
                message = (
                    f"the rows of {self._stream.topic!r} are partly bytes: give all as bytes in its format, or none"
                )
                raise DefinitionError(message)
            return self._as_records(records, self._stream)
        values = [written.value(each.value, place) for place, each in enumerate(records)]
        keys = [written.key(each, place) for place, each in enumerate(records)]
        if isinstance(self._stream, Table) or None in values:
            plain = [Record(value, each.timestamp, key) for value, each, key in zip(values, records, keys, strict=True)]
            return self._as_records(plain, self._plain)
        piece = FilePiece(0, lines=[value for value in values if value is not None])
        return self._decoded(self._imports(), piece, _written(records))

    def _imports(self) -> ImportJudge:
        assert self._rule is not None  # noqa: S101 - only a table has none
        return ImportJudge(self._stream, self._rule, self._zone)

    def _decoded(self, imports: ImportJudge, piece: FilePiece, written: np.ndarray) -> RowsInMemory:
        """Return the rows of a piece, by the quick way that imports take."""
        values, fields, errors = imports.decoded(piece)
        times, order = self._times(fields, piece, written)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        errors = {int(back[row]): problem for row, problem in errors.items()}
        records = PartitionRecords(np.arange(len(order)), times[order], NoKeys(len(order)), Reordered(values, order))
        run = PartitionRun(self._source, len(order), NO_CLOCK, imports.new_ids())
        frame = RecordJudge(self._plain).judge_fields([run], records, fields[order], errors)
        return RowsInMemory(self._stream, self._source, frame, order)

    def _as_records(self, given: Sequence[Record], stream: Stream, piece: FilePiece | None = None) -> RowsInMemory:
        """Return the rows of records whose values are bytes. They are judged twice: first to find their times."""
        judge, count = judge_of(stream), len(given)
        first = self._judge(judge, given, np.full(count, _LATEST_US), np.arange(count))
        times, order = self._times(first, piece or FilePiece(0, lines=[b""] * count), _written(given))
        return RowsInMemory(self._stream, self._source, self._judge(judge, given, times[order], order), order)

    def _judge(self, judge: RecordJudge, given: Sequence[Record], times: np.ndarray, order: np.ndarray) -> pl.DataFrame:
        rows = [given[place] for place in order.tolist()]
        keys = [each.key if isinstance(each.key, bytes) else None for each in rows]
        values = [each.value if isinstance(each.value, bytes) else None for each in rows]
        headers = [[*each.headers.items()] for each in rows]
        records = PartitionRecords(np.arange(len(rows)), times, keys, values, headers)
        seen = None if isinstance(self._stream, Table) else self._imports().new_ids()
        return judge.rows(self._source.topic_id, 0, records, NO_CLOCK, seen)

    def _times(self, fields: pl.DataFrame, piece: FilePiece, written: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the time of each row, and the order of the rows by it."""
        none = written == NO_CLOCK
        if self._rule is None and none.any():
            raise DefinitionError(
                f"row {int(np.argmax(none))} of {self._stream.topic!r} has no time, as the table names no event_time. "
                "Give Record(row, timestamp=…), or for a table of rows available_at='the name of a column of times'"
            )
        own = written if self._rule is None else np.where(none, self._rule.times(fields, piece), written)
        times = filled(own)
        return times, np.argsort(times, kind="stable")

    def _check_zones(self, columns: pl.DataFrame) -> None:
        for name, dtype in columns.schema.items():
            if isinstance(dtype, pl.Datetime) and dtype.time_zone is None and self._zone is None:
                raise DefinitionError(
                    f"the column {name!r} of the rows of {self._stream.topic!r} has times without a zone: give the "
                    "zone, such as UTC"
                )


def _written(records: Sequence[Record]) -> np.ndarray:
    """Return the timestamp of each record in milliseconds, as Kafka has it, times 1000; NO_CLOCK for one without."""
    return np.array(
        [NO_CLOCK if each.timestamp is None else epoch_us(each.timestamp) // 1_000 * 1_000 for each in records],
        np.int64,
    )
