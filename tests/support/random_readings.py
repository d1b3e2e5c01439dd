"""50,000 random events, each aggregate over windows of them as headrace computes it, and how near others have to be."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl

from headrace import (
    Age,
    ApproxDistinct,
    Correlation,
    Count,
    CountBy,
    DecayedMean,
    DecayedSum,
    Entity,
    Entropy,
    FeatureView,
    First,
    Gap,
    Histogram,
    Kurtosis,
    Last,
    LastN,
    Lifetime,
    Max,
    Mean,
    Min,
    Mode,
    Quantile,
    Ratio,
    Since,
    Skew,
    Sliding,
    Std,
    Stream,
    Sum,
    SumBy,
    TopK,
    TopShare,
    Trend,
    Tumbling,
    UniqueList,
    Variance,
    Vector,
    col,
)  # fmt: skip
from headrace.bus.event import Event
from headrace.features.kernel.python_values import python_list
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.tile_index import TileIndex

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.definitions.aggregates import Aggregate
    from headrace.features.definitions.windows import Window

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
T0 = 1_700_000_000_000_000 // DAY * DAY
EVENTS, ENTITIES, QUERIES, DAYS = 50_000, 20, 150, 6


class Reading(Event):
    who: int
    at: datetime
    x: float | None
    y: int
    k: str | None
    on: bool
    v: Annotated[list[float], Vector(3)] | None


AGGREGATES: dict[str, Aggregate] = {
    "n": Count(),
    "paid": Count("x", where=col("on")),
    "sum": Sum("x"),
    "whole": Sum("y"),
    "mean": Mean("x", where=col("on")),
    "var": Variance("x"),
    "std": Std("y"),
    "low": Min("x"),
    "high": Max("y", where=col("on")),
    "first": First("x"),
    "last": Last("k"),
    "newest": LastN("y", 3, as_list=True),
    "decayed": DecayedSum("x", "1h"),
    "distinct": ApproxDistinct("k", precision=14),
    "half": Quantile("x", 0.5),
    "below": Histogram("x", [0.0]),
    "since": Since(where=col("on")),
    "age": Age("x"),
    "rhythm": Gap("mean"),
    "pause": Gap("last", where=col("on")),
    "ratio": Ratio("y", Count()),
    "share": Ratio(Count(where=col("on")), Count("x")),
    "skew": Skew("x"),
    "tails": Kurtosis("x"),
    "together": Correlation("x", "y"),
    "slope": Trend("x"),
    "moving": DecayedMean("y", "1h"),
    "by": CountBy("k", of=["k1"]),
    "sum_by": SumBy("y", by="k", of=["k2"]),
    "top": TopK("k", 1),
    "usual": Mode("k", where=col("on")),
    "loyal": TopShare("k"),
    "variety": Entropy("k"),
    "vectors": Mean("v", dim=3),
    "total": Sum("v", dim=3, where=col("on")),
    "newest_v": Last("v", dim=3),
    "unique": UniqueList("k", most=4),
}
ERRORS = {
    "sum": 1e-09,
    "mean": 1e-09,
    "var": 1e-08,
    "std": 1e-08,
    "decayed": 1e-08,
    "distinct": 0.05,
    "half": 0.01,
    "rhythm": 1e-09,
    "ratio": 1e-09,
    "skew": 1e-06,
    "tails": 1e-06,
    "together": 1e-06,
    "slope": 1e-06,
    "moving": 1e-09,
    "loyal": 1e-12,
    "variety": 1e-09,
    "vectors": 1e-09,
    "total": 1e-09,
}
"""How far the aggregates may be apart, relatively; the others are equal."""
WINDOWS: dict[str, tuple[Window, int | None, int, int]] = {
    "1h": ("1h", HOUR, 0, MINUTE),
    "1d": (Sliding("1d", every="1h"), DAY, 0, HOUR),
    "1d_lag_1d": (Sliding("1d", every="1h", lag="1d"), DAY, DAY, HOUR),
    "tumbling_1d": (Tumbling("1d"), DAY, 0, DAY),
    "lifetime": (Lifetime(), None, 0, 1),
}
"""Each window as defined: itself, its length (none: all), its lag and its tile, in microseconds."""


def events() -> pl.DataFrame:
    """Events out of order, with ties and nulls, of two partitions."""
    chance = np.random.default_rng(20)
    time = T0 + chance.integers(0, DAYS * DAY // SECOND, EVENTS) * SECOND
    time[::7] = time[::7] // HOUR * HOUR  # many of one time
    x = np.round(chance.normal(3, 40, EVENTS), 3)
    frame = pl.DataFrame(
        {
            "who": chance.integers(0, ENTITIES, EVENTS),
            "time": time,
            "x": pl.Series(x).set(pl.Series(chance.random(EVENTS) < 0.2), None),
            "y": chance.integers(-5, 90, EVENTS),
            "k": pl.Series([f"k{n}" for n in chance.zipf(1.5, EVENTS) % 40]).set(
                pl.Series(chance.random(EVENTS) < 0.1), None
            ),
            "on": chance.random(EVENTS) < 0.4,
            "__source": chance.integers(0, 2, EVENTS),
        }
    )
    vectors = pl.Series("v", chance.normal(1, 9, (EVENTS, 3)).tolist(), pl.List(pl.Float64))
    frame = frame.with_columns(vectors.set(pl.Series(chance.random(EVENTS) < 0.1), None))
    return frame.with_columns(pl.int_range(pl.len()).over("__source").alias("__row_offset"))


def queries() -> pl.DataFrame:
    chance = np.random.default_rng(21)
    at = T0 + chance.integers(-HOUR // SECOND, (DAYS + 1) * DAY // SECOND, QUERIES) * SECOND
    return pl.DataFrame({"query": np.arange(QUERIES), "who": chance.integers(0, ENTITIES + 1, QUERIES), "t": at})


def computed(window: str, rows: pl.DataFrame, asked: pl.DataFrame) -> dict[str, list[Any]]:
    """The answers of headrace to each query, by the names of the aggregates."""
    readings = Stream("readings", Reading, event_time="at")
    view = FeatureView("v", Entity("who", int), readings, [WINDOWS[window][0]], AGGREGATES)
    of = kernel(view.spec)
    frame = rows.rename({"time": "__time"}).with_columns(pl.from_epoch("__time", time_unit="us").alias("at"))
    index = TileIndex(of, frame, 2, view.spec.measured_fields)
    values = index.values(asked.select("who"), asked["t"].to_numpy(), np.full((QUERIES, 2), EVENTS))
    names = [name.removeprefix("v__").removesuffix(f"_{window}") for name in of.columns]
    found = {
        name: [value if there else None for value, there in zip(python_list(v), p.tolist(), strict=True)]
        for name, (v, p) in zip(names, values, strict=True)
    }
    columns = {name: (name, f"{name}_b0", f"{name}_k1", f"{name}_k2", f"{name}_1") for name in AGGREGATES}
    return {name: found[next(each for each in maybe if each in found)] for name, maybe in columns.items()}


def differences(
    window: str, rows: pl.DataFrame, asked: pl.DataFrame, right: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[Any, Any]]:
    """The first pair that differs, by aggregate: what headrace computes, and what another engine says."""
    found = computed(window, rows, asked)
    wrong: dict[str, tuple[Any, Any]] = {}
    for name, said in right.items():
        for one, other in zip(found[name], said, strict=True):
            if not same(one, other, ERRORS.get(name, 0.0)):
                wrong.setdefault(name, (one, other))
    return wrong


def same(one: Any, other: Any, error: float) -> bool:
    """Equal, or relatively near. Over no rows another engine has nothing, and headrace 0, null or an empty list."""
    if other is None or (isinstance(other, float) and math.isnan(other)):
        return bool(one in (None, 0, [], [0.0] * 3))
    if isinstance(one, list) and one and isinstance(one[0], float):
        return all(same(*pair, error) for pair in zip(one, other, strict=True))
    if one is None or isinstance(one, str | list):
        return bool(one == other)
    return bool(abs(one - other) <= error * max(abs(other), 1.0))
