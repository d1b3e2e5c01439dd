"""Protobuf messages as plain objects, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP, _DURATION = "google.protobuf.Timestamp", "google.protobuf.Duration"
_WRAPPERS = {
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
}


def plain_message(descriptor: Any, names: Iterable[str] | None = None) -> Callable[[Any], Any]:
    """Return what makes a plain object of a message, with these fields alone if ``names`` are given.

    A Timestamp is a time, a Duration is seconds, a wrapper is its value, an enum is the name of its value. A field with
    presence that is not set is None.
    """
    return _plain(descriptor, {}, None if names is None else frozenset(names))


def _plain(
    descriptor: Any, known: dict[str, Callable[[Any], Any]], names: frozenset[str] | None = None
) -> Callable[[Any], Any]:
    name = descriptor.full_name
    if name == _TIMESTAMP:
        return lambda message: _EPOCH + timedelta(0, message.seconds, message.nanos // 1_000)
    if name == _DURATION:
        return lambda message: message.ToTimedelta().total_seconds()
    if name in _WRAPPERS:
        return lambda message: message.value
    if name not in known:
        known[name] = _message(descriptor, known, names)
    return known[name]


def _message(
    descriptor: Any, known: dict[str, Callable[[Any], Any]], names: frozenset[str] | None
) -> Callable[[Any], Any]:
    simple: list[str] = []
    others: list[tuple[str, bool, Callable[[Any], Any]]] = []

    def plain(message: Any) -> Any:
        found = {field: getattr(message, field) for field in simple}
        for field, has_presence, convert in others:
            is_there = not has_presence or message.HasField(field)
            found[field] = convert(getattr(message, field)) if is_there else None
        return found

    known[descriptor.full_name] = plain  # a message may have messages of its own type
    for each in descriptor.fields:
        if names is None or each.name in names:
            convert = _getter(each, known)
            if convert is None and not each.has_presence:
                simple.append(each.name)
            else:
                others.append((each.name, bool(each.has_presence), convert or _unchanged))
    return plain


def _unchanged(value: Any) -> Any:
    return value


def _getter(field: Any, known: dict[str, Callable[[Any], Any]]) -> Callable[[Any], Any] | None:
    """Return what makes a plain object of a field's value; None if the value is one."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        one = _item(field.message_type.fields_by_name["value"], known)
        return dict if one is None else lambda found: {key: one(each) for key, each in found.items()}
    item = _item(field, known)
    if not field.is_repeated:
        return item
    return list if item is None else lambda found: list(map(item, found))


def _item(field: Any, known: dict[str, Callable[[Any], Any]]) -> Callable[[Any], Any] | None:
    if field.message_type is not None:
        return _plain(field.message_type, known)
    if field.enum_type is None:
        return None
    names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
    return lambda number: names.get(number, number)


def missing_fields(descriptor: Any, names: Iterable[str]) -> list[str]:
    """Return the names that are no fields of a message."""
    return [name for name in names if name not in descriptor.fields_by_name]


def filled(message: Any, content: Mapping[str, Any]) -> Any:
    """Return the message with the content. What is None is left out."""
    for name, value in content.items():
        if value is not None:
            _set(message, message.DESCRIPTOR.fields_by_name[name], value)
    return message


def _set(message: Any, field: Any, value: Any) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, field.name).update(value)
    elif field.is_repeated:
        held = getattr(message, field.name)
        for each in value:
            if field.message_type is None:
                held.append(_number(field, each))
            else:
                _fill(held.add(), each)
    elif field.message_type is None:
        setattr(message, field.name, _number(field, value))
    else:
        getattr(message, field.name).SetInParent()
        _fill(getattr(message, field.name), value)


def _fill(message: Any, value: Any) -> None:
    if isinstance(value, datetime):
        message.FromDatetime(value)
    elif message.DESCRIPTOR.full_name in _WRAPPERS:
        message.value = value
    else:
        filled(message, value)


def _number(field: Any, value: Any) -> Any:
    """Return the number of an enum's value by its name. Other values are returned unchanged."""
    kind = field.enum_type
    return kind.values_by_name[value].number if kind is not None and isinstance(value, str) else value
