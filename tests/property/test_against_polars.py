"""Each aggregate and window over 50,000 random events, against expressions of Polars over the rows of each window."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import numpy as np
import polars as pl
import pytest

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
from headrace.features.definitions.aggregates import Aggregate
from headrace.features.kernel.python_values import python_list
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.tile_index import TileIndex

if TYPE_CHECKING:
    from headrace.features.definitions.windows import Window

SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
T0 = 1_700_000_000_000_000 // DAY * DAY
EVENTS, ENTITIES, QUERIES, DAYS = 50_000, 20, 150, 6
ASKED = pl.col("t")
NOW = ASKED.first()
TIME, X, Y, K, ON = (pl.col(name) for name in ("time", "x", "y", "k", "on"))
PAIRED = X.is_not_null()


class Reading(Event):
    who: int
    at: datetime
    x: float | None
    y: int
    k: str | None
    on: bool
    v: Annotated[list[float], Vector(3)] | None


class Case(NamedTuple):
    """An aggregate, the same as an expression of Polars over sorted rows, and how far they may be apart, relatively."""

    aggregate: Aggregate
    wanted: pl.Expr
    error: float = 0.0


def seconds(of: pl.Expr) -> pl.Expr:
    return of / SECOND


def moved(of: pl.Expr, power: int) -> pl.Expr:
    return ((of - of.mean()) ** power).mean()


DAYS_AGO = (TIME - NOW) / DAY
WEIGHT = 0.5 ** ((TIME.max() - TIME) / HOUR)
LATEST = pl.max_horizontal(NOW, TIME.filter(PAIRED).max())
KNOWN = K.is_not_null()
NUMBERS = [pl.col("v").list.get(place) for place in range(3)]
COUNTS = K.drop_nulls().value_counts(sort=False).struct.field("count")
CASES = {
    "n": Case(Count(), pl.len()),
    "paid": Case(Count("x", where=col("on")), X.filter(ON).count()),
    "sum": Case(Sum("x"), X.sum(), 1e-9),
    "whole": Case(Sum("y"), Y.sum()),
    "mean": Case(Mean("x", where=col("on")), X.filter(ON).mean(), 1e-9),
    "var": Case(Variance("x"), X.var(ddof=0), 1e-8),
    "std": Case(Std("y"), Y.std(ddof=0), 1e-8),
    "low": Case(Min("x"), X.min()),
    "high": Case(Max("y", where=col("on")), Y.filter(ON).max()),
    "first": Case(First("x"), X.drop_nulls().first()),
    "last": Case(Last("k"), K.drop_nulls().last()),
    "newest": Case(LastN("y", 3, as_list=True), Y.tail(3).reverse()),
    "decayed": Case(DecayedSum("x", "1h"), (X * 0.5 ** ((LATEST - TIME) / HOUR)).sum(), 1e-8),
    "distinct": Case(ApproxDistinct("k", precision=14), K.drop_nulls().n_unique(), 0.05),
    "half": Case(
        Quantile("x", 0.5), X.drop_nulls().sort().get(((X.count() + 1) // 2 - 1).cast(pl.Int64), null_on_oob=True), 0.01
    ),
    "below": Case(Histogram("x", [0.0]), (X < 0).sum()),
    "since": Case(Since(where=col("on")), seconds((NOW - TIME.filter(ON).max()).clip(0))),
    "age": Case(Age("x"), seconds((NOW - TIME.filter(PAIRED).min()).clip(0))),
    "rhythm": Case(Gap("mean"), seconds(TIME.diff().mean()), 1e-9),
    "pause": Case(Gap("last", where=col("on")), seconds(TIME.filter(ON).diff().last())),
    "ratio": Case(Ratio("y", Count()), Y.sum() / pl.len(), 1e-9),
    "share": Case(Ratio(Count(where=col("on")), Count("x")), ON.sum() / X.count()),
    "skew": Case(Skew("x"), moved(X, 3) / X.var(ddof=0) ** 1.5, 1e-6),
    "tails": Case(Kurtosis("x"), moved(X, 4) / X.var(ddof=0) ** 2 - 3, 1e-6),
    "together": Case(Correlation("x", "y"), pl.corr(X.filter(PAIRED), Y.filter(PAIRED)), 1e-6),
    "slope": Case(
        Trend("x"),
        pl.cov(DAYS_AGO.filter(PAIRED), X.filter(PAIRED), ddof=0) / DAYS_AGO.filter(PAIRED).var(ddof=0),
        1e-6,
    ),
    "moving": Case(DecayedMean("y", "1h"), (Y * WEIGHT).sum() / WEIGHT.sum(), 1e-9),
    "by": Case(CountBy("k", of=["k1"]), (K == "k1").sum()),
    "sum_by": Case(SumBy("y", by="k", of=["k2"]), Y.filter(K == "k2").sum()),
    "top": Case(TopK("k", 1), K.drop_nulls().sort().mode().min()),
    "usual": Case(Mode("k", where=col("on")), K.filter(ON).drop_nulls().sort().mode().min()),
    "loyal": Case(TopShare("k"), COUNTS.max() / KNOWN.sum(), 1e-12),
    "variety": Case(Entropy("k"), COUNTS.entropy(base=2, normalize=True), 1e-9),
    "vectors": Case(Mean("v", dim=3), pl.concat_list(each.mean() for each in NUMBERS), 1e-9),
    "total": Case(Sum("v", dim=3, where=col("on")), pl.concat_list(each.filter(ON).sum() for each in NUMBERS), 1e-9),
    "newest_v": Case(Last("v", dim=3), pl.col("v").drop_nulls().last()),
    "unique": Case(UniqueList("k", most=4), K.drop_nulls().reverse().unique(maintain_order=True).head(4)),
}
WINDOWS: dict[str, tuple[Window, int | None, int, int]] = {
    "1h": ("1h", HOUR, 0, MINUTE),
    "1d": (Sliding("1d", every="1h"), DAY, 0, HOUR),
    "1d_lag_1d": (Sliding("1d", every="1h", lag="1d"), DAY, DAY, HOUR),
    "tumbling_1d": (Tumbling("1d"), DAY, 0, DAY),
    "lifetime": (Lifetime(), None, 0, 1),
}


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


def wanted(rows: pl.DataFrame, asked: pl.DataFrame, length: int | None, lag: int, tile: int) -> pl.DataFrame:
    """What Polars answers to each query from the rows of its window."""
    newest = ASKED // tile * tile + tile - lag
    inside = pl.lit(value=True) if length is None else (newest > TIME) & (newest - length <= TIME)
    pairs = asked.join(rows, on="who").filter(inside).sort("query", "time", "__source", "__row_offset")
    named = [case.wanted.alias(name) for name, case in CASES.items()]
    found = pairs.group_by("query", maintain_order=True).agg(named)
    return asked.select("query").join(found, on="query", how="left", maintain_order="left")


def test_no_aggregate_is_left_out() -> None:
    assert {type(case.aggregate) for case in CASES.values()} == set(get_args(Aggregate))


@pytest.mark.long
@pytest.mark.parametrize("window", WINDOWS)
def test_polars_says_the_same_of_each_aggregate(window: str) -> None:
    made, length, lag, tile = WINDOWS[window]
    readings = Stream("readings", Reading, event_time="at")
    view = FeatureView(
        "v", Entity("who", int), readings, [made], {name: case.aggregate for name, case in CASES.items()}
    )
    rows, asked = events(), queries()
    of = kernel(view.spec)
    frame = rows.rename({"time": "__time"}).with_columns(pl.from_epoch("__time", time_unit="us").alias("at"))
    index = TileIndex(of, frame, 2, view.spec.measured_fields)
    values = index.values(asked.select("who"), asked["t"].to_numpy(), np.full((QUERIES, 2), EVENTS))
    names = [name.removeprefix("v__").removesuffix(f"_{window}") for name in of.columns]
    found = {
        name: [value if there else None for value, there in zip(python_list(v), p.tolist(), strict=True)]
        for name, (v, p) in zip(names, values, strict=True)
    }
    right = wanted(rows, asked, length, lag, tile)
    wrong: dict[str, Any] = {}
    for name, case in CASES.items():
        column = next(each for each in (name, f"{name}_b0", f"{name}_k1", f"{name}_k2", f"{name}_1") if each in found)
        for one, other in zip(found[column], right[name].to_list(), strict=True):
            if not same(one, other, case.error):
                wrong.setdefault(name, (one, other))
    assert wrong == {}


def same(one: Any, other: Any, error: float) -> bool:
    """Equal, or relatively near. Over no rows Polars has no group, and headrace 0, null or an empty list."""
    if other is None or (isinstance(other, float) and math.isnan(other)):
        return bool(one in (None, 0, [], [0.0] * 3))
    if isinstance(one, list) and one and isinstance(one[0], float):
        return all(same(*pair, error) for pair in zip(one, other, strict=True))
    if one is None or isinstance(one, str | list):
        return bool(one == other)
    return bool(abs(one - other) <= error * max(abs(other), 1.0))
