"""Enriched streams: the events of a stream, each with the features of a service as of its own time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, get_args

import msgspec

from headrace.base.arguments import expect, expect_values
from headrace.base.times import bounded_us
from headrace.bus.stream import Stream
from headrace.bus.stream_spec import FieldSpec
from headrace.bus.table import Table
from headrace.bus.vector import Vector, dim_of
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.feature_spec import OwnEventRule
from headrace.features.definitions.service import FeatureService
from headrace.streams.processors.processor import Processor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.base.times import Duration
    from headrace.bus.event import Event
    from headrace.features.definitions.service_spec import RequestField

_TYPES: dict[str, Any] = {
    "int": int, "float": float, "bool": bool, "str": str, "date": date, "datetime": datetime,
}  # fmt: skip


@dataclass(frozen=True)
class Enrichment:
    """What an enriched stream is made from. ``keys`` has the field of the event for each join key of the views."""

    origin: Stream
    service: FeatureService
    keys: Mapping[str, str]
    own_event: OwnEventRule = "excluded"
    silent_after: Duration | None = None

    @cached_property
    def requests(self) -> Sequence[RequestField]:
        """The values of the event that the service's on-demand features read."""
        return self.service.request_fields

    @cached_property
    def silent_after_us(self) -> int | None:
        """How long a partition that brings nothing new is waited for; None: until it brings something."""
        return None if self.silent_after is None else bounded_us(self.silent_after)


@dataclass(frozen=True)
class EnrichedStream(Stream):
    """A stream whose events are those of another stream with looked-up features. ``with_features`` makes it."""

    enrichment: Enrichment = field(kw_only=True, compare=False)

    @cached_property
    def processor(self) -> Processor:
        """The processor of `headrace process` that writes this stream."""
        return Processor(re.sub(r"\W", "_", self.topic), self.enrichment.origin, (self,), _no_function)

    @property
    def feature_columns(self) -> list[str]:
        """The fields that the events have beside those of the origin."""
        return self.enrichment.service.columns()


def _no_function(batch: Any) -> Any:
    message = "an enriched stream is written from the event log: run `headrace process`; in a test, make its events"
    raise DefinitionError(f"{message} ({type(batch).__name__} given)")


def enriched_stream(
    origin: Stream,
    service: FeatureService,
    keys: Mapping[str, str] | None = None,
    *,
    topic: str | None = None,
    own_event: OwnEventRule = "excluded",
    silent_after: Duration | None = None,
) -> EnrichedStream:
    """Return the stream of a stream's events with the features of a service: see :meth:`headrace.Stream.with_features`.

    Raises DefinitionError for a key or a value that the event does not have, or has as another kind.
    """
    where = f"stream {origin.topic!r}: with_features"
    expect(where, "service", service, FeatureService, write="a feature service, such as card_usual")
    if isinstance(origin, Table):
        raise DefinitionError(f"{where}: a table is no stream of events: enrich a stream with the table's features")
    if own_event not in get_args(OwnEventRule):
        raise DefinitionError(f"{where}: own_event={own_event!r}; write 'excluded' or 'included'")
    expect_values(where, "keys", {} if keys is None else keys, str, write="a dict, such as {'card': 'card_id'}")
    with naming(f"{where}: silent_after"):
        waited_us = 1 if silent_after is None else bounded_us(silent_after)
    if waited_us <= 0:
        raise DefinitionError(f"{where}: silent_after={silent_after!r}: write a duration above 0s, such as '1m'")
    if topic == origin.topic:
        raise DefinitionError(f"{where}: topic={topic!r} is the one that the events come from; write another name")
    of_keys = _keys(where, origin, service, {} if keys is None else keys)
    _check_requests(where, origin, service)
    return EnrichedStream(
        topic=f"{origin.topic}.{service.name}" if topic is None else topic,
        event=_event(where, origin, service),
        event_time=origin.event_time,
        key=origin.key,
        lateness=origin.lateness,
        tolerance=origin.tolerance,
        available_at=origin.available_at,
        enrichment=Enrichment(origin, service, of_keys, own_event, silent_after),
    )


def _keys(where: str, origin: Stream, service: FeatureService, given: Mapping[str, str]) -> dict[str, str]:
    """Return the field of each join key. A key that is not given is the field of its own name."""
    wanted = {name: kind for view in service.views for name, kind in view.entity.join_keys.items()}
    unknown = [name for name in given if name not in wanted]
    if unknown:
        message = f"{where}: keys names {unknown[0]!r}, which is no join key of service {service.name!r}"
        raise DefinitionError(f"{message}; it has {list(wanted)}")
    found = {name: given.get(name, name) for name in wanted}
    for name, of in found.items():
        with naming(f"{where}: join key {name!r} (write keys={{{name!r}: …}} if the field has another name)"):
            kind = FieldSpec.of(origin.field(of)).expression_kind
        if kind != wanted[name].__name__:
            message = f"{where}: join key {name!r} is {wanted[name].__name__}, and the field {of!r} is {kind}"
            raise DefinitionError(f"{message}: name a field of the same kind")
    return found


def _check_requests(where: str, origin: Stream, service: FeatureService) -> None:
    for each in service.request_fields:
        with naming(f"{where}: service {service.name!r} reads the request's {each.name!r}"):
            spec = FieldSpec.of(origin.field(each.name))
        fits = {each.expression_kind, "int"} if each.expression_kind == "float" else {each.expression_kind}
        if spec.expression_kind not in fits or (spec.nullable and not each.nullable):
            has = f"{spec.expression_kind}{' | None' if spec.nullable else ''}"
            wants = f"{each.expression_kind}{' | None' if each.nullable else ''}"
            message = f"{where}: the field {each.name!r} is {has}, and service {service.name!r} has it as {wants}"
            raise DefinitionError(f"{message}: change one of them")


def _event(where: str, origin: Stream, service: FeatureService) -> type[Event]:
    """Return the event type: that of the origin with a field for each feature, which may be null."""
    own = {each.name for each in origin.columns}
    taken = [name for name in service.columns() if name in own]
    if taken:
        message = f"{where}: the event has a field {taken[0]!r}, and service {service.name!r} a feature of that name"
        raise DefinitionError(f"{message}: rename one of them")
    made = [(name, _hint(kind), None) for name, kind in service.column_kinds.items()]
    name = f"{origin.event.__name__}With{re.sub(r'[^0-9A-Za-z]', '', service.name.title())}"
    found: Any = msgspec.defstruct(name, made, bases=(origin.event,), module=origin.event.__module__)
    return found  # type: ignore[no-any-return]


def _hint(kind: str) -> Any:
    if kind.startswith("list("):
        return list[_TYPES[kind[5:-1]]] | None  # type: ignore[misc]  # a type that is known at run time only
    dim = dim_of(kind)
    of: Any = _TYPES[kind] if dim is None else Annotated[list[float], Vector(dim)]
    return of | None
