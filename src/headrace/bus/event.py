"""Typed events: the content of one record of a topic."""

from __future__ import annotations

import types
import typing
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin
from uuid import UUID

import msgspec

from headrace.bus.places import Places
from headrace.bus.vector import Vector
from headrace.bus.wire import TimeForm, annotation, plain, time_form
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal["int", "float", "bool", "str", "datetime", "date", "decimal", "bytes", "event"]
INT64 = range(-(2**63), 2**63)
_KINDS: dict[type, Kind] = {
    int: "int", float: "float", bool: "bool", str: "str", datetime: "datetime", date: "date", Decimal: "decimal",
    bytes: "bytes",
}  # fmt: skip
_OF_DICT = frozenset({"int", "float", "bool", "str"})
MOST_DEPTH = 10
"""The number of levels that events may be nested."""
_PATH = "$."
"""The name of a field in JSON begins with it if it is a path."""


class Event(msgspec.Struct, gc=False):
    """The base class of all events.

    A field is an int, float, bool, str, date, bytes or datetime with a time zone, a UUID, a ``Literal`` or an ``Enum``
    of texts or of integers, a Decimal with its :class:`headrace.Places`, another event, a list of one of these, or a
    dict of texts to int, float, bool or str. Any of them may be ``| None``. On the wire an event is one JSON object,
    and a time is RFC 3339 text, unless :class:`headrace.Epoch` or :class:`headrace.TimeText` says otherwise. A reader
    ignores fields that the type does not name. docs/reference/events.md has a table.

    >>> from datetime import UTC, datetime
    >>> from headrace import Event
    >>> class Departure(Event):
    ...     flight_id: int
    ...     delay_minutes: float | None
    ...     departed_at: datetime
    >>> Departure(flight_id=7, delay_minutes=None, departed_at=datetime(2013, 1, 1, 5, 17, tzinfo=UTC)).flight_id
    7
    """


def field(*, path: str, **default: Any) -> Any:
    """Return a field of an event that stands at another place in JSON, such as ``path="data.card.id"``.

    ``path`` has the names of the objects around the field, and at the end the name of the field itself, with dots
    between them. ``default=`` or ``default_factory=`` give the value if the field is missing. Without them each object
    of the path must be there. Raises DefinitionError for a path with an empty name.

    >>> from headrace import Event, field
    >>> class Payment(Event):
    ...     card_id: str = field(path="data.card.id")
    >>> Payment(card_id="c7").card_id
    'c7'
    """
    if not all(path.split(".")):
        raise DefinitionError(f"field(path={path!r}): write the names with a dot between them, such as 'data.card.id'")
    return msgspec.field(name=f"{_PATH}{path}", **default)


class Field(msgspec.Struct, frozen=True):
    """One field of an event type. ``many``: a list of this kind. ``nullable_items``: its items may be null.

    ``keyed``: a dict of texts to this kind. ``form`` says how a time is written, if it is not RFC 3339 text.
    ``is_plain``: its values are not members of an Enum or UUIDs, which :func:`plain_value` changes. ``places`` are
    those of a Decimal. ``event`` is the type of a nested event, or of the events of a list, and ``fields`` are its
    fields. ``path`` has the names in JSON that lead to the field, if it stands at another place there. ``vector`` is
    the length of a list that is a vector.
    """

    name: str
    kind: Kind
    many: bool = False
    nullable: bool = False
    nullable_items: bool = False
    form: TimeForm | None = None
    is_plain: bool = True
    keyed: bool = False
    places: Places | None = None
    event: type[Event] | None = None
    fields: tuple[Field, ...] = ()
    path: tuple[str, ...] = ()
    vector: Vector | None = None

    @property
    def is_nested(self) -> bool:
        """True for an event in the event: its fields are columns of their own."""
        return self.kind == "event" and not self.many

    @property
    def is_single(self) -> bool:
        """True for one value, which is no list and no dict."""
        return not self.many and not self.keyed


def fields(event: type[Event]) -> tuple[Field, ...]:
    """Return the fields of an event type, in order, each nested event as one field with fields of its own.

    Raises DefinitionError for a field that no column can hold.
    """
    return _fields(event, ())


