"""Aggregates as loops over rows: each function answers from the rows of a window, oldest first."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from headrace.features.definitions.feature_spec import (
    AgeSpec,
    CorrelationSpec,
    CountBySpec,
    DecayedMeanSpec,
    EntropySpec,
    GapSpec,
    KurtosisSpec,
    ModeSpec,
    RatioSpec,
    SinceSpec,
    SkewSpec,
    SumBySpec,
    TopKSpec,
    TopShareSpec,
    TrendSpec,
    UniqueListSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = tuple[Any, float]
"""A value, and how far from it is equal by the law."""
Counted = tuple[int, int, int, Any]
"""Event time, partition, offset, value."""
_SECOND = 1_000_000
_RELATIVE = 1e-9
_LARGEST = 1e308
LEAST_VARIANCE = 1e-140
"""Values with less are taken as equal."""


def _since(_: SinceSpec, rows: list[Counted], at_us: int) -> list[Answer]:
    return [(max(0, at_us - rows[-1][0]) / _SECOND if rows else None, 0.0)]


def _age(_: AgeSpec, rows: list[Counted], at_us: int) -> list[Answer]:
    return [(max(0, at_us - rows[0][0]) / _SECOND if rows else None, 0.0)]


def _gap(feature: GapSpec, rows: list[Counted], _: int) -> list[Answer]:
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(rows)]
    if not gaps:
        return [(None, 0.0)]
    return [(gaps[-1] / _SECOND if feature.of == "last" else sum(gaps) / (len(gaps) * _SECOND), 0.0)]


def _ratio(feature: RatioSpec, rows: list[Counted], _: int) -> list[Answer]:
    sides = [[row[3][place] for row in rows if row[3][place] is not None] for place in (0, 1)]
    part, whole = (math.fsum(values) for values in sides)
    if not sides[1] or not whole:
        return [(None, 0.0)]
    found, (of_part, of_whole) = part / whole, (_RELATIVE * math.fsum(map(abs, values)) for values in sides)
    if math.isinf(found):
        return [(None, 0.0)]
    left = abs(whole) - of_whole
    return [(found, (of_part + abs(found) * of_whole) / left if left > 0 else math.inf)]


def _mean(values: list[Fraction]) -> Fraction:
    return sum(values, Fraction()) / len(values)


def _powers(values: list[Any], highest: int) -> list[Fraction] | None:
    """The exact means of the powers of the distances from the mean, from the second on; None if they are too small."""
    if not values:
        return None
    exact = [Fraction(value) for value in values]
    mean = _mean(exact)
    found = [_mean([(value - mean) ** power for value in exact]) for power in range(2, highest + 1)]
    sizes = [sum(abs(value - mean) ** power for value in exact) for power in range(2, highest + 1)]
    return None if found[0] < LEAST_VARIANCE or max(sizes) > _LARGEST else found


def _condition(values: list[Any], variance: Fraction) -> float:
    """How much larger than their spread the values are: rounding errors grow by it."""
    squares = sum(Fraction(value) ** 2 for value in values)
    return math.sqrt(squares / variance)


def _skew(_: SkewSpec, rows: list[Counted], __: int) -> list[Answer]:
    values = [row[3] for row in rows]
    powers = _powers(values, 3)
    if powers is None:
        return [(None, 0.0)]
    found = float(powers[1]) / float(powers[0]) ** 1.5
    return [(found, _RELATIVE * (1 + abs(found)) * _condition(values, powers[0]))]


def _kurtosis(_: KurtosisSpec, rows: list[Counted], __: int) -> list[Answer]:
    values = [row[3] for row in rows]
    powers = _powers(values, 4)
    if powers is None:
        return [(None, 0.0)]
    found = float(powers[2] / powers[0] ** 2) - 3
    return [(found, _RELATIVE * (3 + abs(found)) * _condition(values, powers[0]))]


def _correlation(_: CorrelationSpec, rows: list[Counted], __: int) -> list[Answer]:
    sides = [[Fraction(row[3][place]) for row in rows] for place in (0, 1)]
    of_x, of_y = (_powers(side, 2) for side in sides)
    if of_x is None or of_y is None:
        return [(None, 0.0)]
    means = [_mean(side) for side in sides]
    products = _mean([(x - means[0]) * (y - means[1]) for x, y in zip(*sides, strict=True)])
    (x,), (y,) = of_x, of_y
    slack = _RELATIVE * (_condition(sides[0], x) + _condition(sides[1], y))
    return [(float(products) / (math.sqrt(x) * math.sqrt(y)), slack)]


def _trend(feature: TrendSpec, rows: list[Counted], _: int) -> list[Answer]:
    times, values = [Fraction(row[0]) for row in rows], [Fraction(row[3]) for row in rows]
    if len(set(times)) < 2:
        return [(None, 0.0)]
    middle, mean = sum(times) / len(rows), sum(values) / len(rows)
    squares = sum((time - middle) ** 2 for time in times)
    products = sum((time - middle) * (value - mean) for time, value in zip(times, values, strict=True))
    largest = max(map(abs, values)) or Fraction(1)  # the square of a tiny value is no double
    of_values = float(largest) * math.sqrt(2 * len(rows) * sum((value / largest) ** 2 for value in values))
    slack = _RELATIVE * of_values * feature.per_us / float(times[-1] - times[0])
    return [(float(products / squares * feature.per_us), slack)]


def _decayed_mean(feature: DecayedMeanSpec, rows: list[Counted], _: int) -> list[Answer]:
    if not rows:
        return [(None, 0.0)]
    weights = [0.5 ** ((rows[-1][0] - row[0]) / feature.half_life_us) for row in rows]
    total = math.fsum(weight * row[3] for weight, row in zip(weights, rows, strict=True))
    return [(total / math.fsum(weights), _RELATIVE * max(abs(row[3]) for row in rows))]


def _category(feature: CountBySpec | SumBySpec, value: Any) -> int:
    """The place of a value's column; the last one is that of the others."""
    return feature.of.index(value) if value in feature.of else len(feature.of)


