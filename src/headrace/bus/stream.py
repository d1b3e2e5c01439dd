"""A stream: a typed Kafka topic of raw events, with its clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headrace.base.times import Duration, duration_us
from headrace.bus.event import Event, Field, fields
from headrace.errors import DefinitionError, naming

if TYPE_CHECKING:
    from collections.abc import Sequence

_EVENT_TIME_PLUS = re.compile(r"event_time\+(\d+(?:ms|s|m|h|d))")


@dataclass(frozen=True)
class Stream:
    """A topic of events of one type.

    ``event_time`` names the field that says when it happened. ``lateness`` bounds how long after it a record is still
    expected, ``tolerance`` how far it may lie after the record's own timestamp before the record is rejected.
    ``available_at`` says when the system could know of it: ``"record"`` (the record timestamp), the name of a datetime
    field, or ``"event_time+5m"`` for history that was loaded in bulk.
    ``key`` names the fields whose values make the Kafka record key, in order.
    """

    topic: str
    event: type[Event]
    event_time: str
    key: Sequence[str] | str = ()
    lateness: Duration = "1h"
    tolerance: Duration = "5m"
    available_at: str = "record"

    def __post_init__(self) -> None:
        times = [
            field.name for field in self.fields if field.kind == "datetime" and not field.many and not field.nullable
        ]
        wanted = (
            [self.event_time]
            if self.available_at == "record" or self.bulk_delay_us is not None
            else [self.event_time, self.available_at]
        )
        for name in wanted:
            if name not in times:
                message = (
                    f"stream {self.topic!r}: {name!r} is no datetime field of {self.event.__name__} that is always "
                    f"there; it has {times or 'none'}"
                )
                raise DefinitionError(message)
        for name in self.key_fields:
            self.field(name)
        for name, duration in (("lateness", self.lateness), ("tolerance", self.tolerance)):
            with naming(f"stream {self.topic!r}: {name}"):
                duration_us(duration)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The event's fields, in order."""
        return fields(self.event)

    @cached_property
    def key_fields(self) -> tuple[str, ...]:
        """The fields that make the record key."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @cached_property
    def bulk_delay_us(self) -> int | None:
        """The delay of ``available_at="event_time+…"``, else None."""
        match = _EVENT_TIME_PLUS.fullmatch(self.available_at)
        return duration_us(match[1]) if match else None

    @property
    def lateness_us(self) -> int:
        """Allowed lateness in microseconds."""
        return duration_us(self.lateness)

    @property
    def tolerance_us(self) -> int:
        """Tolerance for event times after their record timestamp, in microseconds."""
        return duration_us(self.tolerance)

    def field(self, name: str) -> Field:
        """The field of that name. Raises DefinitionError, naming the fields there are."""
        for field in self.fields:
            if field.name == name:
                return field
        message = f"stream {self.topic!r} has no field {name!r}; it has {[field.name for field in self.fields]}"
        raise DefinitionError(message)

    def spec(self) -> dict[str, Any]:
        """What the worker and the log need to know of this stream, as plain JSON."""
        return {
            "topic": self.topic,
            "event": self.event.__name__,
            "fields": [{"name": f.name, "kind": f.kind, "many": f.many, "nullable": f.nullable} for f in self.fields],
            "event_time": self.event_time,
            "key": list(self.key_fields),
            "lateness_us": self.lateness_us,
            "tolerance_us": self.tolerance_us,
            "available_at": self.available_at,
        }
