"""Events as their records have them, where JSON differs from the event type.

A time may be in a form of its own (``bus/wire.py``), and a field may stand at another place (``field(path=…)``).
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from functools import cache
from types import GenericAlias
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headrace.bus.event import Event, Field, fields
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class _Member(NamedTuple):
    """A field as JSON has it: the rest of the way to it, its type there, and the arguments of its `msgspec.field`."""

    field: Field
    way: tuple[str, ...]
    kind: Any
    default: dict[str, Any]


@dataclass(frozen=True)
class _JsonObject:
    """An object in JSON: its type, its own fields, and the objects in it by the names of their attributes."""

    kind: Any
    fields: Sequence[Field]
    objects: dict[str, _JsonObject]

    def write(self, event: Any) -> Any:
        """Return the object of an event."""
        own = {place(field)[-1]: _written(field, getattr(event, field.name)) for field in self.fields}
        return self.kind(**own, **{name: inner.write(event) for name, inner in self.objects.items()})


class WrittenEvents:
    """Turns events of one type into a type ``written``, whose fields are as the records have them, and back."""

    def __init__(self, event: type[Event]) -> None:
        self._event, self._fields = event, fields(event)
        hints = typing.get_type_hints(event, include_extras=True)
        infos = msgspec.structs.fields(event)
        members = [_member(field, info, hints[field.name]) for field, info in zip(self._fields, infos, strict=True)]
        self._root = _json_object(event, event.__name__, members, tag=event.__struct_config__.tag)
        self.written = self._root.kind

    def event(self, written: Any) -> Event:
        """Return the event of a record whose times fit."""
        return self._event(**{field.name: _read(field, value_at(written, field)) for field in self._fields})

    def row(self, event: Any) -> Any:
        """Return an event as its record has it."""
        return self._root.write(event)


@cache
def written_events(event: type[Event]) -> WrittenEvents | None:
    """Return how events of this type are written; None if JSON has them as the event type has them."""
    return WrittenEvents(event) if any(map(_differs, fields(event))) else None


def _differs(field: Field) -> bool:
    return field.form is not None or bool(field.path) or any(map(_differs, field.fields))


def place(field: Field) -> tuple[str, ...]:
    """Return the names of the attributes that lead from a row to a field."""
    return tuple(map(_attribute, field.path)) or (field.name,)


def _attribute(name: str) -> str:
    """Return the attribute of a name in JSON, which may be any text."""
    return f"json_{name.encode().hex()}"


def value_at(row: Any, field: Field) -> Any:
    """Return the value that a row has of a field; None if an object on the way is null."""
    for name in place(field):
        row = None if row is None else getattr(row, name)
    return row


def _read(field: Field, value: Any) -> Any:
    """Return a field's value of an event from what its record has."""
    if field.form is not None and value is not None:
        return field.form.read(value)
    written = None if field.event is None else written_events(field.event)
    return value if written is None else _each(field, written.event, value)


def _written(field: Field, value: Any) -> Any:
    """Return a field's value as its record has it."""
    if field.form is not None and value is not None:
        return field.form.write(value)
    written = None if field.event is None else written_events(field.event)
    return value if written is None else _each(field, written.row, value)


def _each(field: Field, turn: Callable[[Any], Any], value: Any) -> Any:
    """Return an event, or each event of a list, in its other form."""
    if value is None:
        return None
    return [None if item is None else turn(item) for item in value] if field.many else turn(value)


def _member(field: Field, info: msgspec.structs.FieldInfo, hint: Any) -> _Member:
    way, factory = field.path or (info.encode_name,), info.default_factory
    if factory is not msgspec.NODEFAULT:
        return _Member(field, way, _kind(field, hint), {"default_factory": lambda: _written(field, factory())})
    default = info.default
    kept = default if default is msgspec.NODEFAULT else _written(field, default)
    return _Member(field, way, _kind(field, hint), {"default": kept})


def _kind(field: Field, hint: Any) -> Any:
    """Return the type of a field in its record."""
    written = None if field.event is None else written_events(field.event)
    if field.form is not None:
        kind: Any = field.form.written
    elif written is not None:
        kind = written.written
    else:
        return hint
    if field.many:
        kind = GenericAlias(list, (kind | None if field.nullable_items else kind,))
    return kind | None if field.nullable else kind


def _json_object(event: type[Event], name: str, members: Sequence[_Member], **more: Any) -> _JsonObject:
    own = [member for member in members if len(member.way) == 1]
    deeper = {member.way[0]: [] for member in members if len(member.way) > 1}  # type: dict[str, list[_Member]]
    for member in members:
        if len(member.way) > 1:
            deeper[member.way[0]].append(member._replace(way=member.way[1:]))
    names = [*(member.way[0] for member in own), *deeper]
    if len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        place_ = f"{name}.{twice}".partition(".")[2]
        message = f"{event.__name__}: two fields stand at {place_!r} in JSON; give one of them another path"
        raise DefinitionError(message)
    objects = {_attribute(part): _json_object(event, f"{name}.{part}", inner) for part, inner in deeper.items()}
    config = event.__struct_config__
    kind = msgspec.defstruct(
        name,
        [
            *((place(each.field)[-1], each.kind, msgspec.field(name=each.way[0], **each.default)) for each in own),
            *(
                (_attribute(part), *_object_field(objects[_attribute(part)].kind, part, inner))
                for part, inner in deeper.items()
            ),
        ],
        kw_only=True,
        tag_field=config.tag_field if more.get("tag") else None,
        omit_defaults=config.omit_defaults,
        forbid_unknown_fields=config.forbid_unknown_fields,
        gc=False,
        **more,
    )
    return _JsonObject(kind, [member.field for member in own], objects)


def _object_field(kind: Any, name: str, members: Sequence[_Member]) -> tuple[Any, Any]:
    """Return the type and the field of an object on a path.

    It may be missing if all its fields have defaults, and null if all these are None.
    """
    if any(member.default.get("default", None) is msgspec.NODEFAULT for member in members):
        return kind, msgspec.field(name=name)
    if all(member.default.get("default", members) is None for member in members):
        return kind | None, msgspec.field(default=None, name=name)
    return kind, msgspec.field(default_factory=kind, name=name)
