"""Streams: typed Kafka topics of events, with the times of their events."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET

from headrace.base.arguments import expect, expect_names
from headrace.base.times import Duration, bounded_us, duration_us, format_duration
from headrace.bus.event import Event, Field, fields, leaves
from headrace.bus.formats.json_format import Json
from headrace.bus.formats.record_format import RecordFormat
from headrace.bus.stream_spec import FieldSpec, StreamSpec
from headrace.errors import DefinitionError, naming

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_TOPIC = re.compile(r"(?!\.\.?$)[A-Za-z0-9._-]{1,249}")
_JSON = Json()
_LONGEST_WITHIN_US = duration_us("36500d")


@dataclass(frozen=True)
class AfterEventTime:
    """The rule that an event is known this ``delay`` after its event time. :func:`after` makes it."""

    delay: Duration

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec. A delay that was given as text stays as it was written."""
        return f"event_time+{self.delay if isinstance(self.delay, str) else format_duration(duration_us(self.delay))}"


def after(delay: Duration) -> AfterEventTime:
    """Return an ``available_at`` for a stream whose history was loaded in bulk.

    The system then takes each event as known this long after its event time, whenever it was loaded. Raises
    DefinitionError for a text that is not a duration.

    >>> from headrace import after
    >>> after("5m").spec
    'event_time+5m'
    """
    with naming("available_at=after(…)"):
        duration_us(delay)
    return AfterEventTime(delay)


