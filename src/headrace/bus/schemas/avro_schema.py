"""The Avro schema of an event class, and its records as Avro wants them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.event import fields
from headrace.bus.places import DIGITS
from headrace.bus.wire import Epoch
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from headrace.bus.event import Event, Field, Kind

_TYPES: dict[Kind, Any] = {
    "int": "long",
    "float": "double",
    "bool": "boolean",
    "str": "string",
    "bytes": "bytes",
    "date": {"type": "int", "logicalType": "date"},
    "datetime": {"type": "long", "logicalType": "timestamp-micros"},
}


def avro_schema(event: type[Event]) -> dict[str, Any]:
    """Return the Avro schema of an event class, with the names that its records have.

    A field that may be null is a union whose first type is the one of the default. A time in a form of its own is a
    number or a text. Raises DefinitionError for a field that stands at another place.
    """
    found: dict[str, Any] = _record(event, set())
    return found


def plain_record(row: Any) -> Any:
    """Return a row as plain objects. Times, dates, decimals and bytes stay what they are."""
    return msgspec.to_builtins(row, builtin_types=(datetime, date, Decimal, bytes))


def _record(event: type[Event], known: set[str]) -> Any:
    """Return the schema of an event; only its name if it is in ``known``."""
    if event.__name__ in known:
        return event.__name__
    known.add(event.__name__)
    infos = msgspec.structs.fields(event)
    members = [_field(field, info, known) for field, info in zip(fields(event), infos, strict=True)]
    return {"type": "record", "name": event.__name__, "fields": members}


def _field(field: Field, info: Any, known: set[str]) -> dict[str, Any]:
    if field.path:
        message = (
            f"{field.name} stands at {'.'.join(field.path)} in the record: a producer cannot write it in Avro; declare "
            "it without path=…, or let another program write the topic"
        )
        raise DefinitionError(message)
    kind = _type(field, known)
    if field.nullable:
        is_null = info.default is None or info.default is msgspec.NODEFAULT
        kind = ["null", kind] if is_null else [kind, "null"]
    found: dict[str, Any] = {"name": info.encode_name, "type": kind}
    if field.nullable and (info.default is None or info.default is msgspec.NODEFAULT):
        return {**found, "default": None}
    default = info.default if info.default_factory is msgspec.NODEFAULT else info.default_factory()
    if field.is_plain and field.form is None and isinstance(default, str | int | float | bool | list | dict):
        found["default"] = default
    return found


def _type(field: Field, known: set[str]) -> Any:
    if field.form is not None:
        return "long" if isinstance(field.form, Epoch) else "string"
    kind = _scalar(field, known)
    if field.keyed:
        return {"type": "map", "values": kind}
    return {"type": "array", "items": ["null", kind] if field.nullable_items else kind} if field.many else kind


def _scalar(field: Field, known: set[str]) -> Any:
    if field.event is not None:
        return _record(field.event, known)
    if field.places is not None:
        return {"type": "bytes", "logicalType": "decimal", "precision": DIGITS, "scale": field.places.places}
    return _TYPES[field.kind]