def leaves(of: Iterable[Field]) -> tuple[Field, ...]:
    """Return fields with those of nested events in place of the events, such as ``card.country``."""
    return tuple(leaf for each in of for leaf in _leaves(each))


def _leaves(of: Field) -> Iterator[Field]:
    if not of.is_nested:
        yield of
        return
    for leaf in leaves(of.fields):
        yield msgspec.structs.replace(leaf, name=f"{of.name}.{leaf.name}", nullable=of.nullable or leaf.nullable)


def _fields(event: type[Event], within: tuple[type[Event], ...]) -> tuple[Field, ...]:
    if len(within) >= MOST_DEPTH:
        names = " in ".join(each.__name__ for each in (event, *reversed(within)))
        raise DefinitionError(f"{names}: events are nested at most {MOST_DEPTH} deep")
    hints = typing.get_type_hints(event, include_extras=True)
    within = (*within, event)
    return tuple(_field(within, info, hints[info.name]) for info in msgspec.structs.fields(event))


def _field(within: tuple[type[Event], ...], info: msgspec.structs.FieldInfo, hint: Any) -> Field:
    where, form = f"{within[-1].__name__}.{info.name}", time_form(hint)
    inner, nullable = _without_none(hint)
    many, keyed = get_origin(inner) is list, get_origin(inner) is dict
    held = get_args(inner)[-1] if many or keyed else inner
    item, nullable_items = _without_none(held) if many or keyed else (inner, False)
    kind, is_plain = _kind(item)
    nested = _fields(item, within) if kind == "event" else ()
    if kind == "event" and not nested:
        raise DefinitionError(f"{where}: {item.__name__} has no fields; give it one, or leave {info.name!r} out")
    if kind is None or (keyed and (get_args(inner)[0] is not str or kind not in _OF_DICT or nullable_items)):
        message = (
            f"{where} is declared as {hint}: an event field is int, float, bool, str, datetime, date, bytes, UUID, "
            "a Literal or an Enum of texts or of integers, a Decimal with Places, another Event, a list of one of "
            "these, a dict[str, …] of int, float, bool or str, or one of these with '| None'"
        )
        raise DefinitionError(message)
    if form is not None and (kind != "datetime" or many):
        message = f"{where}: {form!r} is the form of a datetime, not of a list or of {kind}"
        raise DefinitionError(message)
    return Field(
        info.name,
        kind,
        many,
        nullable,
        nullable_items,
        form,
        is_plain,
        keyed,
        places=_places(where, kind, hint),
        event=item if kind == "event" else None,
        fields=nested,
        path=tuple(info.encode_name.removeprefix(_PATH).split(".")) if info.encode_name.startswith(_PATH) else (),
        vector=_vector(where, hint, is_floats=many and kind == "float" and not nullable_items),
    )


def _places(where: str, kind: Kind, hint: Any) -> Places | None:
    found: Places | None = annotation(hint, Places)
    if (kind == "decimal") != (found is not None):
        message = f"{where}: write a Decimal with its places after the point, such as Annotated[Decimal, Places(2)]"
        raise DefinitionError(message)
    return found


def _vector(where: str, hint: Any, *, is_floats: bool) -> Vector | None:
    found: Vector | None = annotation(hint, Vector)
    if annotation(hint, type) is Vector:
        raise DefinitionError(f"{where} is declared as {hint}: write how long the vectors are, such as Vector(64)")
    if found is not None and not is_floats:
        raise DefinitionError(f"{where}: {found!r} is the length of a list[float]; it is declared as {hint}")
    return found


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
    if isinstance(item, type) and issubclass(item, Event):
        return "event", True
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


def value_of(event: Any, name: str) -> Any:
    """Return the value of a field, such as ``card_id`` or ``card.id``; None if an event on the way is None."""
    for part in name.split("."):
        event = None if event is None else getattr(event, part)
    return event


def _without_none(hint: Any) -> tuple[Any, bool]:
    hint = plain(hint)
    if get_origin(hint) not in {types.UnionType, typing.Union}:
        return hint, False
    rest = [plain(arm) for arm in get_args(hint) if arm is not type(None)]
    return (rest[0] if len(rest) == 1 else hint), len(rest) < len(get_args(hint))


def encode(event: msgspec.Struct) -> bytes:
    """Return the JSON bytes of an event or a control message."""
    return msgspec.json.encode(event)
