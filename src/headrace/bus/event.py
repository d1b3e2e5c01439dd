"""Typed events: the content of one record of a topic."""

from __future__ import annotations

import types
import typing
from datetime import datetime
from typing import Any, Literal, get_args, get_origin

import msgspec

from headrace.bus.wire import TimeForm, plain, time_form
from headrace.errors import DefinitionError

Kind = Literal["int", "float", "bool", "str", "datetime"]
_KINDS: dict[type, Kind] = {int: "int", float: "float", bool: "bool", str: "str", datetime: "datetime"}


class Event(msgspec.Struct, gc=False):
    """The base class of all events.

    A field is an int, float, bool, str or datetime with a time zone, or a list of one of these. Any of them may be
    ``| None``. On the wire an event is one JSON object, and a time is RFC 3339 text, unless :class:`headrace.Epoch` or
    :class:`headrace.TimeText` says otherwise. A reader ignores fields that the type does not name.

    >>> from datetime import UTC, datetime
    >>> from headrace import Event
    >>> class Departure(Event):
    ...     flight_id: int
    ...     delay_minutes: float | None
    ...     departed_at: datetime
    >>> Departure(flight_id=7, delay_minutes=None, departed_at=datetime(2013, 1, 1, 5, 17, tzinfo=UTC)).flight_id
    7
    """


class Field(msgspec.Struct, frozen=True):
    """One field of an event type. ``many``: a list of this kind. ``nullable_items``: its items may be null.

    ``form`` says how a time is written, if it is not RFC 3339 text.
    """

    name: str
    kind: Kind
    many: bool = False
    nullable: bool = False
    nullable_items: bool = False
    form: TimeForm | None = None


def fields(event: type[Event]) -> tuple[Field, ...]:
    """Return the fields of an event type, in order. Raises DefinitionError for a field that no column can hold."""
    hints = typing.get_type_hints(event, include_extras=True)
    return tuple(_field(event, name, hints[name]) for name in event.__struct_fields__)


def _field(event: type[Event], name: str, hint: Any) -> Field:
    form = time_form(hint)
    inner, nullable = _without_none(hint)
    many = get_origin(inner) is list
    item, nullable_items = _without_none(get_args(inner)[0]) if many else (inner, False)
    kind = _KINDS.get(item)
    if kind is None:
        message = (
            f"{event.__name__}.{name} is declared as {hint}: an event field is int, float, bool, str, datetime, "
            "a list of one of these, or one of these with '| None'"
        )
        raise DefinitionError(message)
    if form is not None and (kind != "datetime" or many):
        message = f"{event.__name__}.{name}: {form!r} is the form of a datetime, not of a list or of {kind}"
        raise DefinitionError(message)
    return Field(name, kind, many, nullable, nullable_items, form)


def _without_none(hint: Any) -> tuple[Any, bool]:
    hint = plain(hint)
    if get_origin(hint) not in {types.UnionType, typing.Union}:
        return hint, False
    rest = [plain(arm) for arm in get_args(hint) if arm is not type(None)]
    return (rest[0] if len(rest) == 1 else hint), len(rest) < len(get_args(hint))


def encode(event: msgspec.Struct) -> bytes:
    """Return the JSON bytes of an event or a control message."""
    return msgspec.json.encode(event)
