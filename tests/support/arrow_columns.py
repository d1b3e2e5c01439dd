"""Columns of any type that Arrow has, also nested, with values at the ends of their types: hypothesis draws them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

UNITS, ZONES = ("s", "ms", "us", "ns"), (None, "UTC", "Europe/Berlin", "+05:30", "Mars/Base")
ENDS = [
    0, 1, -1, 2**63 - 1, -(2**63), 2**31 - 1, -(2**31), 1_709_294_400, 253_402_300_800, -62_135_596_801,
    253_402_300_800_000, 253_402_300_800_000_000, 1_709_294_400_000_000_000, 2_932_897, -719_163,
]  # fmt: skip
TEXTS = ["", "a", "7", "2024-03-01T12:00:00Z", "+250000-01-01T00:00:00Z", "x" * 50]
BYTES = [b"", b"a", b"\xff\xfe"]
NUMBERS = [0.0, 1.5, float("nan"), float("inf"), -float("inf"), 1e4]
_KINDS: Any = pa.types
_TEXTS = (pa.string(), pa.large_string())
_AS_NUMBERS: list[tuple[Any, Any]] = [
    (_KINDS.is_timestamp, pa.int64()), (_KINDS.is_duration, pa.int64()), (_KINDS.is_date64, pa.int64()),
    (_KINDS.is_time64, pa.int64()), (_KINDS.is_date32, pa.int32()), (_KINDS.is_time32, pa.int32()),
]  # fmt: skip

leaves = st.sampled_from(
    [
        *(getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)),
        pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.null(), pa.string(), pa.large_string(), pa.binary(),
        pa.large_binary(), pa.binary(3), pa.binary(16), pa.date32(), pa.date64(), pa.time32("ms"), pa.time64("ns"),
        *(pa.timestamp(unit, zone) for unit in UNITS for zone in ZONES), *map(pa.duration, UNITS),
        pa.decimal128(5, 2), pa.decimal128(38, 10), pa.decimal256(76, 3),
    ]
)  # fmt: skip
kinds = st.recursive(
    leaves,
    lambda inside: st.one_of(
        st.builds(pa.list_, inside),
        st.builds(pa.large_list, inside),
        st.builds(pa.list_, inside, st.just(2)),
        st.builds(
            pa.struct, st.lists(st.tuples(st.sampled_from(["n", "at", "d", "key"]), inside), min_size=1, max_size=3)
        ),
        st.builds(pa.map_, st.sampled_from([pa.string(), pa.int64(), pa.timestamp("s")]), inside),
        st.builds(pa.dictionary, st.just(pa.int32()), st.sampled_from([pa.string(), pa.timestamp("s", "UTC")])),
    ),
    max_leaves=4,
)


@st.composite
def columns(draw: Any, count: int) -> pa.Array:
    """A column of any type."""
    return array(draw, draw(kinds), count)


def array(draw: Any, kind: Any, count: int, *, nulls: bool = True) -> Any:
    """So many values of a type, near and at its ends."""
    mask = [nulls and draw(st.booleans()) for _ in range(count)]
    numbers = next((numbers for is_kind, numbers in _AS_NUMBERS if is_kind(kind)), None)
    if numbers is not None:
        found = array(draw, numbers, count, nulls=nulls).view(kind)
    elif _KINDS.is_struct(kind):
        inside = [array(draw, each.type, count) for each in kind]
        found = pa.StructArray.from_arrays(inside, fields=list(kind), mask=pa.array(mask, pa.bool_()))
    elif _KINDS.is_dictionary(kind):
        places = pa.array([None if no else 0 for no in mask], pa.int32())
        found = pa.DictionaryArray.from_arrays(places, array(draw, kind.value_type, 1))
    elif _KINDS.is_fixed_size_list(kind):
        found = pa.FixedSizeListArray.from_arrays(array(draw, kind.value_type, 2 * count), 2)
    elif _KINDS.is_nested(kind):
        found = listed(draw, kind, count)
    else:
        found = plain(draw, kind, mask)
    return found


def plain(draw: Any, kind: Any, mask: list[bool]) -> Any:
    """Values of a type that is not nested; texts may be no UTF-8."""
    if kind in _TEXTS and draw(st.booleans()):
        raw = pa.binary() if kind == pa.string() else pa.large_binary()
        return pa.array([None if no else draw(st.sampled_from(BYTES)) for no in mask], raw).view(kind)
    values = next(values for is_kind, values in _VALUES if is_kind(kind))(kind)
    return pa.array([None if no else draw(values) for no in mask], kind)


def listed(draw: Any, kind: Any, count: int) -> Any:
    """Lists and maps of no item up to two."""
    ends = [0]
    for _ in range(count):
        ends.append(ends[-1] + draw(st.integers(0, 2)))
    if _KINDS.is_map(kind):
        keys = array(draw, kind.key_type, ends[-1], nulls=False)
        return pa.MapArray.from_arrays(pa.array(ends, pa.int32()), keys, array(draw, kind.item_type, ends[-1]))
    is_large = _KINDS.is_large_list(kind)
    found: Any = pa.LargeListArray if is_large else pa.ListArray
    places = pa.array(ends, pa.int64() if is_large else pa.int32())
    return found.from_arrays(places, array(draw, kind.value_type, ends[-1]))


def integers(kind: Any) -> st.SearchStrategy[int]:
    low, high = 0, 2**kind.bit_width - 1
    if _KINDS.is_signed_integer(kind):
        low, high = -(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1
    return st.sampled_from(sorted({low, high, *(each for each in ENDS if low <= each <= high)}))


def decimals(kind: Any) -> st.SearchStrategy[Decimal]:
    nines = tuple(9 for _ in range(kind.precision))
    return st.sampled_from([Decimal((sign, digits, -kind.scale)) for sign in (0, 1) for digits in (nines, (1,))])


_VALUES: list[tuple[Any, Callable[[Any], st.SearchStrategy[Any]]]] = [
    (_KINDS.is_null, lambda _: st.none()),
    (_KINDS.is_boolean, lambda _: st.booleans()),
    (_KINDS.is_integer, integers),
    (_KINDS.is_floating, lambda _: st.sampled_from(NUMBERS)),
    (_KINDS.is_decimal, decimals),
    (_KINDS.is_fixed_size_binary, lambda kind: st.binary(min_size=kind.byte_width, max_size=kind.byte_width)),
    (_KINDS.is_binary, lambda _: st.sampled_from(BYTES)),
    (_KINDS.is_large_binary, lambda _: st.sampled_from(BYTES)),
    (lambda _: True, lambda _: st.sampled_from(TEXTS)),
]
