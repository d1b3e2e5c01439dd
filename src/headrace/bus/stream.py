"""A stream: a typed Kafka topic of raw events, with its clock."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headrace.base.times import Duration, duration_us, format_duration
from headrace.bus.event import Event, Field, fields
from headrace.errors import DefinitionError, naming

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class AfterEventTime:
    """Events are available this ``delay`` after their event time: for history that was loaded in bulk."""

    delay: Duration

    @property
    def delay_us(self) -> int:
        """The delay in microseconds."""
        return duration_us(self.delay)

    def spec(self) -> str:
        """The text of a stream's spec, such as ``event_time+5m``."""
        return f"event_time+{self.delay if isinstance(self.delay, str) else format_duration(self.delay_us)}"


def after(delay: Duration) -> AfterEventTime:
    """Say with ``Stream(available_at=after("5m"))`` that each event was available 5 minutes after its event time.

    Use it for history that was loaded in bulk, whose record timestamps say nothing of that. Raises DefinitionError for
    a text that is not a duration.

    >>> after("5m").spec()
    'event_time+5m'
    """
    with naming("available_at=after(…)"):
        duration_us(delay)
    return AfterEventTime(delay)


@dataclass(frozen=True)
class Stream:
    """A topic of events of one type.

    ``event_time`` names the field that says when it happened. ``lateness`` bounds how long after it a record is still
    expected, ``tolerance`` how far it may lie after the record's own timestamp before the record is rejected.
    ``available_at`` says when the system could know of it: ``"record"`` (the record timestamp), the name of a datetime
    field, or ``after("5m")`` for history that was loaded in bulk.
    ``key`` names the fields whose values make the Kafka record key, in order.
    """

    topic: str
    event: type[Event]
    event_time: str
    key: Sequence[str] | str = ()
    lateness: Duration = "1h"
    tolerance: Duration = "5m"
    available_at: str | AfterEventTime = "record"

    def __post_init__(self) -> None:
        times = [
            field.name for field in self.fields if field.kind == "datetime" and not field.many and not field.nullable
        ]
        for name in dict.fromkeys([self.event_time, self.available_field or self.event_time]):
            if name not in times:
                message = (
                    f"stream {self.topic!r}: {name!r} is not a required datetime field of {self.event.__name__}; "
                    f"it has {times or 'none'}"
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
    def available_field(self) -> str | None:
        """The field that ``available_at`` is computed from; None for ``"record"``, which uses the record timestamp."""
        if isinstance(self.available_at, AfterEventTime):
            return self.event_time
        return None if self.available_at == "record" else self.available_at

    @cached_property
    def bulk_delay_us(self) -> int | None:
        """The delay of ``available_at=after(…)`` in microseconds, else None."""
        return self.available_at.delay_us if isinstance(self.available_at, AfterEventTime) else None

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
            "available_at": self.available_at.spec()
            if isinstance(self.available_at, AfterEventTime)
            else self.available_at,
        }
