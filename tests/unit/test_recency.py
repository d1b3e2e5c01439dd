"""Seconds since the newest and the first row, and between rows: at the edges of the meanings."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from headrace import Age, Entity, FeatureView, Gap, Lifetime, Since, Stream, col
from headrace.bus.event import Event
from headrace.errors import DefinitionError
from headrace.features.definitions.feature_spec import AgeSpec, FeatureSpec, GapSpec, SinceSpec
from headrace.features.definitions.spec import to_document
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.tile_kernel import TileKernel, kernel

if TYPE_CHECKING:
    from headrace.features.definitions.aggregates import Aggregate

SECOND = 1_000_000
T0 = 1_700_000_000 * SECOND


class Ping(Event):
    sensor: int
    at: datetime
    value: float | None
    name: str | None


pings = Stream("pings", Ping, event_time="at")
FEATURES: dict[str, Aggregate] = {
    "since": Since(), "since_high": Since("value", where=col("value") > 1), "since_name": Since("name"), "age": Age(),
    "mean": Gap("mean"), "last": Gap("last"), "last_value": Gap("last", "value"),
}  # fmt: skip
KERNEL = kernel(FeatureView("r", Entity("sensor", int), pings, [Lifetime()], FEATURES).spec)


def lifted(of: TileKernel, seconds: list[float], values: list[float | None] | None = None) -> np.ndarray:
    """The partials of rows at these times."""
    times = T0 + (np.array(seconds) * SECOND).astype(np.int64)
    frame = pl.DataFrame(
        {
            "sensor": np.zeros(len(times), np.int64),
            "at": times.astype("datetime64[us]"),
            "value": values or [0.0] * len(times),
            "name": [None] * len(times),
            "__offset": np.arange(len(times)),
        },
        schema_overrides={"value": pl.Float64, "name": pl.String},
    )
    return of.lift(with_time(frame, "at"))


def answers(partials: np.ndarray, at: float) -> dict[str, Any]:
    """The value of each feature over all partials."""
    merged = KERNEL.reduce(partials, np.array([0]))
    found = KERNEL.finish(merged, np.array([T0 + int(at * SECOND)]))
    return {name: v[0].item() if p[0] else None for name, (v, p) in zip(FEATURES, found, strict=True)}


def test_times_count_from_rows_that_the_filter_keeps_and_that_have_the_value() -> None:
    found = answers(lifted(KERNEL, [0, 4, 1, 10], [2.0, None, 3.0, 0.5]), at=12.5)
    assert found == {
        "since": 2.5, "since_high": 11.5, "since_name": None, "age": 12.5, "mean": 10 / 3, "last": 6.0,
        "last_value": 9.0,
    }  # fmt: skip


def test_a_time_before_the_rows_is_no_time_at_all_not_a_negative_one() -> None:
    found = answers(lifted(KERNEL, [5, 8]), at=1)
    assert (found["since"], found["age"], found["mean"], found["last"]) == (0.0, 0.0, 3.0, 3.0)


def test_one_row_has_no_gap_and_two_rows_of_one_time_have_one_of_zero() -> None:
    assert (answers(lifted(KERNEL, [3]), 4)["mean"], answers(lifted(KERNEL, [3]), 4)["last"]) == (None, None)
    tied = answers(lifted(KERNEL, [3, 3, 1]), at=4)
    assert (tied["mean"], tied["last"]) == (1.0, 0.0)


@pytest.mark.parametrize("seconds", [[7, 7, 3], [1, 2, 9, 9, 9], [4, 4]])
def test_the_last_gap_does_not_depend_on_how_rows_are_merged(seconds: list[float]) -> None:
    wanted = answers(lifted(KERNEL, seconds), at=10)
    for order in itertools.permutations(seconds):
        partials = lifted(KERNEL, list(order))
        for cut in range(1, len(seconds)):
            tiles = KERNEL.reduce(partials, np.array([0, cut]))
            assert answers(tiles, at=10) == wanted
            assert answers(KERNEL.merge(tiles[:1], tiles[1:]), at=10) == wanted


@pytest.mark.parametrize(
    ("of", "said"),
    [("min", "lie inside a gap. Choose 'mean' or 'last'"), ("max", "cannot be merged"), ("amount", "Gap('mean', 'am")],
)
def test_a_gap_that_does_not_merge_is_refused(of: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        Gap(of)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (Since(), {"name": "", "aggregate": "since", "value": None, "where": None}),
        (Age("value"), {"name": "", "aggregate": "age", "value": ["col", "value"], "where": None}),
        (Gap("mean"), {"name": "", "aggregate": "gap", "value": None, "where": None, "of": "mean"}),
    ],
)
def test_the_specs_are_as_written(made: Any, written: dict[str, Any]) -> None:
    spec: FeatureSpec = made.spec
    assert isinstance(spec, SinceSpec | AgeSpec | GapSpec)
    assert to_document(spec) == written


def test_the_bytes_of_a_tile_are_as_written() -> None:
    tile = KERNEL.reduce(lifted(KERNEL, [0, 4], [2.0, None]), np.array([0]))
    tile["k"] = 0
    never = -(2**63)
    columns = [T0 + 4 * SECOND, T0, never, T0, 2, T0 + 4 * SECOND, T0, T0, never]
    assert np.frombuffer(tile.astype(KERNEL.layout.stored).tobytes(), "<i8").tolist() == [0, *columns]
