"""Reads the events of one stream from records: the part of a record's verdict that looks at its bytes."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.bus.event import INT64
from headrace.bus.message import problem
from headrace.bus.wire import Epoch
from headrace.bus.written_events import written_events
from headrace.errors import CodecError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from headrace.bus.event import Event, Field, Kind
    from headrace.bus.formats.record_format import Headers
    from headrace.bus.stream import Stream

_ZONE = attrgetter("tzinfo")


class EventReader:
    """Reads events of one stream. Whether it can read a record depends on the record and on the stream alone.

    A *row* has the fields as they are in the record: it is the event itself, unless a time is written in a form of its
    own.
    """

    def __init__(self, stream: Stream) -> None:
        self._written = written_events(stream.event)
        kind = stream.event if self._written is None else self._written.written
        self._reader = stream.format.reader(kind)
        clocks = {name for pair in stream.time_bounds for name in pair}
        self._checks = [check for field in stream.fields for check in _checks(field, is_clock=field.name in clocks)]

    def rows(self, payloads: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Any] | None:
        """Return the rows of all payloads, or None if one of them cannot be read. It is quick."""
        try:
            rows = self._reader.rows(payloads, headers)
        except (MemoryError, TransientError):  # the bytes are not to blame
            raise
        except Exception:  # noqa: BLE001 - any bytes may come: the one that cannot be read is found one by one
            return None
        fit = (check.fits(_scalars(map(attrgetter(check.name), rows), check.many)) for check in self._checks)
        return rows if all(fit) else None

    def row(self, payload: bytes | None, headers: Headers = ()) -> Any:
        """Return the row in these bytes. Raises CodecError, with the reason, for all other bytes."""
        if payload is None:
            raise CodecError("the record has no value (a tombstone)")
        try:
            row: Any = self._reader.row(payload, headers)
        except (MemoryError, TransientError, CodecError):
            raise
        except Exception as error:
            raise CodecError(problem(error)) from error
        for check in self._checks:
            values = _scalars([getattr(row, check.name)], check.many)
            if not check.fits(values):
                raise CodecError(f"{check.wrong(values[0])} - at `$.{check.name}`")
        return row

    def read(self, payload: bytes | None, headers: Headers = ()) -> Event:
        """Return the event in these bytes. Raises CodecError, with the reason, for all other bytes."""
        row = self.row(payload, headers)
        return row if self._written is None else self._written.event(row)


class _Check(NamedTuple):
    """A test of values of one field that msgspec accepts, and what is said of a value that fails."""

    name: str
    many: bool
    fits: Callable[[list[Any]], bool]
    wrong: Callable[[Any], str]


def _checks(field: Field, *, is_clock: bool) -> Iterator[_Check]:
    """Yield the checks of a field. ``is_clock``: a clock of the stream is made of it."""
    form = field.form
    if form is not None:
        yield _Check(field.name, many=False, fits=form.fits, wrong=form.problem)
    elif field.kind in _CHECKS and field.is_plain:
        fits, said = _CHECKS[field.kind]
        yield _Check(field.name, field.many, fits, lambda _: said)
    if isinstance(form, Epoch) and is_clock:
        yield _Check(
            field.name,
            many=False,
            fits=form.is_after_1970,
            wrong=lambda value: f"{value} {form.unit} lies in 1970, or before: is it in another unit than {form!r}?",
        )


def _scalars(values: Iterable[Any], many: bool) -> list[Any]:  # noqa: FBT001 - a field's own property
    """Return the values that are not null; the items of the values if these are lists."""
    present = [value for value in values if value is not None]
    return [item for value in present for item in value if item is not None] if many else present


def _zoned(moments: list[datetime]) -> bool:
    return all(map(_ZONE, moments))


def _within_int64(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) in INT64 and max(numbers) in INT64)


_CHECKS: dict[Kind, tuple[Callable[[list[Any]], bool], str]] = {
    "int": (_within_int64, "The integer does not fit into 64 bits"),
    "datetime": (_zoned, "The time has no zone: write it with an offset or Z"),
}
"""Values that msgspec accepts and a column cannot hold, by kind: the test of many values, and the error."""
