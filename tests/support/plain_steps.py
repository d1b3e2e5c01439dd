"""The meaning of the steps of numbers on one row, in plain Python.

Exponentials, logarithms, powers and distances are asked for one row at a time: ``tests/unit/test_number_steps.py`` and
``test_time_steps.py`` compare them with exact ones.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from fractions import Fraction
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.base.zones import time_zone
from headrace.features.kernel import elementary
from headrace.features.kernel.expression_numpy import to_numpy

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

WHITE = "[\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]*"
LEAST, BEYOND = -(2**63), 2**63


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def alone(name: str, *values: float) -> float | None:
    """The value of an elementary function of these numbers alone."""
    with np.errstate(all="ignore"):
        return finite(getattr(elementary, name)(*(np.array([float(value)]) for value in values))[0].item())


def in_64_bits(value: int) -> int | None:
    return value if LEAST <= value < BEYOND else None


def absolute(value: Any) -> Any:
    return in_64_bits(abs(value)) if isinstance(value, int) else abs(value)


def rounded(value: Any, digits: int) -> Any:
    if isinstance(value, int):
        return value
    scaled = value * 10.0**digits
    return math.copysign(round(scaled), scaled) / 10.0**digits if abs(scaled) < 2.0**52 else value


def whole(function: Callable[[float], int]) -> Callable[[Any], Any]:
    def step(value: Any) -> Any:
        return value if isinstance(value, int) or abs(value) >= 2.0**52 else math.copysign(function(value), value)

    return step


def root(value: Any) -> float | None:
    return math.sqrt(value) if value >= 0 else None


def floor_div(left: Any, right: Any) -> Any:
    if right == 0:
        return None
    return in_64_bits(left // right) if are_whole(left, right) else finite(float(left) // float(right))


def mod(left: Any, right: Any) -> Any:
    if right == 0:
        return None
    return left % right if are_whole(left, right) else finite(float(left) % float(right))


def power(base: Any, exponent: Any) -> Any:
    if not are_whole(base, exponent):
        return alone("power", base, exponent)
    if exponent < 0:
        return None
    exponent = exponent if abs(base) > 1 else 2 + exponent % 2 if exponent else 0
    return in_64_bits(base**exponent) if exponent < 100 else None


def are_whole(*values: Any) -> bool:
    return all(isinstance(value, int) for value in values)


def least(*values: Any) -> Any:
    return reduce(min, same_kind(values))


def most(*values: Any) -> Any:
    return reduce(max, same_kind(values))


def same_kind(values: tuple[Any, ...]) -> list[Any]:
    is_float = any(isinstance(value, float) for value in values)
    return [float(value) if is_float else value for value in values]


def seconds_since(later: datetime, earlier: datetime) -> float:
    return (later - earlier) // timedelta(microseconds=1) / 1e6


def cast(value: Any, to: str) -> Any:
    if isinstance(value, str):
        return cast_text(value, to)
    if to == "int":
        return in_64_bits(int(value))
    if to == "str":
        return str(value).lower()
    return float(value) if to == "float" else bool(value)


def cast_text(value: str, to: str) -> Any:
    if to == "str":
        return value
    if to == "bool":
        return {"true": True, "false": False}.get(value)
    if to == "int":
        return in_64_bits(int(value)) if re.fullmatch("[+-]?[0-9]+", value) else None
    return finite(float(value)) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value) else None


def split_part(text: str, separator: str, part: int) -> str | None:
    parts = text.split(separator)
    place = part if part >= 0 else len(parts) + part
    return parts[place] if 0 <= place < len(parts) else None


def bucket(text: str, buckets: int) -> int:
    """SplitMix64's finaliser of the sum of those of each (place, byte), and of the length."""
    content = text.encode()
    total = sum(mixed(place << 8 | byte) for place, byte in enumerate(content))
    return mixed(total + len(content)) % buckets


def mixed(bits: int) -> int:
    bits = (bits + 0x9E3779B97F4A7C15) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> shift)) * factor % 2**64
    return bits ^ (bits >> 31)


def part(name: str, time: Any) -> int:
    return time.isoweekday() if name == "weekday" else getattr(time, name)  # type: ignore[no-any-return]


def numbers(items: list[Any]) -> list[Any]:
    return [item for item in items if item is not None]


def list_sum(items: list[Any]) -> Any:
    """The exact sum, as a fraction, rounded once."""
    known = numbers(items)
    total = sum(map(Fraction, known), Fraction())
    if all(isinstance(item, int) for item in known):
        return in_64_bits(int(total))
    return as_double(total)


def as_double(value: Fraction) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def list_mean(items: list[Any]) -> float | None:
    known = numbers(items)
    total = list_sum(known)
    return total / len(known) if known and total is not None else None


def list_contains(items: list[Any], item: Any) -> bool:
    if isinstance(item, float):
        return any(float(each) == item for each in numbers(items))
    return any(each == (float(item) if isinstance(each, float) else item) for each in numbers(items))


def list_get(items: list[Any], place: int) -> Any:
    return dict(enumerate(items)).get(place if place >= 0 else len(items) + place)


STEPS: dict[str, Callable[..., Any]] = {
    "abs": absolute,
    "floor": whole(math.floor),
    "ceil": whole(math.ceil),
    "round": rounded,
    "sqrt": root,
    **{name: partial(alone, name) for name in ("exp", "log", "log1p")},
    "floor_div": floor_div,
    "mod": mod,
    "pow": power,
    "min_of": least,
    "max_of": most,
    "cast": cast,
    **{name: partial(part, name) for name in ("year", "month", "day", "weekday", "hour", "minute")},
    "in_zone": lambda time, zone: time.astimezone(time_zone(zone)),
    "date": lambda time: time.date(),
    "haversine": lambda *degrees: to_numpy(["haversine", *(["lit", each] for each in degrees)], {}, 1).to_list()[0],
    "list_length": len,
    "list_contains": list_contains,
    "list_get": list_get,
    "list_sum": list_sum,
    "list_mean": list_mean,
    "list_min": lambda items: min(numbers(items), default=None),
    "list_max": lambda items: max(numbers(items), default=None),
    "lower": str.lower,
    "upper": str.upper,
    "strip": lambda text: re.sub(rf"^{WHITE}|{WHITE}$", "", text),
    "length": lambda text: len(list(text)),
    "contains": lambda text, part: text.find(part) >= 0,
    "starts_with": lambda text, start: text[: len(start)] == start,
    "ends_with": lambda text, end: end == "" or text[-len(end) :] == end,
    "slice": lambda text, start, stop: "".join(list(text)[slice(start, stop)]),
    "split_part": split_part,
    "bucket": bucket,
    "seconds_since": seconds_since,
}
