"""What is remembered: entities, feature views and feature services, compiled to a plain JSON spec with a hash."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.errors import DefinitionError
from headrace.features.definitions.expression import kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


SPEC_VERSION = 1
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
NUMBER_KINDS = ["bool", "float", "int"]


def spec_hash(spec: Mapping[str, Any] | msgspec.Struct) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of a spec."""
    canonical = json.dumps(
        msgspec.to_builtins(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def view_name(spec: Mapping[str, Any], version: str) -> str:
    """The name of a view version in the online store."""
    return f"{spec['view']}@{version}"


def checked_name(what: str, name: str) -> None:
    """Raise DefinitionError unless ``name`` can be part of a column name. ``what`` says in the error what it names."""
    if not _NAME.fullmatch(name) or "__" in name:
        message = f"{what} name {name!r}: use letters, digits and single underscores, beginning with a letter"
        raise DefinitionError(message)


def feature_columns(feature: Mapping[str, Any]) -> list[str]:
    """The column names of one feature in a spec, without view and window.

    One; or one a bucket of a histogram (``_b0`` …), a quantile of a list (``_p50`` …), a value of last-n (``_1`` …).
    """
    name = feature["name"]
    match feature["aggregate"]:
        case "histogram":
            return [f"{name}_b{bucket}" for bucket in range(len(feature["edges"]) + 1)]
        case "last_n":
            return [f"{name}_{place}" for place in range(1, feature["n"] + 1)]
        case "quantile" if isinstance(feature["q"], list):
            return [f"{name}_p{100 * q:g}".replace(".", "_") for q in feature["q"]]
    return [name]


def column_names(spec: Mapping[str, Any]) -> list[str]:
    """The column names of a view spec: features outside, windows inside."""
    return [
        f"{spec['view']}__{column}"
        for feature in spec["features"]
        for column in windowed_columns(feature, spec["windows"])
    ]


def windowed_columns(feature: Mapping[str, Any], windows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of one feature, one for each of its columns and each window, without the view's name."""
    return [f"{column}_{window['name']}" for column in feature_columns(feature) for window in windows]


def column_kinds(spec: Mapping[str, Any]) -> dict[str, str]:
    """The kind of each column of a view spec: int, float or bool."""
    kinds = {each["name"]: each["kind"] for each in spec["source"]["fields"] if not each["many"]}
    for name, tree in spec["derived"]:
        kinds[name] = kind(tree, kinds)
    found = {}
    for feature in spec["features"]:
        of = "int" if feature["value"] is None else kind(feature["value"], kinds)
        for column in windowed_columns(feature, spec["windows"]):
            found[f"{spec['view']}__{column}"] = result_kind(feature["aggregate"], of)
    return found


def result_kind(aggregate: str, of: str) -> str:
    """The kind of an aggregate's columns over values of a kind."""
    if aggregate in {"count", "histogram", "approx_distinct"}:
        return "int"
    if aggregate in {"first", "last", "last_n"}:
        return of
    return "int" if aggregate in {"sum", "min", "max"} and of != "float" else "float"
