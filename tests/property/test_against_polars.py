"""Each aggregate and window over 50,000 random events, against expressions of Polars over the rows of each window."""

from __future__ import annotations

from typing import get_args

import polars as pl
import pytest

from headrace.features.definitions.aggregates import Aggregate
from tests.support.random_readings import AGGREGATES, DAY, HOUR, SECOND, WINDOWS, differences, events, queries

ASKED = pl.col("t")
NOW = ASKED.first()
TIME, X, Y, K, ON = (pl.col(name) for name in ("time", "x", "y", "k", "on"))
PAIRED = X.is_not_null()


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
RIGHT = {
    "n": pl.len(),
    "paid": X.filter(ON).count(),
    "sum": X.sum(),
    "whole": Y.sum(),
    "mean": X.filter(ON).mean(),
    "var": X.var(ddof=0),
    "std": Y.std(ddof=0),
    "low": X.min(),
    "high": Y.filter(ON).max(),
    "first": X.drop_nulls().first(),
    "last": K.drop_nulls().last(),
    "newest": Y.tail(3).reverse(),
    "decayed": (X * 0.5 ** ((LATEST - TIME) / HOUR)).sum(),
    "distinct": K.drop_nulls().n_unique(),
    "half": X.drop_nulls().sort().get(((X.count() + 1) // 2 - 1).cast(pl.Int64), null_on_oob=True),
    "below": (X < 0).sum(),
    "since": seconds((NOW - TIME.filter(ON).max()).clip(0)),
    "age": seconds((NOW - TIME.filter(PAIRED).min()).clip(0)),
    "rhythm": seconds(TIME.diff().mean()),
    "pause": seconds(TIME.filter(ON).diff().last()),
    "ratio": Y.sum() / pl.len(),
    "share": ON.sum() / X.count(),
    "skew": moved(X, 3) / X.var(ddof=0) ** 1.5,
    "tails": moved(X, 4) / X.var(ddof=0) ** 2 - 3,
    "together": pl.corr(X.filter(PAIRED), Y.filter(PAIRED)),
    "slope": pl.cov(DAYS_AGO.filter(PAIRED), X.filter(PAIRED), ddof=0) / DAYS_AGO.filter(PAIRED).var(ddof=0),
    "moving": (Y * WEIGHT).sum() / WEIGHT.sum(),
    "by": (K == "k1").sum(),
    "sum_by": Y.filter(K == "k2").sum(),
    "top": K.drop_nulls().sort().mode().min(),
    "usual": K.filter(ON).drop_nulls().sort().mode().min(),
    "loyal": COUNTS.max() / KNOWN.sum(),
    "variety": COUNTS.entropy(base=2, normalize=True),
    "vectors": pl.concat_list(each.mean() for each in NUMBERS),
    "total": pl.concat_list(each.filter(ON).sum() for each in NUMBERS),
    "newest_v": pl.col("v").drop_nulls().last(),
    "unique": K.drop_nulls().reverse().unique(maintain_order=True).head(4),
}


def wanted(rows: pl.DataFrame, asked: pl.DataFrame, length: int | None, lag: int, tile: int) -> pl.DataFrame:
    """What Polars answers to each query from the rows of its window."""
    newest = ASKED // tile * tile + tile - lag
    inside = pl.lit(value=True) if length is None else (newest > TIME) & (newest - length <= TIME)
    pairs = asked.join(rows, on="who").filter(inside).sort("query", "time", "__source", "__row_offset")
    named = [each.alias(name) for name, each in RIGHT.items()]
    found = pairs.group_by("query", maintain_order=True).agg(named)
    return asked.select("query").join(found, on="query", how="left", maintain_order="left")


def test_no_aggregate_is_left_out() -> None:
    assert {type(aggregate) for aggregate in AGGREGATES.values()} == set(get_args(Aggregate))
    assert set(RIGHT) == set(AGGREGATES)


@pytest.mark.long
@pytest.mark.parametrize("window", WINDOWS)
def test_polars_says_the_same_of_each_aggregate(window: str) -> None:
    _, length, lag, tile = WINDOWS[window]
    rows, asked = events(), queries()
    right = wanted(rows, asked, length, lag, tile)
    assert differences(window, rows, asked, {name: right[name].to_list() for name in RIGHT}) == {}
