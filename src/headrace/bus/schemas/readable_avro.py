"""Avro schemas of any producer as records are read by them: exact, and bounded by the bytes of a record.

Without bounds a schema and a few bytes stop a process: an array of a trillion nulls takes six bytes, and a record that
holds itself can be nested deeper than the stack of a thread.
"""

from __future__ import annotations

import json
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.errors import CodecError, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.bus.schemas.schema_registry import RegisteredSchema

_DECIMAL = "headrace-decimal"
"""The logical type of decimals here. fastavro's own rounds a number that has more digits than its schema says."""
_MOST_DECIMAL_BYTES = 400
"""Nearly a thousand digits. Longer numbers take time that grows with their square."""
_EXACT = Context(prec=1_000)
_VALUES, _VALUES_PER_BYTE = 20, 4
"""A record without its unions, arrays and maps makes at most so many values, and so many more for each of its bytes."""


def parsed(schema: RegisteredSchema) -> Any:
    """Return fastavro's form of a schema.

    Raises CodecError for a schema whose records could make more than their bytes, and any error for one that is none.
    """
    fastavro = require("fastavro", "schemas")
    readers = require("fastavro.read", "schemas").LOGICAL_READERS
    readers[f"bytes-{_DECIMAL}"] = readers[f"fixed-{_DECIMAL}"] = _decimal
    named: dict[str, Any] = {}
    for each in schema.references:
        fastavro.parse_schema(_readable(json.loads(each.text)), named_schemas=named)
    found = fastavro.parse_schema(_readable(json.loads(schema.text)), named_schemas=named)
    _Sizes(named).of(found)
    return found


def _readable(schema: Any) -> Any:
    """Return a schema in which a UUID is text, as a field may be a UUID or a str, and a decimal is exact."""
    if isinstance(schema, list):
        return [_readable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _readable(each) for name, each in schema.items()}
    match schema.get("logicalType"), schema.get("type"):
        case "uuid", "string":
            del found["logicalType"]
        case "decimal", "bytes" | "fixed":
            found["logicalType"] = _DECIMAL
    return found


def _decimal(content: bytes, schema: Mapping[str, Any], *_: Any) -> Decimal:
    """Return a number, exactly."""
    if len(content) > _MOST_DECIMAL_BYTES:
        raise CodecError(f"A decimal of the record has {len(content)} bytes; at most {_MOST_DECIMAL_BYTES} are read")
    return Decimal(int.from_bytes(content, "big", signed=True)).scaleb(-schema.get("scale", 0), _EXACT)


class _Size(NamedTuple):
    """What a value is at least: its bytes, and the values that are made of them."""

    bytes: int
    values: int


_NULL, _ONE = _Size(0, 1), _Size(1, 1)


class _Sizes:
    """The sizes of the types of a schema, in fastavro's form."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._known: dict[str, _Size] = {}
        self._around: list[str] = []

    def of(self, schema: Any) -> _Size:
        """Return the size of a type. Raises CodecError if nothing bounds it, or that of a type in it."""
        if isinstance(schema, list):
            for each in schema:
                self.of(each)
            return _ONE
        if isinstance(schema, str):
            simple = _NULL if schema == "null" else _ONE
            return self.of(self._named[schema]) if schema in self._named else simple
        match schema["type"]:
            case "record" | "error":
                return self._of_record(schema)
            case "fixed":
                return _Size(schema["size"], 1)
            case "array":
                if not self.of(schema["items"]).bytes:
                    raise CodecError("items of an array take no bytes, so a few bytes could be any number of them")
            case "map":
                self.of(schema["values"])
            case "enum":
                pass
            case other:
                return self.of(other)
        return _ONE

    def _of_record(self, schema: Any) -> _Size:
        name = schema["name"]
        if name in self._around:
            raise CodecError(f"a record {name!r} may be in itself, so records could be nested without end")
        if name not in self._known:
            self._around.append(name)
            fields = [self.of(field["type"]) for field in schema["fields"]]
            self._around.pop()
            size = _Size(sum(each.bytes for each in fields), 1 + sum(each.values for each in fields))
            if size.values > _VALUES + _VALUES_PER_BYTE * size.bytes:
                raise CodecError(f"a record {name!r} of {size.bytes} bytes has {size.values} values: most take none")
            self._known[name] = size
        return self._known[name]
