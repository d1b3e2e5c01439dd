"""Specs: definitions as data. They are frozen structs in Python, and JSON only on the wire and under their hash.

A struct's field may have another name on the wire: ``ViewSpec.stream`` is the part ``source`` there.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, TypeVar

import msgspec

from headrace.errors import DefinitionError

SPEC_VERSION = 1
NUMBER_KINDS = ["bool", "float", "int"]
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
Spec = TypeVar("Spec", bound=msgspec.Struct)


def spec_hash(spec: msgspec.Struct) -> str:
    """Return the first 16 hex digits of SHA-256 over the canonical JSON of a spec."""
    plain = msgspec.to_builtins(spec)
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def to_document(spec: msgspec.Struct) -> dict[str, Any]:
    """Return a spec as plain JSON, with its keys in the order that they have on the wire."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec))
    if "aggregate" in document:
        return {"name": document.pop("name"), **document}
    if "windows" in document:
        document["features"] = [{"name": feature.pop("name"), **feature} for feature in document["features"]]
    return document


def read_spec(document: object, kind: type[Spec], what: str) -> Spec:
    """Return the spec in plain JSON. ``what`` names it in errors, such as "the view 'airport@…'".

    Raises DefinitionError for a spec that this release does not know.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        message = f"{what} has a spec that this release cannot read: {error}: upgrade headrace"
        raise DefinitionError(message) from error


def checked_name(what: str, name: object) -> None:
    """Raise DefinitionError unless ``name`` can be part of a column name. ``what`` is the word for it in the error."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or "__" in name:
        message = f"{what} name {name!r}: use letters, digits and single underscores, beginning with a letter"
        raise DefinitionError(message)


def result_kind(aggregate: str, of: str) -> str:
    """Return the kind of an aggregate's columns over values of the kind ``of``: a number's, str, datetime or date."""
    if aggregate in {"count", "count_by", "histogram", "approx_distinct"}:
        return "int"
    if of.startswith("decimal("):
        return "float"
    if aggregate in {"first", "last", "last_n", "top_k", "mode", "unique_list", "row_value"}:
        return of
    return "int" if aggregate in {"sum", "sum_by", "min", "max"} and of != "float" else "float"
