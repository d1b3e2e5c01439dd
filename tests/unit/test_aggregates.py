"""What each aggregate promises beyond the law: bounds of error, ties, idle times, and bytes that stay the same."""

from __future__ import annotations

import itertools
import math
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from headrace import (
    ApproxDistinct,
    Count,
    DecayedSum,
    Entity,
    FeatureView,
    First,
    Last,
    LastN,
    Lifetime,
    Max,
    Mean,
    Min,
    Quantile,
    Std,
    Stream,
    Sum,
    Tumbling,
    Variance,
)
from headrace.bus.codec import Decoder
from headrace.bus.event import Event
from headrace.errors import CodecError
from headrace.features.definitions.aggregates import PRECISIONS, Aggregate
from headrace.features.kernel.field import unpack
from headrace.features.kernel.hyperloglog import estimate, hash_numbers, hash_texts
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.sketches import RegisterSketch
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.streams.views.folded_view import FoldedView
from headrace.streams.views.tile_ring import TileRing

HOUR = 3_600_000_000
MINUTE = 60_000_000
T0 = 1_700_000_000_000_000 // HOUR * HOUR


class Reading(Event):
    sensor: int
    at: datetime
    value: float


readings = Stream("readings", Reading, event_time="at")


def compiled(windows: list[Any] | None = None, **features: Aggregate) -> TileKernel:
    return kernel(FeatureView("r", Entity("sensor", int), readings, windows or ["1h"], features).spec)


def lifted(of: TileKernel, values: Any, times: Any = None) -> np.ndarray:
    """The partials of rows, one a value."""
    at = np.full(len(values), T0) if times is None else np.asarray(times)
    frame = pl.DataFrame(
        {
            "sensor": np.zeros(len(at), np.int64),
            "at": at.astype("datetime64[us]"),
            "value": values,
            "__offset": np.arange(len(at)),
        },
        schema_overrides={"value": pl.Float64},
    )
    return of.lift(with_time(frame, "at"))


def answers(of: TileKernel, partials: np.ndarray, at_us: int = T0) -> list[Any]:
    """The value of each output over all partials."""
    merged = of.reduce(partials, np.array([0]))
    return [value[0].item() if there[0] else None for value, there in of.finish(merged, np.array([at_us]))]


# -- bounds of error ------------------------------------------------------------------------------------------------


def test_variance_survives_what_cancels_a_difference_of_squares() -> None:
    values = 1e9 + np.random.default_rng(1).normal(size=10_000)
    of = compiled(v=Variance("value"), s=Std("value"))
    variance, deviation = answers(of, lifted(of, values))
    assert variance == pytest.approx(np.var(values - 1e9), rel=1e-6)
    assert deviation == math.sqrt(variance)
    assert abs(np.mean(values**2) - np.mean(values) ** 2 - variance) > 1


@pytest.mark.parametrize("values", [[1e308] * 3, [-1e308] * 3, [1e308, 1e308, -1e308, -1e308, -1e308, -1e308]])
def test_a_sum_that_does_not_fit_into_a_double_is_null_and_comes_back(values: list[float]) -> None:
    of = compiled(s=Sum("value"), m=Mean("value"), d=DecayedSum("value", half_life="1h"))
    tiles = of.reduce(lifted(of, values), np.array([0, 2]))
    assert answers(of, tiles) == answers(of, lifted(of, values)) == [None] * 3
    assert answers(of, lifted(of, values), T0 + 10_000 * HOUR)[2] is None  # infinity times nothing
    assert answers(of, lifted(of, [1e308])) == [1e308] * 3


def test_equal_values_have_no_variance_however_they_are_cut() -> None:
    of = compiled(v=Variance("value"))
    partials = lifted(of, [1e9 + 0.1, None, *[1e9 + 0.1] * 8])
    tiles = of.reduce(partials, np.array([0, 3]))
    assert answers(of, partials) == answers(of, tiles) == [0.0]
    assert of.reduce(partials, np.array([0, 1, 2]))["c1"].tolist() == [1e9 + 0.1, 0.0, 1e9 + 0.1]


def test_variance_beyond_a_double_is_null_and_of_one_row_zero() -> None:
    of = compiled(v=Variance("value"))
    assert answers(of, lifted(of, [1e200, -1e200])) == [None]
    assert answers(of, lifted(of, [7.5])) == [0.0]


