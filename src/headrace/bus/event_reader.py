"""Reads the events of one stream from records: the part of a record's verdict that looks at its bytes."""

from __future__ import annotations

import math
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from headrace.bus.event import INT64
from headrace.bus.message import problem
from headrace.bus.wire import Epoch
from headrace.bus.written_events import place, written_events
from headrace.errors import CodecError, SchemaRegistryUnavailableError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from headrace.bus.event import Event, Field, Kind
    from headrace.bus.formats.record_format import AwaitedSchema, Headers
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream

_ZONE, _VALUES = attrgetter("tzinfo"), methodcaller("values")


class EventReader:
    """Reads events of one stream. Whether it can read a record depends on the record and on the stream alone.

    A *row* has the fields as they are in the record: it is the event itself, unless a time is written in a form of its
    own. ``schemas`` are needed by formats whose records name a schema: without them SettingsError is raised.
    """

    def __init__(self, stream: Stream, schemas: SchemaStore | None = None) -> None:
        self._written = written_events(stream.event)
        kind = stream.event if self._written is None else self._written.written
        self._reader = stream.format.reader(kind, schemas)
        clocks = {name for pair in stream.time_bounds for name in pair if name is not None}
        of_kinds: _ChecksOfKinds = {**_CHECKS, **_OF_DOUBLES} if stream.format.has_nan else _CHECKS
        self._checks = list(_checks(stream.columns, clocks, of_kinds))

    def awaited(self, payloads: Sequence[bytes | None]) -> AwaitedSchema | None:
        """Return the first record that cannot be judged yet; None if all can be."""
        return self._reader.awaited(payloads)

    def still_awaited(self, awaited: AwaitedSchema) -> str | None:
        """Return why an awaited schema is not there yet; None if it is, or will not come. It never waits."""
        return self._reader.still_awaited(awaited)

    def unregistered(self, payloads: Sequence[bytes | None]) -> AwaitedSchema | None:
        """Return the first record of whose schema the registry says that there is none, or None."""
        return self._reader.unregistered(payloads)

    def may_change(self, payloads: Sequence[bytes | None]) -> bool:
        """Return whether one of these records, which cannot be read, could be if a schema were registered now."""
        return self._reader.may_change(payloads)

    def rows(self, payloads: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> list[Any] | None:
        """Return the rows of all payloads, or None if one of them cannot be read. It is quick."""
        try:
            rows = self._reader.rows(payloads, headers)
        except (MemoryError, TransientError):  # the bytes are not to blame
            raise
        except Exception:  # noqa: BLE001 - any bytes may come: the one that cannot be read is found one by one
            return None
        return rows if all(check.fits(check.values(rows)) for check in self._checks) else None

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
            wrong = next((value for value in check.values([row]) if not check.fits([value])), None)
            if wrong is not None:
                raise CodecError(f"{check.wrong(wrong)} - at `$.{check.place}`")
        return row

    def read(self, payload: bytes | None, headers: Headers = ()) -> Event:
        """Return the event in these bytes. Raises CodecError, with the reason, for all other bytes.

        Raises SchemaRegistryUnavailableError while their schema is not known.
        """
        awaited = self.awaited([payload])
        if awaited is not None:
            raise SchemaRegistryUnavailableError(awaited.why)
        row = self.row(payload, headers)
        return row if self._written is None else self._written.event(row)


class _Check(NamedTuple):
    """A test of values of one field that msgspec accepts, and what is said of a value that fails."""

    place: str
    steps: tuple[_Attribute, ...]
    fits: Callable[[list[Any]], bool]
    wrong: Callable[[Any], str]

    def values(self, rows: Iterable[Any]) -> list[Any]:
        """Return the values of the field that are not null, also those in lists and dicts."""
        for get, held in self.steps:
            present = [value for value in map(get, rows) if value is not None]
            rows = present if held is None else [item for of in present for item in held(of) if item is not None]
        return rows  # type: ignore[return-value]  # each step makes a list


class _Attribute(NamedTuple):
    """The next attribute on the way to the values of a field; ``held`` gives what it holds, if it is a list or dict."""

    get: Callable[[Any], Any]
    held: Callable[[Any], Iterable[Any]] | None = None


def _checks(
    fields: Iterable[Field], clocks: Collection[str], of_kinds: _ChecksOfKinds, above: _Above | None = None
) -> Iterator[_Check]:
    """Yield the checks of fields. ``clocks`` are the fields of which a clock of the stream is made."""
    name, place_above, steps_above = above or _Above()
    for field in fields:
        where, label = f"{place_above}{field.name}", f"{name}{field.name}"
        steps = (*steps_above, *_steps(field))
        if field.kind == "event":
            items = f"{where}[...]." if field.many else f"{where}."
            yield from _checks(field.fields, clocks, of_kinds, _Above(f"{label}.", items, steps))
        if field.vector is not None:
            yield _Check(where, (*steps_above, *_steps(field, whole=True)), field.vector.fits, field.vector.problem)
            continue
        for fits, wrong in _tests(field, of_kinds, is_clock=label in clocks):
            yield _Check(where, steps, fits, wrong)


class _Above(NamedTuple):
    """The way to the event that holds a field: of its name, of its place in JSON, and of its attributes."""

    name: str = ""
    place: str = ""
    steps: tuple[_Attribute, ...] = ()


def _steps(field: Field, *, whole: bool = False) -> Iterator[_Attribute]:
    """Yield the way to the values of a field: those in a list or dict, or the ``whole`` list."""
    *objects, last = place(field)
    yield from (_Attribute(attrgetter(name)) for name in objects)
    yield _Attribute(attrgetter(last), None if whole else _VALUES if field.keyed else iter if field.many else None)


def _tests(
    field: Field, of_kinds: _ChecksOfKinds, *, is_clock: bool
) -> Iterator[tuple[Callable[[list[Any]], bool], Callable[[Any], str]]]:
    form = field.form or field.places
    if form is not None:
        yield form.fits, form.problem
    elif field.kind in of_kinds and field.is_plain:
        fits, said = of_kinds[field.kind]
        yield fits, lambda _: said
    if isinstance(form, Epoch) and is_clock:
        yield (
            form.is_after_1970,
            lambda value: f"{value} {form.unit} lies in 1970, or before: is it in another unit than {form!r}?",
        )


def _zoned(moments: list[datetime]) -> bool:
    return all(map(_ZONE, moments))


def _within_int64(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) in INT64 and max(numbers) in INT64)


def _finite(numbers: list[float]) -> bool:
    return all(map(math.isfinite, numbers))


_ChecksOfKinds: TypeAlias = "Mapping[Kind, tuple[Callable[[list[Any]], bool], str]]"
_CHECKS: _ChecksOfKinds = {
    "int": (_within_int64, "The integer does not fit into 64 bits"),
    "datetime": (_zoned, "The time has no zone: write it with an offset or Z"),
}
"""Values that msgspec accepts and a column cannot hold, by kind: the test of many values, and the error."""
_OF_DOUBLES: _ChecksOfKinds = {"float": (_finite, "The number is NaN or infinite: leave it out, or write null")}
"""The same for formats whose numbers may be NaN, as those of JSON never are. In a tile it would hide all others."""
