"""Each aggregate and window of 50,000 random events, against DuckDB's SQL over ranges of tiles, and against pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tests.support.random_readings import (
    AGGREGATES,
    DAY,
    HOUR,
    SECOND,
    T0,
    WINDOWS,
    differences,
    events,
    queries,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    import polars as pl

SCALARS = {
    "n": "count(*) FILTER (NOT asked) OVER w",
    "paid": "count(x) FILTER (on_) OVER w",
    "sum": "sum(x) OVER w",
    "whole": "sum(y) OVER w",
    "mean": "avg(x) FILTER (on_) OVER w",
    "var": "var_pop(x) OVER w",
    "std": "stddev_pop(y) OVER w",
    "low": "min(x) OVER w",
    "high": "max(y) FILTER (on_) OVER w",
    "first": "arg_min(x, place) OVER w",
    "last": "arg_max(k, place) OVER w",
    "newest": "arg_max(y, place, 3) OVER w",
    "decayed": f"sum(x * 2 ** ((time - {T0}) / {HOUR})) OVER w "
    f"* 2 ** (({T0} - greatest(t, max(time) FILTER (x IS NOT NULL) OVER w)) / {HOUR})",
    "distinct": "count(DISTINCT k) OVER w",
    "half": "quantile_disc(x, 0.5) OVER w",
    "below": "count(*) FILTER (x < 0) OVER w",
    "since": f"greatest(t, max(time) FILTER (on_) OVER w) / {SECOND} - (max(time) FILTER (on_) OVER w) / {SECOND}",
    "age": f"greatest(t, min(time) FILTER (x IS NOT NULL) OVER w) / {SECOND} "
    f"- (min(time) FILTER (x IS NOT NULL) OVER w) / {SECOND}",
    "rhythm": f"(max(time) OVER w - min(time) OVER w) / {SECOND} / nullif(count(time) OVER w - 1, 0)",
    "pause": f"list_aggregate(arg_max(time, place, 2) FILTER (on_) OVER w, 'max') / {SECOND} "
    f"- CASE count(*) FILTER (on_) OVER w WHEN 1 THEN NULL "
    f"ELSE list_aggregate(arg_max(time, place, 2) FILTER (on_) OVER w, 'min') END / {SECOND}",
    "ratio": "sum(y) OVER w / nullif(count(y) OVER w, 0)",
    "share": "count(*) FILTER (on_) OVER w / nullif(count(x) OVER w, 0)",
    "skew": "CASE WHEN count(x) OVER w = 2 THEN 0 ELSE skewness(x) OVER w * (count(x) OVER w - 2) "
    "/ sqrt(count(x) OVER w * (count(x) OVER w - 1)) END",
    "tails": "kurtosis_pop(x) OVER w",
    "together": "corr(x, y) OVER w",
    "slope": f"regr_slope(x, (time - {T0}) / {DAY}) OVER w",
    "moving": f"sum(y * 2 ** ((time - {T0}) / {HOUR})) OVER w / sum(2 ** ((time - {T0}) / {HOUR})) OVER w",
    "by": "count(*) FILTER (k = 'k1') OVER w",
    "sum_by": "sum(y) FILTER (k = 'k2') OVER w",
    "variety": "CASE count(k) OVER w WHEN 0 THEN NULL ELSE entropy(k) OVER w END",
    "vectors": "CASE count(v) OVER w WHEN 0 THEN NULL ELSE [avg(v[1]) OVER w, avg(v[2]) OVER w, avg(v[3]) OVER w] END",
    "total": "CASE count(v) FILTER (on_) OVER w WHEN 0 THEN NULL "
    "ELSE [sum(v[1]) FILTER (on_) OVER w, sum(v[2]) FILTER (on_) OVER w, sum(v[3]) FILTER (on_) OVER w] END",
    "newest_v": "arg_max(v, place) OVER w",
}
"""Window functions of DuckDB. ``place`` numbers the events by time and, within a time, by partition and offset."""


def by_duckdb(rows: pl.DataFrame, asked: pl.DataFrame, length: int | None, lag: int, tile: int) -> dict[str, list[Any]]:
    """What DuckDB answers to each query: queries and events are rows of one table, and the range counts tiles."""
    placed = rows.sort("time", "__source", "__row_offset").with_row_index("place").rename({"on": "on_"})
    frame = (
        "UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
        if length is None
        else f"{(lag + length) // tile - 1} PRECEDING AND {lag // tile} PRECEDING"
    )
    both = duckdb.connect()
    both.execute("SET threads = 1")
    both.register("events", placed.to_arrow())
    both.register("queries", asked.to_arrow())
    named = ", ".join(f"{sql} AS {name}" for name, sql in SCALARS.items())
    found = both.execute(f"""
        WITH together AS (
            SELECT who, time // {tile} AS tile, false AS asked, * EXCLUDE (who) FROM events
            UNION ALL BY NAME SELECT who, t // {tile} AS tile, true AS asked, t, query FROM queries
        ),
        answered AS (
            SELECT query, {named} FROM together
            WINDOW w AS (PARTITION BY who ORDER BY tile RANGE BETWEEN {frame})
        )
        SELECT * FROM answered WHERE query IS NOT NULL ORDER BY query
    """).fetchall()
    return dict(zip(SCALARS, map(list, list(zip(*found, strict=True))[1:]), strict=True))


PANDAS: dict[str, Callable[[Any], Any]] = {
    "n": len,
    "sum": lambda of: of.x.sum(),
    "mean": lambda of: of.x[of.on].mean(),
    "std": lambda of: of.y.std(ddof=0),
    "low": lambda of: of.x.min(),
    "last": lambda of: next(iter(of.k.dropna()[::-1]), None),
    "newest": lambda of: of.y[::-1].head(3).tolist(),
    "distinct": lambda of: of.k.nunique(),
    "half": lambda of: of.x.quantile(0.5, interpolation="lower"),
    "rhythm": lambda of: of.time.diff().mean() / SECOND,
    "pause": lambda of: next(iter(of.time[of.on].diff()[::-1]), float("nan")) / SECOND,
    "together": lambda of: of.x.corr(of.y) if of.x.count() > 1 else None,
    "by": lambda of: int((of.k == "k1").sum()),
    "sum_by": lambda of: of.y[of.k == "k2"].sum(),
    "top": lambda of: next(iter(sorted(of.k.mode())), None),
    "usual": lambda of: next(iter(sorted(of.k[of.on].mode())), None),
    "loyal": lambda of: of.k.value_counts(normalize=True).max(),
    "unique": lambda of: of.k.dropna()[::-1].drop_duplicates().head(4).tolist(),
}
"""Pandas has a word for each of these aggregates."""


def test_each_aggregate_is_said_by_one_of_them() -> None:
    assert set(SCALARS) | set(PANDAS) == set(AGGREGATES)


@pytest.mark.long
@pytest.mark.parametrize("window", WINDOWS)
def test_duckdb_says_the_same_of_each_aggregate(window: str) -> None:
    _, length, lag, tile = WINDOWS[window]
    rows, asked = events(), queries()
    assert differences(window, rows, asked, by_duckdb(rows, asked, length, lag, tile)) == {}


@pytest.mark.long
@pytest.mark.parametrize("window", WINDOWS)
def test_pandas_says_the_same_of_each_aggregate(window: str) -> None:
    _, length, lag, tile = WINDOWS[window]
    rows, asked = events(), queries()
    of_all = rows.sort("time", "__source", "__row_offset").drop("v").to_pandas()
    of_each: dict[Any, pd.DataFrame] = dict(iter(of_all.groupby("who")))
    right: dict[str, list[Any]] = {name: [] for name in PANDAS}
    for _, who, at in asked.iter_rows():
        of = of_each.get(who, of_all[:0])
        if length is not None:
            newest = at // tile * tile + tile - lag
            of = of[(of.time < newest) & (of.time >= newest - length)]
        for name, say in PANDAS.items():
            right[name].append(say(of))
    assert differences(window, rows, asked, right) == {}
