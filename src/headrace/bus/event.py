"""Typed events: the content of one record of a topic."""

from __future__ import annotations

import types
import typing
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin
from uuid import UUID

import msgspec

from headrace.bus.wire import TimeForm, plain, time_form
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["int", "float", "bool", "str", "datetime"]
INT64 = range(-(2**63), 2**63)
_KINDS: dict[type, Kind] = {int: "int", float: "float", bool: "bool", str: "str", datetime: "datetime"}


class Event(msgspec.Struct, gc=False):
    """The base class of all events.

    A field is an int, float, bool, str or datetime with a time zone, a UUID, a ``Literal`` or an ``Enum`` of texts or
    of integers, or a list of one of these. Any of them may be
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

    ``form`` says how a time is written, if it is not RFC 3339 text. ``is_plain``: its values are not members of an Enum
    or UUIDs, which :func:`plain_value` changes.
    """

    name: str
    kind: Kind
    many: bool = False
    nullable: bool = False
    nullable_items: bool = False
    form: TimeForm | None = None
    is_plain: bool = True


def fields(event: type[Event]) -> tuple[Field, ...]:
    """Return the fields of an event type, in order. Raises DefinitionError for a field that no column can hold."""
    hints = typing.get_type_hints(event, include_extras=True)
    return tuple(_field(event, name, hints[name]) for name in event.__struct_fields__)


def _field(event: type[Event], name: str, hint: Any) -> Field:
    form = time_form(hint)
    inner, nullable = _without_none(hint)
    many = get_origin(inner) is list
    item, nullable_items = _without_none(get_args(inner)[0]) if many else (inner, False)
    kind, is_plain = _kind(item)
    if kind is None:
        message = (
            f"{event.__name__}.{name} is declared as {hint}: an event field is int, float, bool, str, datetime, UUID, "
            "a Literal or an Enum of texts or of integers, a list of one of these, or one of these with '| None'"
        )
        raise DefinitionError(message)
    if form is not None and (kind != "datetime" or many):
        message = f"{event.__name__}.{name}: {form!r} is the form of a datetime, not of a list or of {kind}"
        raise DefinitionError(message)
    return Field(name, kind, many, nullable, nullable_items, form, is_plain)


def _kind(item: Any) -> tuple[Kind | None, bool]:
    """Return the kind of a type, and whether its values are of that kind themselves."""
    if item in _KINDS:
        return _KINDS[item], True
    if item is UUID:
        return "str", False
    if get_origin(item) is Literal:
        return _common(get_args(item)), True
    if isinstance(item, type) and issubclass(item, Enum):
        return _common(member.value for member in item), False
    return None, True


def _common(values: Iterable[Any]) -> Kind | None:
    """Return the kind that all values have: text, or an integer of 64 bits."""
    kinds = {None if type(value) is int and value not in INT64 else _KINDS.get(type(value)) for value in values}
    return "str" if kinds == {"str"} else "int" if kinds == {"int"} else None


def plain_value(value: Any) -> Any:
    """Return the text or the number of a member of an Enum, and of a UUID. Other values are returned unchanged."""
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, UUID) else value


def _without_none(hint: Any) -> tuple[Any, bool]:
    hint = plain(hint)
    if get_origin(hint) not in {types.UnionType, typing.Union}:
        return hint, False
    rest = [plain(arm) for arm in get_args(hint) if arm is not type(None)]
    return (rest[0] if len(rest) == 1 else hint), len(rest) < len(get_args(hint))


def encode(event: msgspec.Struct) -> bytes:
    """Return the JSON bytes of an event or a control message."""
    return msgspec.json.encode(event)