@pytest.mark.parametrize("precision", [PRECISIONS[0], 10, PRECISIONS[-1]])
@pytest.mark.parametrize("count", [1, 30, 1_000, 100_000])
def test_distinct_counts_are_within_four_standard_errors(precision: int, count: int) -> None:
    of = compiled(d=ApproxDistinct("value", precision))
    repeated = np.concatenate([np.arange(count), np.arange(count)]) * 0.37
    (found,) = answers(of, lifted(of, repeated))
    assert abs(found - count) <= max(4 * 1.04 / math.sqrt(2**precision) * count, 0.5)


@pytest.mark.slow
def test_the_estimator_has_no_bias_at_any_size() -> None:
    sketch, nothing = RegisterSketch(10), np.zeros(0, np.int64)
    for count in (10, 500, 2_500, 5_000, 50_000):
        found = []
        for salt in range(100):
            hashes = hash_numbers(np.arange(count) + salt * 1_000_000)
            entries, owner = sketch.collapse(sketch.lift(hashes, nothing, nothing), np.zeros(count, np.int64), nothing)
            found.append(sketch.value(entries, np.array([len(owner)]), 0)[0][0])
        assert np.mean(found) == pytest.approx(count, rel=4 * 0.0325 / math.sqrt(100))


@pytest.mark.parametrize(("ranks", "most"), [(4, 14), (56, 63)])
def test_the_estimator_is_right_from_one_to_as_many_as_there_are_hashes(ranks: int, most: int) -> None:
    registers = 1024
    for count in 2.0 ** np.arange(most):
        below = np.exp(count * np.log1p(-(2.0 ** -np.arange(ranks - 1)) / registers))
        expected = registers * np.diff(np.concatenate([[0.0], below, [1.0]]))
        assert estimate(expected[None, :])[0] == pytest.approx(count, rel=0.01)


def test_the_estimator_knows_both_ends() -> None:
    untouched, full = np.zeros((1, 56), np.int64), np.zeros((1, 56), np.int64)
    untouched[0, 0] = full[0, -1] = 1024
    assert estimate(untouched).tolist() == [0.0]
    assert 1e17 < estimate(full)[0] < 2**63


@pytest.mark.parametrize("error", [0.25, 0.05, 0.01, 0.001])
def test_quantiles_are_within_their_relative_error(error: float) -> None:
    values = np.random.default_rng(2).lognormal(sigma=4, size=999) * np.where(np.arange(999) % 3, 1, -1)
    wanted = [0.001, 0.25, 0.5, 0.9, 0.999]
    of = compiled(q=Quantile("value", wanted, error=error))
    ascending = np.sort(values)
    for q, found in zip(wanted, answers(of, lifted(of, values)), strict=True):
        right = ascending[math.ceil(q * 999) - 1]
        assert abs(found - right) <= error * abs(right)


def test_a_quantile_counts_exactly() -> None:
    of = compiled(q=Quantile("value", 0.7))
    assert answers(of, lifted(of, np.arange(10.0)))[0] == pytest.approx(6, rel=0.01)  # not 7, as by 0.7 * 10 > 7
    assert answers(of, lifted(of, [0.0, -0.0, 0.0, 5.0])) == [0.0]


def test_a_quantile_spans_all_doubles() -> None:
    for value in (1.7e308, -1.7e308, 1e-307, 3.0):
        of = compiled(q=Quantile("value", 0.5))
        assert answers(of, lifted(of, [value]))[0] == pytest.approx(value, rel=0.01)


# -- time -----------------------------------------------------------------------------------------------------------


def test_a_decayed_sum_halves_per_half_life_and_outlives_any_idle_time() -> None:
    of = compiled(windows=[Lifetime()], d=DecayedSum("value", "1h"))
    early = lifted(of, [8.0, 2.0], [T0, T0 + HOUR])
    assert answers(of, early, T0 + HOUR) == [6.0]
    assert answers(of, early, T0 + 2 * HOUR) == [3.0]
    assert answers(of, early, T0) == [6.0]  # before the newest event: as it stood then
    ages = lifted(of, [8.0, 2.0], [T0 - 10**6 * HOUR, T0])
    assert answers(of, ages, T0) == [2.0]
    assert answers(of, ages[::-1], T0 + 10**6 * HOUR) == [0.0]
    assert answers(of, lifted(of, [None]), T0) == [0.0]