@dataclass(frozen=True)
class Stream:
    """A topic of events of one type.

    ``event_time`` names the field that says when the event happened, such as ``paid_at``, or ``header.at`` of a nested
    event. ``key`` names the fields whose values make the Kafka record key, in order. ``lateness``: a record may come
    this long after its event time. ``tolerance``: the event time may lie this long after the record's own timestamp; a
    record beyond it is rejected. ``available_at`` says when the system could know of the event: ``"record"`` (the
    record's timestamp), the name of a datetime field, or :func:`after` a delay. ``format`` says how the records are
    written, such as :class:`headrace.CloudEvents`.

    ``unique`` names the fields that identify an event, such as ``payment_id``. A record is a duplicate if an earlier
    record of its partition has the same values and was available at most ``within`` before. No feature, label or
    request uses a duplicate. A record with a null in one of these fields is never one.

    Raises DefinitionError if a named field is missing or has another kind, or if a duration is malformed.

    >>> from datetime import datetime
    >>> from headrace import Event, Stream
    >>> class Departure(Event):
    ...     flight_id: int
    ...     delay_minutes: float | None
    ...     departed_at: datetime
    >>> departures = Stream("flights.departed", Departure, event_time="departed_at", key="flight_id", lateness="2h")
    >>> departures.spec.kinds
    {'flight_id': 'int', 'delay_minutes': 'float', 'departed_at': 'datetime'}
    """

    topic: str
    event: type[Event]
    event_time: str
    key: Sequence[str] | str = ()
    lateness: Duration = "1h"
    tolerance: Duration = "5m"
    available_at: str | AfterEventTime = "record"
    format: RecordFormat = _JSON
    unique: Sequence[str] | str = ()
    within: Duration | None = None

    def __post_init__(self) -> None:
        self._check_types()
        self._check_times()
        for name in self.key_fields:
            self._check_key(self.field(name))
        for name, duration in (("lateness", self.lateness), ("tolerance", self.tolerance)):
            with naming(f"stream {self.topic!r}: {name}"):
                bounded_us(duration)
        self._check_unique()

    def _check_types(self) -> None:
        where = f"stream {self.topic!r}"
        topic: object = self.topic
        event: object = self.event
        if not isinstance(topic, str) or not _TOPIC.fullmatch(topic):
            message = f"{where}: a topic is 1 to 249 letters, digits, '.', '_' and '-', such as 'shop.orders'"
            raise DefinitionError(message)
        if not (isinstance(event, type) and issubclass(event, Event)):
            message = f"{where}: event={self.event!r} is not an event type; write a class that derives from Event"
            raise DefinitionError(message)
        expect(where, "event_time", self.event_time, str, write="the name of a datetime field")
        expect(where, "available_at", self.available_at, (str, AfterEventTime), write="'record', or after('5m')")
        expect(where, "format", self.format, RecordFormat, write="a format, such as CloudEvents()")
        expect_names(where, "key", self.key, write="a field's name, or a list of them")
        expect_names(where, "unique", self.unique, write="a field's name, or a list of them")

    def _check_key(self, field: Field) -> None:
        if field.keyed or field.kind in {"bytes", "event"}:
            what = f"a dict of {field.kind}" if field.keyed else field.kind
            message = f"stream {self.topic!r}: key field {field.name!r} is {what}; a key is a text or a number"
            raise DefinitionError(message)

    def _check_unique(self) -> None:
        where = f"stream {self.topic!r}"
        for field in map(self.field, self.unique_fields):
            if field.kind in {"bytes", "event", "float"} or not field.is_single:
                message = (
                    f"{where}: unique field {field.name!r} is {FieldSpec.of(field).expression_kind}; it has to be a "
                    "text, a whole number, a decimal, a bool or a time"
                )
                raise DefinitionError(message)
        if bool(self.unique_fields) != (self.within is not None):
            message = (
                f"{where}: unique={self.unique!r} and within={self.within!r}: write both or neither, such as "
                "unique='payment_id', within='1d'"
            )
            raise DefinitionError(message)
        with naming(f"{where}: within"):
            within_us = _LONGEST_WITHIN_US if self.within is None else duration_us(self.within)
        if not 0 < within_us <= _LONGEST_WITHIN_US:
            message = f"{where}: within={self.within!r}: write a duration above 0s and up to 36500d, such as '1d'"
            raise DefinitionError(message)

    def _check_times(self) -> None:
        for name in (self.event_time, self.available_field or self.event_time):
            self._check_is_time(name)

    def _check_is_time(self, name: str) -> None:
        times = [each.name for each in self.fields if each.kind == "datetime" and not each.many and not each.nullable]
        if name not in times:
            message = (
                f"stream {self.topic!r}: {name!r} is not a required datetime field of {self.event.__name__}; "
                f"it has {times or 'none'}"
            )
            raise DefinitionError(message)

    @cached_property
    def columns(self) -> tuple[Field, ...]:
        """The columns of the event log: one for each field of the event type, in order."""
        return fields(self.event)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The event's fields, in order. Those of a nested event have dots in their names, such as ``card.country``."""
        return leaves(self.columns)

    @cached_property
    def key_fields(self) -> tuple[str, ...]:
        """The fields that make the record key."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @cached_property
    def unique_fields(self) -> tuple[str, ...]:
        """The fields that identify an event; none if the stream does not look for duplicates."""
        return (self.unique,) if isinstance(self.unique, str) else tuple(self.unique)

    @cached_property
    def available_field(self) -> str | None:
        """The field that ``available_at`` is taken from; None if that is the record's timestamp."""
        if isinstance(self.available_at, AfterEventTime):
            return self.event_time
        return None if self.available_at == "record" else self.available_at

    @cached_property
    def bulk_delay(self) -> Duration | None:
        """The delay of ``available_at=after(…)``, else None."""
        return self.available_at.delay if isinstance(self.available_at, AfterEventTime) else None

    @cached_property
    def time_bounds(self) -> list[tuple[str, str | None]]:
        """The pairs (field, bound): the field may not be later than the bound by more than the tolerance.

        The bound is another field, or None for the record timestamp. So an event time is never later than its record's
        own ``available_at`` plus the tolerance. So no tile is further ahead of the partition clock than a view's ring
        has room for.
        """
        if self.available_field is None or self.available_field == self.event_time:
            return [(self.event_time, None)]
        return [(self.event_time, None), (self.available_field, None), (self.event_time, self.available_field)]

    def field(self, name: str) -> Field:
        """Return the field of that name. Raises DefinitionError, which lists the fields that exist."""
        for field in self.fields:
            if field.name == name:
                return field
        message = f"stream {self.topic!r} has no field {name!r}; it has {[field.name for field in self.fields]}"
        raise DefinitionError(message)

    def with_features(
        self,
        service: Any,
        *,
        keys: Mapping[str, str] | None = None,
        topic: str | None = None,
        own_event: Literal["included", "excluded"] = "excluded",
        silent_after: Duration | None = None,
    ) -> Stream:
        """Return a stream of these events, each with the features of ``service`` as of its own time.

        `headrace process` writes it, to the topic ``topic`` (default: ``<topic>.<service>``). ``event`` of the stream
        is the event type with one more field for each feature, null where there is no value.

        ``keys`` has the field of the event for each join key of the service's views; by default they have the same
        names. On-demand features of the service take the values of the request from the event.
        ``own_event="included"`` counts the event itself in its features. ``silent_after="1m"`` is how long a partition
        of a looked-up stream that brings nothing new is waited for, if its records are not stamped by the broker.

        Raises DefinitionError for a key or a value that the event does not have, or has as another kind.

        >>> from datetime import datetime
        >>> from headrace import Entity, Event, FeatureService, FeatureView, Mean, Stream, col
        >>> class Sale(Event):
        ...     store: str
        ...     price: float
        ...     sold_at: datetime
        >>> sales = Stream("sales", Sale, event_time="sold_at", key="store")
        >>> usual = FeatureView("usual", Entity("store"), sales, windows=["7d"], features={"mean": Mean("price")})
        >>> by_mean = {"times_usual": col("price") / col("usual__mean_7d")}
        >>> usual_price = FeatureService("usual_price", [usual], on_demand=by_mean, request={"price": float})
        >>> compared = sales.with_features(usual_price)
        >>> compared.topic, [field.name for field in compared.fields]
        ('sales.usual_price', ['store', 'price', 'sold_at', 'usual__mean_7d', 'times_usual'])
        """
        home = importlib.import_module("headrace.streams.processors.enriched_stream")  # above this room
        options = {"topic": topic, "own_event": own_event, "silent_after": silent_after}
        made: Stream = home.enriched_stream(self, service, keys, **options)
        return made

    @cached_property
    def spec(self) -> StreamSpec:
        """The stream as data: what the worker and the readers of the event log know of it."""
        return StreamSpec(
            topic=self.topic,
            event=self.event.__name__,
            fields=tuple(map(FieldSpec.of, self.fields)),
            event_time=self.event_time,
            key=self.key_fields,
            lateness_us=duration_us(self.lateness),
            tolerance_us=duration_us(self.tolerance),
            available_at=self.available_at.spec if isinstance(self.available_at, AfterEventTime) else self.available_at,
            format=UNSET if self.format.spec is None else self.format.spec,
            unique=self.unique_fields or UNSET,
            within_us=UNSET if self.within is None else duration_us(self.within),
        )
