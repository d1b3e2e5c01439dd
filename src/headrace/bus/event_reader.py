"""Reads the events of one stream from the bytes of records: the part of a record's verdict that looks at its bytes."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.message import problem
from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from headrace.bus.event import Event, Kind
    from headrace.bus.stream import Stream

_ZONE = attrgetter("tzinfo")
_INT64 = range(-(2**63), 2**63)


class EventReader:
    """Reads events of one stream. Whether it can read bytes depends on these bytes and on the stream alone."""

    def __init__(self, stream: Stream) -> None:
        self._decode = msgspec.json.Decoder(stream.event).decode
        self._checks = [
            (field.name, _CHECKS[field.kind], field.many) for field in stream.fields if field.kind in _CHECKS
        ]

    def read_all(self, payloads: Sequence[bytes | None]) -> list[Event] | None:
        """Return the events of all payloads, or None if one of them cannot be read. It is quick."""
        try:
            events: list[Event] = list(map(self._decode, payloads))  # type: ignore[arg-type]  # None raises TypeError
        except MemoryError:  # the bytes are not to blame
            raise
        except Exception:  # noqa: BLE001 - any bytes may come: the one that cannot be read is found one by one
            return None
        fit = (fits(_scalars(map(attrgetter(name), events), many)) for name, (fits, _), many in self._checks)
        return events if all(fit) else None

    def read(self, payload: bytes | None) -> Event:
        """Return the event in these bytes. Raises CodecError, with the reason, for all other bytes."""
        if payload is None:
            raise CodecError("the record has no value (a tombstone)")
        try:
            event: Event = self._decode(payload)
        except MemoryError:
            raise
        except Exception as error:
            raise CodecError(problem(error)) from error
        for name, (fits, wrong), many in self._checks:
            if not fits(_scalars([getattr(event, name)], many)):
                raise CodecError(f"{wrong} - at `$.{name}`")
        return event


def _scalars(values: Iterable[Any], many: bool) -> list[Any]:  # noqa: FBT001 - a field's own property
    """Return the values that are not null; the items of the values if these are lists."""
    present = [value for value in values if value is not None]
    return [item for value in present for item in value if item is not None] if many else present


def _zoned(moments: list[datetime]) -> bool:
    return all(map(_ZONE, moments))


def _within_int64(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) in _INT64 and max(numbers) in _INT64)


_CHECKS: dict[Kind, tuple[Callable[[list[Any]], bool], str]] = {
    "int": (_within_int64, "The integer does not fit into 64 bits"),
    "datetime": (_zoned, "The time has no zone: write it with an offset or Z"),
}
"""Values that msgspec accepts and a column cannot hold, by kind: the test of many values, and the error."""