def test_first_and_newest_break_ties_by_partition_then_offset() -> None:
    of = compiled(f=First("value"), n=LastN("value", 4))
    partials = lifted(of, [1.0, 2.0, 3.0], [T0, T0, T0])
    merged = of.reduce(partials, np.array([0]), np.array([1, 0, 1]))
    found = [value[0].item() if there[0] else None for value, there in of.finish(merged, np.array([T0]))]
    assert found == [2.0, 3.0, 1.0, 2.0, None]


def test_a_lifetime_knows_what_was_before_1970() -> None:
    of = compiled(windows=[Lifetime(), Tumbling("1d")], n=Count())
    folded = FoldedView(of)
    times = np.array([-HOUR, T0])
    folded.fold(np.array([folded.add()] * 2), times, lifted(of, [1.0, 2.0], times), np.array([T0, T0]))
    (field,) = folded.fields(np.array([0]), np.array([2]), np.array([T0 + 10**8 * HOUR]))
    _, tiles = unpack(field, of.layout)
    assert [len(of_size) for of_size in tiles] == [0, 2]
    nothing = [np.zeros(len(of_size), np.int64) for of_size in tiles]
    values = of.evaluate(tiles, nothing, nothing, np.array([T0 + 10**8 * HOUR]))
    assert [value.tolist() for value, _ in values] == [[2], [0]]


# -- sketches in memory and bytes -----------------------------------------------------------------------------------


def test_a_ring_of_sketches_forgets_the_entries_it_replaced() -> None:
    of = compiled(windows=["1h"], d=ApproxDistinct("value"), q=Quantile("value", 0.5))
    folded, slots = FoldedView(of), np.zeros(2_000, np.int64)
    busy, quiet = folded.add(), folded.add()
    start = np.full(500, T0)
    folded.fold(slots[:500] + quiet, start, lifted(of, np.arange(500.0) - 9_000, start), start)
    (ring,) = folded.rings
    assert isinstance(ring, TileRing)
    ends = T0 + np.arange(30) * ring.places * MINUTE  # all in one place of the ring
    for end in ends:
        times = np.full(2_000, end)
        folded.fold(slots + busy, times, lifted(of, np.arange(2_000.0), times), times)
    fields = folded.fields(np.array([busy, quiet]), np.array([1, 1]), np.array([ends[-1], T0]))
    for field, rows, least in zip(fields, (2_000, 500), (0, -9_000), strict=True):
        _, (tiles,) = unpack(field, of.layout)
        distinct, middle = answers(of, tiles)
        assert distinct == pytest.approx(rows, rel=0.13)
        assert middle == pytest.approx(least + rows / 2 - 1, rel=0.01)
    for entries in ring.stored.entries:
        assert len(entries.content) < 3 * 2_000 + 4_096


