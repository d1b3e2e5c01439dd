"""A project's own events of the past, from files or from its event log, as a history to replay."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING

import polars as pl

from headrace.app.in_memory.given_rows import judged_rows
from headrace.app.preview.given_files import rows_of_files
from headrace.bus.formats.json_format import Json
from headrace.bus.nested_columns import column_of
from headrace.bus.table import Table
from headrace.errors import DefinitionError
from headrace.event_log.columns import ACCEPTED
from headrace.streams.imports.wire_rows import WireRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.app.demo.history import HistoryRecord
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.streams.imports.file_pieces import FilePiece
    from headrace.trainers.definitions import Model

FROM_LOG = "log"
_HOUR_US = 3_600_000_000
_BY_AVAILABILITY = ["__available_at", "__partition", "__offset"]


@dataclass(frozen=True)
class StreamHistory:
    """The events of one stream in the order of their times, in milliseconds; ``left_out`` had no such event."""

    times_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes]
    left_out: int = 0


class GivenHistory:
    """A :class:`~headrace.app.demo.history.History` of events that are given, by topic. It holds them in memory."""

    unlabelled: Mapping[str, str] = {}
    """No request has a known reason for having no label."""

    def __init__(self, streams: Mapping[str, StreamHistory]) -> None:
        """Raises DefinitionError if there is no event."""
        self._streams = {topic: own for topic, own in streams.items() if own.times_ms}
        if not self._streams:
            raise DefinitionError("there are no events to replay: all given files are empty, or all rows are rejected")

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of events by topic."""
        return {topic: len(own.times_ms) for topic, own in self._streams.items()}

    @property
    def from_us(self) -> int:
        """The first whole hour, microseconds UTC."""
        return min(own.times_ms[0] for own in self._streams.values()) * 1_000 // _HOUR_US * _HOUR_US

    @property
    def to_us(self) -> int:
        """The whole hour after the last event."""
        return (max(own.times_ms[-1] for own in self._streams.values()) * 1_000 // _HOUR_US + 1) * _HOUR_US

    def records(self) -> Iterator[HistoryRecord]:
        """All events in order; those of one time in the order of the streams."""
        return merge(*(_records(topic, own) for topic, own in self._streams.items()), key=itemgetter(0))


def _records(topic: str, own: StreamHistory) -> Iterator[HistoryRecord]:
    for at_ms, key, value in zip(own.times_ms, own.keys, own.values, strict=True):
        yield at_ms, topic, key or b"", value


def check_streams(model: Model, streams: Sequence[Stream], topics: Sequence[str]) -> None:
    """Raise DefinitionError if the model's requests or labels are not given, or a stream cannot be replayed."""
    needed = {model.requests.topic: "its requests", model.label.stream.topic: "its labels"}
    for topic, what in needed.items():
        if topic not in topics:
            message = f"model {model.name!r} needs {what}: give --from {topic}=FILE; given are {sorted(topics)}"
            raise DefinitionError(message)
    for stream in streams:
        if stream.topic in topics and (isinstance(stream, Table) or not isinstance(stream.format, Json)):
            what = "is a table" if isinstance(stream, Table) else f"has the format {stream.format!r}"
            raise DefinitionError(f"{stream.topic!r} {what}: a replay writes the JSON records of streams alone")


def history_of_files(
    streams: Sequence[Stream], names: Sequence[str], rules: Mapping[str, str], zone: str | None
) -> Mapping[str, StreamHistory]:
    """Return the events of files. ``names`` are ``TOPIC=FILE``; ``rules`` say by topic since when a row was known.

    Rows that a worker would not count are left out. Raises as :func:`rows_of_files` and :func:`judged_rows`.
    """
    found = rows_of_files(streams, names)
    return {
        stream.topic: _of_piece(stream, found[stream.topic], rules.get(stream.topic), zone)
        for stream in streams
        if stream.topic in found
    }


def _of_piece(stream: Stream, piece: FilePiece, rule: str | None, zone: str | None) -> StreamHistory:
    judged = judged_rows(stream, piece, available_at=rule, zone=zone)
    is_good = (judged.frame.get_column("__verdict") == ACCEPTED).to_numpy()
    good, places = judged.frame.filter(pl.Series(is_good)), judged.places[is_good].tolist()
    wire = WireRows(stream.event, stream.columns, zone)
    lines = piece.lines if piece.columns is None else wire.lines(piece.columns[places], is_text=piece.is_text)
    values = [piece.lines[place] for place in places] if piece.columns is None else list(lines)
    times = good.get_column("__record_timestamp").dt.epoch("ms").to_list()
    return StreamHistory(times, _keys(stream, good), values, judged.frame.height - good.height)


def history_of_log(log: EventLog, streams: Sequence[Stream]) -> Mapping[str, StreamHistory]:
    """Return the accepted events of an event log, at the times when they were available."""
    found = {}
    for stream in streams:
        if log.exists(stream.topic):
            rows = log.read(stream.topic).filter(pl.col("__verdict") == ACCEPTED).sort(_BY_AVAILABILITY)
            values = WireRows(stream.event, stream.columns).lines(rows, is_text=False)
            times = rows.get_column("__available_at").dt.epoch("ms").to_list()
            found[stream.topic] = StreamHistory(times, _keys(stream, rows), values)
    return found


def _keys(stream: Stream, rows: pl.DataFrame) -> list[bytes | None]:
    """Return the record key of each row, as a producer writes it."""
    if not stream.key_fields:
        return [None] * rows.height
    columns = [column_of(rows, name).to_list() for name in stream.key_fields]
    return ["|".join(map(str, parts)).encode() for parts in zip(*columns, strict=True)]
