"""Rows that are given one by one, as the records that a producer would have sent."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.base.times import utc_datetime
from headrace.bus.event import Event
from headrace.bus.formats.json_format import Json
from headrace.bus.table import Table
from headrace.bus.written_events import written_events
from headrace.errors import DefinitionError
from headrace.streams.imports.wire_rows import WireRows

if TYPE_CHECKING:
    from datetime import datetime

    from headrace.bus.stream import Stream


@dataclass(frozen=True)
class Record:
    """A row together with what the record around it has: for rows that arrive late, deletes, and bytes of a topic.

    ``value`` is a row (a dict or an event), the bytes of a record in the stream's format, or None for a delete of a
    table's row. ``timestamp`` is the time at which the record was written. Without one it is written at its event time.
    ``key`` has the key fields of a deleted row, or the bytes of a record's key.

    Raises DefinitionError for a time without a zone.

    >>> from datetime import UTC, datetime
    >>> from headrace.testing import Record
    >>> late = Record({"card": "c7", "amount": 20.0}, timestamp=datetime(2026, 1, 1, 12, tzinfo=UTC))
    >>> late.timestamp.hour
    12
    """

    value: Mapping[str, Any] | Event | bytes | None
    timestamp: datetime | None = None
    key: Mapping[str, Any] | bytes | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.timestamp is not None and self.timestamp.tzinfo is None:
            message = f"Record(timestamp={self.timestamp!r}) has no time zone: write datetime(…, tzinfo=UTC)"
            raise DefinitionError(message)


class RecordBytes:
    """Writes the records of one stream: rows as JSON, whatever the stream's format is; bytes stay as they are."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._wire = WireRows(stream.event, stream.columns)
        self._names = sorted({name for each in stream.columns for name in self._wire.names(each)})

    def value(self, row: object, place: int) -> bytes | None:
        """Return the value of a record. Raises DefinitionError, which names the ``place``, for no row of the stream.

        A row that a worker would reject is no error here.
        """
        if row is None or isinstance(row, bytes):
            return row
        if isinstance(row, Mapping):
            self._check_names(row, place)
            try:
                return self._wire.line(row)
            except (TypeError, ValueError, OverflowError) as error:
                raise DefinitionError(f"row {place} of {self._stream.topic!r}: {error}") from error
        if not isinstance(row, self._stream.event):
            wanted = f"a dict, or {self._stream.event.__name__}(…)"
            raise DefinitionError(f"row {place} of {self._stream.topic!r} is {row!r}: write {wanted}")
        written = written_events(self._stream.event)
        return _JSON.write(row if written is None else written.row(row), _ANY_TIME).value

    def key(self, record: Record, place: int) -> bytes | None:
        """Return the key of a record. Raises DefinitionError if a mapping does not have a table's key fields."""
        if record.key is None or isinstance(record.key, bytes):
            return record.key
        if not isinstance(self._stream, Table) or sorted(record.key) != sorted(self._stream.key_fields):
            wanted = list(self._stream.key_fields)
            raise DefinitionError(f"row {place} of {self._stream.topic!r}: its key is {record.key}, wanted {wanted}")
        return self._stream.table_keys.written(record.key[name] for name in self._stream.key_fields)

    def _check_names(self, row: Mapping[str, Any], place: int) -> None:
        for name in row:
            if name not in self._names:
                near = difflib.get_close_matches(name, self._names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {self._names}"
                raise DefinitionError(
                    f"row {place} of {self._stream.topic!r} has the field {name!r}, which "
                    f"{self._stream.event.__name__} does not have; {hint}"
                )


_JSON = Json().writer("", Event)
_ANY_TIME = utc_datetime(0)
