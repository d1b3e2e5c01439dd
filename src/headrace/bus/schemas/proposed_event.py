"""A proposed event class, and its source text."""

from __future__ import annotations

import json
import keyword
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from headrace.base.redaction import shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_LONGEST = 100
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_IMPORTS = {
    "from datetime import date, datetime": ("date", "datetime"),
    "from decimal import Decimal": ("Decimal",),
    "from typing import Annotated, Literal": ("Annotated", "Literal"),
    "from uuid import UUID": ("UUID",),
}
_TYPES = frozenset({"int", "float", "bool", "str", "bytes", "list", "dict", "date", "datetime"})
"""The fields after one of such a name, with a default, would have the default for a type."""
_HEADRACE = ("CloudEvents", "Debezium", "Avro", "JsonSchema", "Epoch", "Event", "Places", "Stream", "TimeText")


ProposedKind: TypeAlias = "tuple[str | None, ProposedEvent | None, str]"
"""A type as text, the class that it is if that is a new one, and a remark. None: no type."""


@dataclass(frozen=True)
class ProposedField:
    """A field: its name in the record, its type as text, and how often it is null or missing.

    ``nested`` is the class of the type, if that is a class of its own. ``note`` is a remark for the reader. A field
    without a type is left out of the class.
    """

    wire_name: str
    kind: str | None
    may_be_null: bool = False
    may_be_missing: bool = False
    nested: ProposedEvent | None = None
    note: str = ""

    @property
    def is_time(self) -> bool:
        """True for a time that is always there."""
        return self.kind is not None and "datetime" in self.kind and not (self.may_be_null or self.may_be_missing)


@dataclass(frozen=True)
class ProposedEvent:
    """An event class."""

    name: str
    fields: list[ProposedField] = field(default_factory=list)

    def names(self) -> dict[str, str]:
        """Return the attributes by the names in the record. Each attribute is there once."""
        found: dict[str, str] = {}
        for each in self.fields:
            name = attribute_name(each.wire_name)
            while name in found.values() or (name in _TYPES and _has_default(each)):
                name += "_"
            found[each.wire_name] = name
        return found


def source(event: ProposedEvent, stream: Mapping[str, str], topic: str) -> str:
    """Return the source text of an event class and of its stream. ``stream`` are arguments of the stream, as text.

    Without an event time there is no stream, and a remark says so.
    """
    classes = list(_classes(event, set()))
    body = "\n\n\n".join("\n".join(lines) for lines in classes)
    if "event_time" in stream:
        arguments = ", ".join(f"{name}={text}" for name, text in stream.items())
        end = f'{attribute_name(topic)} = Stream("{topic}", {event.name}, {arguments})'
    else:
        end = f"# A stream needs a time that each record has. No field is one, so there is no stream of {topic} yet."
    imports = _imports(f"{body}\n{end}")
    return f"{imports}\n\n\n{body}\n\n\n{end}\n"


def _imports(text: str) -> str:
    """Return the imports of the names that the text has."""
    code = "\n".join(line.partition("  #")[0] for line in text.splitlines() if not line.lstrip().startswith("#"))
    words = set(re.findall(r"\w+", re.sub(r'"[^"]*"', "", code)))
    lines = []
    for line, names in _IMPORTS.items():
        used = [name for name in names if name in words]
        if used:
            lines.append(f"{line.partition(' import ')[0]} import {', '.join(used)}")
    used = sorted(words & set(_HEADRACE))
    return "\n".join([*lines, *([""] if lines else []), f"from headrace import {', '.join(used)}"])


def _classes(event: ProposedEvent, known: set[str]) -> Iterator[list[str]]:
    """Yield the lines of each class, a nested one before the class that has it."""
    for each in event.fields:
        if each.nested is not None and each.nested.name not in known:
            known.add(each.nested.name)
            yield from _classes(each.nested, known)
    yield list(_lines(event))


def _lines(event: ProposedEvent) -> Iterator[str]:
    names = event.names()
    present = [each for each in event.fields if each.kind is not None]
    renaming = _rename({each.wire_name: names[each.wire_name] for each in present})
    yield f"class {event.name}(Event{renaming}):"
    for each in sorted(present, key=_has_default):
        yield _line(names[each.wire_name], each)
    if not present:
        yield "    pass"
    for each in event.fields:
        if each.kind is None:
            yield f"    # {names[each.wire_name]}: {_remark(each.note)}: left out"


def _line(name: str, of: ProposedField) -> str:
    kind = f"{of.kind} | None" if _is_nullable(of) else of.kind
    default = " = None" if _has_default(of) else ""
    return f"    {name}: {kind}{default}{f'  # {_remark(of.note)}' if of.note else ''}"


def _remark(note: str) -> str:
    """Return a remark on one line. It may have words of a schema, and what follows a line's end would be code."""
    return shortened(" ".join(note.split()), _LONGEST)


def _is_nullable(of: ProposedField) -> bool:
    return of.may_be_null or of.may_be_missing


def _has_default(of: ProposedField) -> bool:
    return of.may_be_missing


def _rename(names: Mapping[str, str]) -> str:
    """Return the argument that gives each attribute its name in the record."""
    other = {name: wire for wire, name in names.items() if name != wire}
    if not other:
        return ""
    for rule, turn in (("camel", _camel), ("pascal", _pascal), ("kebab", _kebab)):
        if all(turn(name) == wire for wire, name in names.items()):
            return f', rename="{rule}"'
    return f", rename={{{', '.join(f'{_text(name)}: {_text(wire)}' for name, wire in other.items())}}}"


def attribute_name(text: str) -> str:
    """Return a name as Python writes it, such as ``card_id`` for ``cardId``.

    >>> attribute_name("cardId"), attribute_name("class"), attribute_name("2nd.try")
    ('card_id', 'class_', 'field_2_nd_try')
    """
    name = text if text.isidentifier() and text == text.lower() else "_".join(_WORD.findall(text)).lower()
    name = name.strip("_") or "field_"
    name = name if name[0].isalpha() else f"field_{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def class_name(text: str) -> str:
    """Return the name of a class.

    >>> class_name("shop.card_payments")
    'ShopCardPayments'
    """
    return "".join(word.capitalize() for word in attribute_name(text).split("_") if word) or "Record"


def literal(values: Iterable[str]) -> str:
    """Return the type of a text that is one of a few."""
    return f"Literal[{', '.join(map(_text, sorted(values)))}]"


def _text(value: str) -> str:
    return json.dumps(value)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def _pascal(name: str) -> str:
    return "".join(part.title() for part in name.split("_"))


def _kebab(name: str) -> str:
    return name.replace("_", "-")