def _count_by(feature: CountBySpec, rows: list[Counted], _: int) -> list[Answer]:
    places = [_category(feature, row[3]) for row in rows]
    return [(places.count(place), 0.0) for place in range(len(feature.of) + 1)]


def _sum_by(feature: SumBySpec, rows: list[Counted], _: int) -> list[Answer]:
    found: list[list[float]] = [[] for _ in range(len(feature.of) + 1)]
    for row in rows:
        found[_category(feature, row[3][1])].append(row[3][0])
    return [(math.fsum(values), _RELATIVE * math.fsum(map(abs, values))) for values in found]


_WORD = 2**64


def _mixed(word: int) -> int:
    """The finaliser of SplitMix64."""
    word = (word + 0x9E3779B97F4A7C15) % _WORD
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> shift)) * factor % _WORD
    return word ^ (word >> 31)


def _hash(category: Any) -> int:
    """The number by which a category is kept or not."""
    data = category.encode().ljust(32, b"\0") if isinstance(category, str) else (category % _WORD).to_bytes(8, "little")
    found = 0
    for start in range(0, len(data), 8):
        found = _mixed(found ^ int.from_bytes(data[start : start + 8], "little"))
    return found


def _frequent(feature: Any, rows: list[Counted]) -> list[tuple[int, Any]]:
    """The kept categories, most frequent first, as pairs of minus their count and the category."""
    counts = Counter(row[3] for row in rows)
    return sorted((-counts[category], category) for category in sorted(counts, key=_hash)[: feature.capacity])


def _top_k(feature: TopKSpec, rows: list[Counted], _: int) -> list[Answer]:
    found = [category for _, category in _frequent(feature, rows)] + [None] * feature.n
    return [(category, 0.0) for category in found[: feature.n]]


def _mode(feature: ModeSpec, rows: list[Counted], _: int) -> list[Answer]:
    return [(next((category for _, category in _frequent(feature, rows)), None), 0.0)]


def _unique_list(feature: UniqueListSpec, rows: list[Counted], _: int) -> list[Answer]:
    newest = list(dict.fromkeys(row[3] for row in reversed(rows)))
    return [(newest[: feature.n], 0.0)]


def _top_share(feature: TopShareSpec, rows: list[Counted], _: int) -> list[Answer]:
    return [(-sum(count for count, _ in _frequent(feature, rows)[: feature.n]) / len(rows) if rows else None, 0.0)]


def _entropy(feature: EntropySpec, rows: list[Counted], _: int) -> list[Answer]:
    counts = [-count for count, _ in _frequent(feature, rows)]
    shares = [count / len(rows) for count in [*counts, len(rows) - sum(counts)] if count]
    return [(-math.fsum(share * math.log2(share) for share in shares) if rows else None, 1e-9)]


ANSWERS: dict[type, Callable[[Any, list[Counted], int], list[Answer]]] = {
    SinceSpec: _since,
    AgeSpec: _age,
    GapSpec: _gap,
    TopKSpec: _top_k,
    ModeSpec: _mode,
    TopShareSpec: _top_share,
    UniqueListSpec: _unique_list,
    EntropySpec: _entropy,
    CountBySpec: _count_by,
    SumBySpec: _sum_by,
    RatioSpec: _ratio,
    SkewSpec: _skew,
    KurtosisSpec: _kurtosis,
    CorrelationSpec: _correlation,
    TrendSpec: _trend,
    DecayedMeanSpec: _decayed_mean,
}