@pytest.mark.parametrize("features", [{"n": Count()}, {"n": LastN("value", 1)}])
def test_the_tiles_of_a_field_ascend_wherever_the_ring_begins(features: dict[str, Aggregate]) -> None:
    of = compiled(["10m"], **features)
    folded = FoldedView(of)
    folded.add()
    for begin in range(0, 200, 7):
        times = T0 + np.arange(begin, begin + 7) * MINUTE
        folded.fold(np.zeros(7, np.int64), times, lifted(of, times / 1.0, times), np.full(7, times[-1]))
        (field,) = folded.fields(np.array([0]), np.array([1]), times[-1:])
        _, (tiles,) = unpack(field, of.layout)
        live = min(begin + 7, 10 * MINUTE // of.sizes[0])
        assert (np.diff(np.asarray(tiles["k"])) > 0).all()
        assert np.asarray(tiles["k"])[-1] == times[-1] // of.sizes[0]
        assert len(tiles) <= live


def test_merging_two_is_reducing_both() -> None:
    plain: dict[str, Aggregate] = {
        "f": First("value"), "l": Last("value"), "n": Count(), "s": Sum("value"), "low": Min("value"),
        "high": Max("value"), "v": Variance("value"), "d": DecayedSum("value", "1h"),
    }  # fmt: skip
    chance = np.random.default_rng(3)
    values = [None if gone else float(value) for gone, value in zip(chance.random(80) < 0.3, range(80), strict=True)]
    times = T0 + chance.integers(0, 5, 80) * HOUR
    for features in (plain, plain | {"sketch": ApproxDistinct("value"), "newest": LastN("value", 2)}):
        of = compiled(None, **features)
        partials = lifted(of, values, times)
        left, right = partials[chance.permutation(80)].reshape(2, 40)
        pairs = of.join([left, right])[np.arange(80).reshape(2, 40).T.reshape(-1)]
        reduced = of.reduce(pairs, np.arange(0, 80, 2))
        for one, other in ((left, right), (right, left)):
            merged = of.finish(of.merge(one, other), times[:40])
            for (got, there), (wanted, known) in zip(merged, of.finish(reduced, times[:40]), strict=True):
                assert there.tolist() == known.tolist()
                assert got[there] == pytest.approx(wanted[there], rel=1e-12)


def test_unused_sketches_cost_four_bytes_a_tile() -> None:
    plain, wide = compiled(n=Count()), compiled(n=Count(), d=ApproxDistinct("value"), q=Quantile("value", 0.9))
    assert plain.layout.stored == plain.tile
    assert wide.layout.stored.itemsize == plain.tile.itemsize + 2 * 4


def test_a_field_with_sketches_has_these_bytes() -> None:
    of = compiled(d=ApproxDistinct("value"), q=Quantile("value", 0.5), n=LastN("value", 1))
    folded = FoldedView(of)
    times = np.array([T0, T0, T0 + 60_000_000])
    values = [1.5, 1.5, -2.0]
    folded.fold(np.array([folded.add()] * 3), times, lifted(of, values, times), times)
    (field,) = folded.fields(np.array([0]), np.array([3]), times[-1:])
    assert field.hex() == (
        "02" "00" "0100" "00000000" "0300000000000000" "00bf02ec230a0600" "00bf02ec230a0600" "02000000" "00000000"
        "0855b00100000000" "01000000" "01000000" "01000000"
        "0955b00100000000" "01000000" "01000000" "01000000"
        "8422" "45ac"
        "020000000080ff43" "010000000000003c"
        "00386fe8230a0600" "0100000000000000" "000000000000f83f"
        "00bf02ec230a0600" "0200000000000000" "00000000000000c0"
    )  # fmt: skip
    _, (tiles,) = unpack(field, of.layout)
    assert answers(of, tiles[:1]) == [1, pytest.approx(1.5, rel=0.01), 1.5]
    assert answers(of, tiles[1:]) == [1, pytest.approx(-2.0, rel=0.01), -2.0]
    with pytest.raises(CodecError, match="does not hold 2 tiles and their entries"):
        unpack(field[:-1], of.layout)
    with pytest.raises(CodecError, match="format is 2"):
        unpack(b"\x01" + field[1:], of.layout)


def test_hashes_stay_what_they_are() -> None:
    first = "e220a8397b1dcdaf"  # what SplitMix64 begins with
    assert as_hex(hash_numbers(np.array([0, 1, -1]))) == [first, "910a2dec89025cc1", "e4d971771b652c20"]
    assert as_hex(hash_numbers(np.array([0.0, -0.0, 1.5]))) == [first, first, "d6dab18e1392608a"]
    texts = {
        "": first, "a": "d442dd5b42960211", "b": "40dea5025532f137", "ab": "593760fed2342a9c",
        "ba": "ce0c0ec21d7024a1", "ünï": "9bc39d1aa3e9dece", "a\0": "fbd62465e8cbf32e",
    }  # fmt: skip
    assert as_hex(hash_texts(list(texts))) == list(texts.values())


def as_hex(hashes: np.ndarray) -> list[str]:
    return [f"{found:016x}" for found in hashes.tolist()]


def test_texts_hash_alone_as_among_others() -> None:
    texts = ["".join(letters) for size in range(4) for letters in itertools.product("abc\0", repeat=size)]
    together = hash_texts(texts)
    assert len(set(together.tolist())) == len(texts)
    assert [hash_texts([text])[0] for text in texts] == together.tolist()


# -- what never comes in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_events_hold_no_number_that_is_none(number: str) -> None:
    payload = f'{{"sensor":1,"at":"2013-01-01T00:00:00Z","value":{number}}}'.encode()
    events, _, errors = Decoder(readings).decode([payload])
    assert not events
    assert list(errors) == [0]
