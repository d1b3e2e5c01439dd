"""Since when the rows of an import were known: a column of the files, or a delay after the event time.

This is the record timestamp of an imported row, as Kafka's is of a record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.base.times import duration_us, epoch_us
from headrace.base.zones import time_zone
from headrace.bus.nested_columns import column_of
from headrace.bus.source_partition import NO_CLOCK
from headrace.bus.stream_spec import AVAILABLE_AT
from headrace.errors import DefinitionError, SettingsError
from headrace.streams.imports.column_fields import utc_column
from headrace.streams.imports.wire_rows import near_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.stream import Stream
    from headrace.streams.imports.file_pieces import FilePiece

_AFTER = "event_time+"
_LONGEST_DELAY_US = duration_us("36500d")


@dataclass(frozen=True)
class Availability:
    """The rule by which a row of a file gets its time. ``text`` is the rule as it was given.

    ``field``: a field of the event, with a ``delay_us``; or ``column``: another column of the files. ``zone`` is that
    of times without one.
    """

    text: str
    field: str | None = None
    delay_us: int = 0
    column: str | None = None
    zone: str | None = None

    @staticmethod
    def of(stream: Stream, text: str | None, zone: str | None = None) -> Availability:
        """Return the rule for a stream. A stream that says itself when its events are known needs no ``text``.

        Raises SettingsError if nothing says it, or both do, and DefinitionError for a malformed delay.
        """
        _check_zone(zone)
        own = stream.available_field
        if own is not None:
            if text not in {None, stream.spec.available_at}:
                message = (
                    f"--available-at {text}: the stream {stream.topic!r} has available_at={stream.spec.available_at!r}"
                )
                raise SettingsError(f"{message}, and its imports go by that: leave the option out")
            return Availability(stream.spec.available_at, own, duration_us(stream.bulk_delay or "0s"))
        if text is None:
            message = (
                f"stream {stream.topic!r}: say since when a row of the files was known. --available-at COLUMN names a "
                "column with this time, such as Kafka's timestamp of the record. With --available-at event_time+5m a "
                "row counts as known five minutes after its event time. Choose a delay within which all events came"
            )
            raise SettingsError(message)
        if text.startswith(_AFTER) and stream.event_time == AVAILABLE_AT:
            message = f"--available-at {text}: the table {stream.topic!r} has no event time; name a column of the files"
            raise SettingsError(f"{message} that has the time of each version of a row")
        if text.startswith(_AFTER):
            delay_us = duration_us(text.removeprefix(_AFTER))
            if delay_us > _LONGEST_DELAY_US:
                raise SettingsError(f"--available-at {text}: the delay is longer than 36500d; write one such as 5m")
            return Availability(text, stream.event_time, delay_us)
        times = [each.name for each in stream.fields if each.kind == "datetime" and each.is_single]
        return Availability(text, text) if text in times else Availability(text, column=text, zone=zone)

    def times(self, fields: pl.DataFrame, piece: FilePiece) -> np.ndarray:
        """Return the time of each row in int64 microseconds, NO_CLOCK where there is none."""
        if self.field is not None:
            found = column_of(fields, self.field).to_physical().fill_null(NO_CLOCK).to_numpy()
            return np.where(found == NO_CLOCK, NO_CLOCK, found + self.delay_us)
        column = self._of_lines(piece.lines) if piece.columns is None else self._of_column(piece)
        broken = np.full(len(piece.broken), NO_CLOCK)
        return np.concatenate([column.fill_null(NO_CLOCK).to_numpy(), broken])

    def _of_column(self, piece: FilePiece) -> pl.Series:
        name, columns = str(self.column), pl.DataFrame() if piece.columns is None else piece.columns
        if name in piece.others:
            message = f"--available-at {name}: the column is {piece.others[name].type}; it has to be a time with a zone"
            raise SettingsError(message)
        if name not in columns.columns:
            names = [*columns.columns, *piece.others]
            raise SettingsError(f"--available-at {name}: the files have no such column; they have {names}")
        column = columns.get_column(name)
        if column.dtype == pl.String:
            column = column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
        if not isinstance(column.dtype, pl.Datetime) or (column.dtype.time_zone is None and self.zone is None):
            message = f"--available-at {name}: the column is {column.dtype}; it has to be a time with a zone"
            raise SettingsError(f"{message}, or without one and --zone says which")
        has_zone = column.dtype.time_zone is not None
        column = column.zip_with(near_times(column), pl.Series([None], dtype=column.dtype))
        if not has_zone:
            column = utc_column(column, str(self.zone))
        return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us").to_physical()

    def _of_lines(self, lines: Sequence[bytes]) -> pl.Series:
        kind = msgspec.defstruct("Dated", [("at", datetime | None, msgspec.field(name=str(self.column), default=None))])
        decode = msgspec.json.Decoder(kind).decode
        return pl.Series([_time_in(decode, line) for line in lines], dtype=pl.Int64)


def _check_zone(zone: str | None) -> None:
    try:
        time_zone(zone or "UTC")
    except DefinitionError as error:
        raise SettingsError(f"--zone {zone}: {error}") from error


def _time_in(decode: Any, line: bytes) -> int | None:
    try:
        at: datetime | None = decode(line).at
    except (msgspec.MsgspecError, RecursionError):
        return None
    return None if at is None or at.tzinfo is None else epoch_us(at)
