"""An event class that is inferred from a sample of records in JSON."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.schemas.proposed_event import (
    ProposedEvent,
    ProposedField,
    ProposedKind,
    attribute_name,
    class_name,
    literal,
)
from headrace.bus.wire import Epoch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DECIMAL = re.compile(r"-?\d{1,12}\.(\d{1,6})")
_NAME = re.compile(r"[A-Za-z][\w-]{0,30}")
_TIMELY = {"at", "on", "time", "timestamp", "ts", "date", "when", "created", "updated", "modified"}
"""A number is a time only if its name has one of these words."""
_NAMING = {"id", "key", "name", "code", "number", "no"}
"""A text whose name has one of these words is not one of a few, however few were seen."""
_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%f")
_YEAR_2001, _YEAR_2100 = 978_307_200, 4_102_444_800
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MOST_LITERALS, _LEAST_SEEN = 6, 10
"""A text is one of a few if there are so few, and each was seen so often on average."""
_MANY_KEYS = 20
_MOST_DEPTH = 8


def inferred_event(rows: Sequence[Mapping[str, Any]], name: str) -> ProposedEvent:
    """Return an event class that reads all these JSON objects."""
    return _event(rows, name, 0)


def key_field(rows: Sequence[Mapping[str, Any]], keys: Sequence[bytes | None]) -> str | None:
    """Return the field whose value is each record's key, by its name in the record; None if there is none."""
    if not rows or any(key is None for key in keys):
        return None
    texts = [(key or b"").decode("utf-8", "replace").strip('"') for key in keys]
    for field, value in rows[0].items():
        is_plain = isinstance(value, str | int) and not isinstance(value, bool)
        if is_plain and all(str(row.get(field)) == text for row, text in zip(rows, texts, strict=True)):
            return field
    return None


def _event(rows: Sequence[Mapping[str, Any]], name: str, depth: int) -> ProposedEvent:
    counts = Counter(field for row in rows for field in row)
    return ProposedEvent(
        name,
        [
            _field(field, [row[field] for row in rows if field in row], name, depth, is_missing=count < len(rows))
            for field, count in counts.items()
        ],
    )


def _field(name: str, values: Sequence[Any], owner: str, depth: int, *, is_missing: bool) -> ProposedField:
    present = [value for value in values if value is not None]
    is_null = len(present) < len(values)
    if not present:
        return ProposedField(name, None, note="always null")
    if name.startswith("$."):
        return ProposedField(name, None, note="its name begins with '$.', as only a path may")
    kind, nested, note = _kind(name, present, owner, depth)
    return ProposedField(name, kind, is_null, is_missing, nested, note)


def _kind(name: str, values: Sequence[Any], owner: str, depth: int) -> ProposedKind:
    types = {type(value) for value in values}
    if types <= {int, float}:
        return *_number(name, values, types), ""
    if len(types) > 1:
        return None, None, f"of several types ({', '.join(sorted(each.__name__ for each in types))})"
    (kind,) = types
    if kind is str:
        text, note = _text(values)
        is_name = text.startswith("Literal") and bool(_NAMING & {*attribute_name(name).split("_")})
        return ("str", None, "") if is_name else (text, None, note)
    if kind is bool:
        return "bool", None, ""
    if depth >= _MOST_DEPTH:
        return None, None, "nested too deeply"
    return _list(name, values, owner, depth) if kind is list else _object(name, values, owner, depth)


def _number(name: str, values: Sequence[float], types: set[type]) -> tuple[str, None]:
    if int in types and any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values):
        return "float", None
    if types != {int}:
        return "float", None
    unit = _unit(values) if _TIMELY & {*attribute_name(name).split("_")} else None
    return ("int", None) if unit is None else (f'Annotated[datetime, Epoch("{unit}")]', None)


def _unit(values: Sequence[float]) -> str | None:
    """Return the unit in which all numbers are times of this century."""
    for unit, per_second in _PER_SECOND.items():
        if min(values) >= _YEAR_2001 * per_second and max(values) <= _YEAR_2100 * per_second:
            return unit if Epoch(unit).fits(values) else None  # type: ignore[arg-type]
    return None


def _text(values: Sequence[str]) -> tuple[str, str]:
    time = _time_text(values)
    if time is not None:
        return time
    if all(map(_UUID.fullmatch, values)):
        return "UUID", ""
    decimals = [_DECIMAL.fullmatch(value) for value in values]
    if all(decimals):
        places = max(len(found[1]) for found in decimals if found)
        return f"Annotated[Decimal, Places({places})]", f"at most {places} places were seen"
    distinct = set(values)
    is_few = 1 < len(distinct) <= _MOST_LITERALS and len(values) >= len(distinct) * _LEAST_SEEN
    if is_few and all(map(_NAME.fullmatch, distinct)):
        return literal(distinct), "any other text would be a dead letter"
    return "str", ""


def _time_text(values: Sequence[str]) -> tuple[str, str] | None:
    if all(map(_is_time, values)):
        return "datetime", ""
    for form in _FORMS:
        if all(_has_form(value, form) for value in values):
            return f'Annotated[datetime, TimeText("{form}")]', "without a zone: taken as UTC"
    if all(_DATE.fullmatch(value) and _has_form(value, "%Y-%m-%d") for value in values):
        return "date", ""
    return None


def _is_time(value: str) -> bool:
    """Return whether it is RFC 3339 text with a zone, as msgspec reads it."""
    try:
        return msgspec.convert(value, datetime).tzinfo is not None
    except msgspec.ValidationError:
        return False


def _has_form(value: str, form: str) -> bool:
    try:
        datetime.strptime(value, form)  # noqa: DTZ007 - only its form matters
    except ValueError:
        return False
    return True


def _list(name: str, values: Sequence[list[Any]], owner: str, depth: int) -> ProposedKind:
    items = [item for value in values for item in value]
    present = [item for item in items if item is not None]
    if not present:
        return None, None, "a list that is always empty"
    kind, nested, note = _kind(name, present, owner, depth + 1)
    if kind is None or kind.startswith(("list", "dict", "Annotated[datetime")):
        return None, None, f"a list whose items are {note or kind}"
    note = "" if kind.startswith("Literal") else note
    kind = "str" if kind.startswith("Literal") else kind
    return f"list[{kind} | None]" if len(present) < len(items) else f"list[{kind}]", nested, note


def _object(name: str, values: Sequence[dict[str, Any]], owner: str, depth: int) -> ProposedKind:
    keys = {key for value in values for key in value}
    types = {type(each) for value in values for each in value.values()}
    if not keys:
        return None, None, "an object that is always empty"
    if len(keys) > _MANY_KEYS and len(types) == 1 and types <= {int, float, bool, str}:
        return f"dict[str, {next(iter(types)).__name__}]", None, ""
    nested = _event(values, f"{owner}{class_name(name)}", depth + 1)
    if not any(each.kind for each in nested.fields):
        return None, None, "an object of which nothing is known"
    return nested.name, nested, ""
