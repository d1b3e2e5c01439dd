"""The law of the house as a loop over rows: slow, plain, and sharing no line with the kernel."""

from __future__ import annotations

import itertools
from typing import Any

from headrace.features.expression_numpy import column, to_numpy


def value_of(tree: Any, event: dict[str, Any]) -> Any:
    """An expression over one row."""
    return to_numpy(tree, {name: column([value], _kind(value)) for name, value in event.items()}, 1).to_list()[0]


def _kind(value: Any) -> str:
    return "float" if value is None else type(value).__name__


def naive_values(spec: dict[str, Any], rows: list[dict[str, Any]], key: tuple[Any, ...], at_us: int) -> list[Any]:
    """The values of one entity at t over ``rows`` (dicts with time_us, partition, offset, event), windows inside."""
    names = [name for name, _ in spec["entity"]["keys"]]
    own = [row for row in rows if tuple(row["event"][name] for name in names) == key]
    own = [row | {"event": _with_derived(spec, row["event"])} for row in own]
    own = [row for row in own if _true(spec["where"], row["event"])]
    return [
        value
        for feature in spec["features"]
        for column_values in [[_aggregate(feature, _inside(own, window, at_us)) for window in spec["windows"]]]
        for value in _outside_in(column_values)
    ]


def _with_derived(spec: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    for name, tree in spec["derived"]:
        event = event | {name: value_of(tree, event)}
    return event


def _outside_in(by_window: list[list[Any]]) -> list[Any]:
    return [values[index] for index in range(len(by_window[0])) for values in by_window]


def _inside(rows: list[dict[str, Any]], window: dict[str, Any], at_us: int) -> list[dict[str, Any]]:
    size = window["tile_us"]
    newest, tiles = at_us // size, window["length_us"] // size
    return [row for row in rows if newest - tiles < row["time_us"] // size <= newest]


def _true(tree: Any, event: dict[str, Any]) -> bool:
    return tree is None or value_of(tree, event) is True


def _aggregate(feature: dict[str, Any], rows: list[dict[str, Any]]) -> list[Any]:
    rows = [row for row in rows if _true(feature["where"], row["event"])]
    if feature["value"] is None:
        return [len(rows)]
    pairs = [
        (row["time_us"], row["partition"], row["offset"], value_of(feature["value"], row["event"])) for row in rows
    ]
    pairs = [pair for pair in pairs if pair[3] is not None]
    values = [pair[3] for pair in pairs]
    found: list[Any]
    match feature["aggregate"]:
        case "count":
            found = [len(values)]
        case "sum":
            found = [sum(values)]
        case "mean":
            found = [sum(values) / len(values) if values else None]
        case "min":
            found = [min(values, default=None)]
        case "max":
            found = [max(values, default=None)]
        case "last":
            found = [max(pairs, key=lambda pair: pair[:3])[3] if pairs else None]
        case _:
            bounds = [float("-inf"), *feature["edges"], float("inf")]
            found = [sum(low <= value < high for value in values) for low, high in itertools.pairwise(bounds)]
    return found
