"""The spec of a stream: what readers of its topic and of the event log know of it, without its Python type."""

from __future__ import annotations

from functools import cached_property

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus.event import Kind


class FieldSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of a stream's events.

    ``many``: the field is a list of this kind. ``time_form`` says how a time is written, if it is not RFC 3339 text.
    """

    name: str
    kind: Kind
    many: bool
    nullable: bool
    time_form: str | UnsetType = UNSET


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A stream as data. ``available_at`` is ``record``, the name of a field, or ``event_time+<duration>``.

    ``format`` says how the records are written, if they are not plain JSON.

    On the wire it is the part ``source`` of a view's spec.
    """

    topic: str
    event: str
    fields: tuple[FieldSpec, ...]
    event_time: str
    key: tuple[str, ...]
    lateness_us: int
    tolerance_us: int
    available_at: str
    format: str | UnsetType = UNSET

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each field that is not a list, by name: what an expression can read."""
        return {field.name: field.kind for field in self.fields if not field.many}

    @cached_property
    def nullable(self) -> frozenset[str]:
        """The names of the fields that may be null and are not lists."""
        return frozenset(field.name for field in self.fields if field.nullable and not field.many)
