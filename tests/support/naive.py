"""The law of the house as a loop over rows: slow, plain, and sharing no line with the kernel."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from msgspec import UNSET

from headrace.base.times import utc_datetime
from headrace.features.definitions.feature_spec import (
    ApproxDistinctSpec,
    CountSpec,
    DecayedSumSpec,
    HistogramSpec,
    LastNSpec,
    MeanSpec,
    QuantileSpec,
    RatioSpec,
    SumSpec,
)
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.masked_column import column
from tests.support.naive_aggregates import ANSWERS
from tests.support.naive_windows import chosen_rows

if TYPE_CHECKING:
    from headrace.features.definitions.feature_spec import FeatureSpec
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.definitions.windows import CalendarSpec, WindowSpec
    from tests.support.naive_aggregates import Answer, Counted


def value_of(tree: Any, event: dict[str, Any]) -> Any:
    """An expression over one row."""
    return to_numpy(tree, {name: column([value], _kind(value)) for name, value in event.items()}, 1).to_list()[0]


def _kind(value: Any) -> str:
    return {"NoneType": "float", "list": "list(float)"}.get(type(value).__name__, type(value).__name__)


_RELATIVE = 1e-9


def naive_values(spec: ViewSpec, rows: list[dict[str, Any]], key: tuple[Any, ...], at_us: int) -> list[Any]:
    """The values of one entity at t over ``rows`` (dicts with time_us, partition, offset, event), windows inside."""
    return [value for value, _ in naive_answers(spec, rows, key, at_us)]


def naive_answers(spec: ViewSpec, rows: list[dict[str, Any]], key: tuple[Any, ...], at_us: int) -> list[Answer]:
    """The values with the tolerance of each."""
    own = [row for row in rows if tuple(row["event"][name] for name in spec.key_names) == key]
    own = [row | {"event": _with_derived(spec, row["event"])} for row in own]
    own = [row for row in own if _true(spec.where, row["event"])]
    rows_of = [chosen_rows(own, window, at_us) if window.is_of_rows else own for window in spec.windows]
    return [
        answer
        for feature in spec.features
        for answer_of in [ANSWERS.get(type(feature), _aggregate)]
        for counted in [[_counted(feature, rows) for rows in rows_of]]
        for by_window in [
            [answer_of(feature, _inside(of, w, at_us), at_us) for of, w in zip(counted, spec.windows, strict=True)]
        ]
        for answer in _outside_in(by_window)
    ]


def _with_derived(spec: ViewSpec, event: dict[str, Any]) -> dict[str, Any]:
    for derived in spec.derived:
        event = event | {derived.name: value_of(derived.expression, event)}
    return event


def _outside_in(by_window: list[list[Answer]]) -> list[Answer]:
    return [values[index] for index in range(len(by_window[0])) for values in by_window]


def _true(tree: Any, event: dict[str, Any]) -> bool:
    return tree is None or value_of(tree, event) is True


def _counted(feature: FeatureSpec, rows: list[dict[str, Any]]) -> list[Counted]:
    """The rows that a feature counts, with their values: its filter true, no null."""
    found = [
        (row["time_us"], row["partition"], row["offset"], _measured(feature, row["event"]))
        for row in rows
        if _true(feature.where, row["event"])
    ]
    return sorted((row for row in found if row[3] is not None), key=lambda row: row[:3])


def _measured(feature: FeatureSpec, event: dict[str, Any]) -> Any:
    """What a feature takes from a row; None for nothing. Several values are a tuple."""
    if isinstance(feature, RatioSpec):
        sides = (feature.numerator, feature.denominator)
        return tuple(_measured(side, event) if _true(side.where, event) else None for side in sides)
    if isinstance(feature, CountSpec) and feature.value is not None:
        return None if value_of(feature.value, event) is None else 1
    values = [1 if tree is None else value_of(tree, event) for tree in feature.values]
    if len(values) == 1:
        return values[0]
    return None if None in values else tuple(values)


def _inside(rows: list[Counted], window: WindowSpec, at_us: int) -> list[Counted]:
    if window.name == "lifetime" or window.is_of_rows:  # the latter were chosen before
        return rows
    size = window.tile_us
    if window.calendar is not UNSET:
        return [row for row in rows if row[0] // size <= at_us // size and _in_calendar(row[0], window.calendar, at_us)]
    newest, tiles = at_us // size - window.skipped_us // size, window.length_us // size
    return [row for row in rows if newest - tiles < row[0] // size <= newest]


def _in_calendar(time_us: int, calendar: CalendarSpec, at_us: int) -> bool:
    """Whether the local date of a time is in the period, found by counting dates back from the local date of t."""
    zone = ZoneInfo(calendar.zone)
    local, now = (utc_datetime(us).astimezone(zone).date() for us in (time_us, at_us))
    match calendar.period:
        case "day":
            return (now - local).days == calendar.ago
        case "week":
            mondays = [each - timedelta(days=each.weekday()) for each in (local, now)]
            return (mondays[1] - mondays[0]).days == 7 * calendar.ago
    return (now.year - local.year) * 12 + now.month - local.month == calendar.ago


def _aggregate(feature: FeatureSpec, rows: list[Counted], at_us: int) -> list[Answer]:
    """What one feature makes of the rows, sorted by (event time, partition, offset), of one window."""
    values = [row[3] for row in rows]
    match feature:
        case HistogramSpec(edges=edges):
            bounds = itertools.pairwise([-math.inf, *edges, math.inf])
            return [(sum(low <= value < high for value in values), 0.0) for low, high in bounds]
        case LastNSpec(n=n):
            newest = [*reversed(values)][:n]
            columns = [newest] if feature.as_list is not UNSET else [*newest, *[None] * (n - len(newest))]
            return [(value, 0.0) for value in columns]
        case QuantileSpec(bits=bits):
            wanted = feature.quantiles
            return [_quantile(sorted(values), Fraction(str(q)), 2.0 ** -(bits + 1)) for q in wanted]
        case DecayedSumSpec(half_life_us=half_life_us):
            return [_decayed(rows, half_life_us, at_us)]
        case ApproxDistinctSpec() | CountSpec():
            return [_number(feature.aggregate, [hash(value) for value in values])]
    is_vector = isinstance(feature, SumSpec | MeanSpec) and feature.dim is not UNSET
    return [_vector(feature, values) if is_vector else _number(feature.aggregate, values)]


def _vector(feature: Any, vectors: list[list[float]]) -> Answer:
    """A sum or mean number by number: null if one of them is."""
    each = [_number(feature.aggregate, [vector[place] for vector in vectors]) for place in range(feature.dim)]
    found = [value for value, _ in each]
    return (None if None in found else found), max(slack for _, slack in each)


def _number(aggregate: str, values: list[Any]) -> Answer:
    if not values:
        return (0 if aggregate in {"count", "sum", "approx_distinct"} else None), 0.0
    if aggregate in {"first", "last"}:
        return values[0 if aggregate == "first" else -1], 0.0
    mean, size = math.fsum(values) / len(values), math.fsum(map(abs, values))
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    slack = _RELATIVE * math.fsum(value * value for value in values) / len(values)
    answers: dict[str, Answer] = {
        "count": (len(values), 0.0),
        "approx_distinct": (len(set(values)), 2.0),
        "sum": (math.fsum(values), _RELATIVE * size),
        "mean": (mean, _RELATIVE * size / len(values)),
        "variance": (variance, slack),
        "std": (math.sqrt(variance), math.sqrt(slack)),
        "min": (min(values), 0.0),
        "max": (max(values), 0.0),
    }
    return answers[aggregate]


def _quantile(ascending: list[Any], q: Fraction, error: float) -> Answer:
    if not ascending:
        return None, 0.0
    value = ascending[math.ceil(q * len(ascending)) - 1]
    return float(value), error * abs(value)


def _decayed(rows: list[Counted], half_life_us: int, at_us: int) -> Answer:
    at_us = max([at_us, *(row[0] for row in rows)])
    terms = [value * 0.5 ** ((at_us - time_us) / half_life_us) for time_us, _, _, value in rows]
    return math.fsum(terms), _RELATIVE * math.fsum(map(abs, terms))
