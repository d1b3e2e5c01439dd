"""An event class that is made from a schema of a schema registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headrace.bus.places import DIGITS
from headrace.bus.schemas.proposed_event import ProposedEvent, ProposedField, ProposedKind, class_name, literal
from headrace.errors import TerminalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.bus.schemas.schema_registry import RegisteredSchema

_AVRO = {
    "int": "int", "long": "int", "float": "float", "double": "float", "boolean": "bool", "string": "str",
    "bytes": "bytes", "fixed": "bytes", "timestamp-millis": "datetime", "timestamp-micros": "datetime", "date": "date",
    "uuid": "UUID",
}  # fmt: skip
_JSON = {"integer": "int", "number": "float", "boolean": "bool", "string": "str"}
_JSON_FORMATS = {"date-time": "datetime", "date": "date", "uuid": "UUID"}
_OF_MAP = frozenset({"int", "float", "bool", "str"})


def pulled_event(schema: RegisteredSchema) -> ProposedEvent:
    """Return an event class for the records of a schema. Raises TerminalError for a schema that is no record."""
    if schema.kind == "PROTOBUF":
        raise TerminalError(
            f"the schema id {schema.id} is Protobuf: make the message's class with protoc, and write an event class "
            "with the fields that you need: Stream(…, format=Protobuf(shop_pb2.Payment))"
        )
    document = json.loads(schema.text)
    if not isinstance(document, dict):
        raise TerminalError(f"the schema id {schema.id} is {schema.text}, not a record with fields")
    known = {each.name: json.loads(each.text) for each in schema.references}
    try:
        return _JsonClasses(document).root() if schema.kind == "JSON" else _AvroClasses(known).event(document)
    except RecursionError:
        raise TerminalError(f"the schema id {schema.id} holds itself, or is nested too deeply") from None


class _AvroClasses:
    """Makes classes of Avro records. ``named``: the schemas by their names, the full ones and the short ones."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named: dict[str, Any] = {}
        for each in named.values():
            self._note(each)

    def event(self, schema: Mapping[str, Any]) -> ProposedEvent:
        self._note(schema)
        name = class_name(str(schema.get("name", "Record")).rpartition(".")[2])
        return ProposedEvent(name, [self._field(each) for each in schema.get("fields", ())])

    def _note(self, schema: Mapping[str, Any]) -> None:
        name = str(schema.get("name", ""))
        self._named[name] = self._named[f"{schema.get('namespace', '')}.{name}"] = schema

    def _field(self, member: Mapping[str, Any]) -> ProposedField:
        own = member.get("type")
        arms = own if isinstance(own, list) else [own]
        rest = [arm for arm in arms if arm != "null"]
        is_null = len(rest) < len(arms)
        kind, nested, note = self._kind(rest[0]) if len(rest) == 1 else (None, None, "a union of several types")
        return ProposedField(
            str(member.get("name")), kind, is_null, is_null and member.get("default", ...) is None, nested, note
        )

    def _kind(self, own: Any) -> ProposedKind:
        if isinstance(own, str) and own not in _AVRO:
            own = self._named.get(own) or self._named.get(own.rpartition(".")[2], own)
        if isinstance(own, str):
            return _AVRO.get(own), None, "" if own in _AVRO else f"of the type {own}"
        if not isinstance(own, dict):
            return None, None, "a union in a union"
        logical = own.get("logicalType")
        if logical == "decimal":
            return self._decimal(own)
        if logical is not None:
            return _AVRO.get(logical), None, "" if logical in _AVRO else f"a {logical}"
        return self._complex(own, own.get("type"))

    def _complex(self, own: Mapping[str, Any], kind: Any) -> ProposedKind:
        match kind:
            case "record":
                nested = self.event(own)
                return nested.name, nested, ""
            case "enum":
                self._note(own)
                return literal(own.get("symbols", ())), None, ""
            case "array":
                return self._array(own.get("items"))
            case "map":
                item, _, _ = self._kind(own.get("values"))
                return (f"dict[str, {item}]", None, "") if item in _OF_MAP else (None, None, "a map of something else")
            case _:
                self._note(own)
                return self._kind(kind)

    def _array(self, items: Any) -> ProposedKind:
        arms = items if isinstance(items, list) else [items]
        rest = [arm for arm in arms if arm != "null"]
        item, nested, note = self._kind(rest[0]) if len(rest) == 1 else (None, None, "several types")
        if item is None or item.startswith(("list", "dict")):
            return None, None, f"an array of {note or item}"
        return (f"list[{item}]" if len(rest) == len(arms) else f"list[{item} | None]"), nested, ""

    def _decimal(self, own: Mapping[str, Any]) -> ProposedKind:
        scale, precision = int(own.get("scale", 0)), int(own.get("precision", 0))
        if precision > DIGITS:
            return "float", None, f"a decimal of {precision} digits: a Decimal has at most {DIGITS}"
        return f"Annotated[Decimal, Places({scale})]", None, ""


class _JsonClasses:
    """Makes classes of JSON objects."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def root(self) -> ProposedEvent:
        return self.event(self._root, class_name(self._resolved(self._root).get("title") or "Record"))

    def event(self, schema: Any, name: str) -> ProposedEvent:
        own = self._resolved(schema)
        required = set(own.get("required", ()))
        members = own.get("properties", {}).items()
        return ProposedEvent(name, [self._field(each, of, name, is_required=each in required) for each, of in members])

    def _resolved(self, schema: Any) -> Any:
        """Return what a reference within the document leads to."""
        for _ in range(10):
            if not isinstance(schema, dict) or not str(schema.get("$ref", "")).startswith("#/"):
                break
            found: Any = self._root
            for part in schema["$ref"][2:].split("/"):
                found = found.get(part, {})
            schema = found
        return schema if isinstance(schema, dict) else {}

    def _field(self, name: str, schema: Any, owner: str, *, is_required: bool) -> ProposedField:
        arms = list(self._arms(self._resolved(schema)))
        rest = [arm for arm in arms if arm.get("type") != "null"]
        kind, nested, note = self._kind(rest[0], name, owner) if len(rest) == 1 else (None, None, "of several types")
        return ProposedField(name, kind, len(rest) < len(arms), not is_required, nested, note)

    def _arms(self, own: Any) -> Iterator[Any]:
        kinds = own.get("type")
        for arm in own.get("anyOf") or own.get("oneOf") or ([own] if not isinstance(kinds, list) else ()):
            yield self._resolved(arm)
        if isinstance(kinds, list):
            yield from ({**own, "type": kind} for kind in kinds)

    def _kind(self, own: Any, name: str, owner: str) -> ProposedKind:
        values, kind = own.get("enum"), own.get("type")
        if values and all(isinstance(value, str) for value in values):
            return literal(values), None, ""
        if kind == "string":
            return _JSON_FORMATS.get(own.get("format", ""), "str"), None, ""
        if kind == "object" and own.get("properties"):
            nested = self.event(own, f"{owner}{class_name(name)}")
            return nested.name, nested, ""
        if kind == "object":
            item = _JSON.get(self._resolved(own.get("additionalProperties")).get("type", ""))
            return (f"dict[str, {item}]" if item else None), None, "" if item else "an object of anything"
        if kind == "array":
            item, inner, note = self._kind(self._resolved(own.get("items")), name, owner)
            is_plain = item is not None and not item.startswith(("list", "dict"))
            return (f"list[{item}]" if is_plain else None), inner, "" if is_plain else f"an array of {note or item}"
        return _JSON.get(kind), None, "" if kind in _JSON else f"of the type {kind}"
