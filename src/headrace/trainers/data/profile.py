"""The first look at a table of rows: types, nulls, ranges, distributions, the label over time, and leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.trainers.metrics.named_metrics import metric_value

if TYPE_CHECKING:
    from collections.abc import Sequence

BINS = 10
MOST_PERIODS = 20
TOO_GOOD = 0.95
"""A single feature with an AUC at or above this probably leaks the label."""
_FEWEST = 50


class ColumnProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The profile of one column. ``low`` and ``high`` are its ends, ``middle`` is its median.

    For words these are the first and the last in alphabetical order. ``histogram`` counts in ten bins of the same width
    from the 1st to the 99th percentile; values outside are counted in the outer bins. For words and flags it counts the
    most frequent ones, which are in ``words``. ``auc`` says how well the column alone predicts the label: a flag, one
    of several words, or whether a number is above its median.
    """

    name: str
    type: str
    nulls: float
    distinct: int
    low: Any = None
    middle: Any = None
    high: Any = None
    histogram: list[int] = []
    words: list[str] = []
    auc: float | None = None


class ProfilePeriod(msgspec.Struct, frozen=True):
    """The rows of one period: when it begins, how many rows there are, how many have a label, and the label's mean."""

    begins: str
    rows: int
    labelled: int
    label: float | None


class SuspectColumn(msgspec.Struct, frozen=True):
    """A column that may know the future, and why."""

    column: str
    why: str


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The profile of a table of rows."""

    rows: int
    time: str | None
    label: str | None
    label_mean: float | None
    columns: list[ColumnProfile]
    periods: list[ProfilePeriod]
    suspects: list[SuspectColumn]


def profile(frame: pl.DataFrame, *, label: str | None = None, time: str | None = None) -> Profile:
    """Profile a table. ``label`` names the column of the outcome, ``time`` the column of times.

    The outcome is flags, numbers or words. Words have no mean, and a column that tells one of them too well is suspect.
    """
    labels = None if label is None else frame.get_column(label)
    outcome = None if labels is None or labels.dtype == pl.String else labels.cast(pl.Float64)
    questions = [] if labels is None else _questions(labels)
    columns = [
        _column(frame.get_column(name), [] if name == label else questions, is_time=name == time)
        for name in frame.columns
    ]
    return Profile(
        rows=frame.height,
        time=time,
        label=label,
        label_mean=None if outcome is None else _number(outcome.mean()),
        columns=columns,
        periods=[] if time is None or frame.is_empty() else _periods(frame.get_column(time), outcome),
        suspects=[*_too_good(columns), *(_too_late(frame, time) if time is not None else [])],
    )


def _questions(labels: pl.Series) -> list[pl.Series]:
    """Return the flags that a column may know: of words one for each, of numbers whether they are above the median."""
    if labels.dtype == pl.String:
        common = labels.drop_nulls().value_counts(sort=True, name="rows").get_column(labels.name).head(BINS)
        return [(labels == word).cast(pl.Float64) for word in common.to_list()]
    numbers = labels.cast(pl.Float64)
    if numbers.drop_nulls().is_in([0.0, 1.0]).all():
        return [numbers]
    return [(numbers > numbers.median()).cast(pl.Float64)]


def _column(column: pl.Series, questions: Sequence[pl.Series], *, is_time: bool) -> ColumnProfile:
    present, rows = column.drop_nulls(), max(len(column), 1)
    found: dict[str, Any] = {}
    is_opaque = present.dtype.is_nested() or present.dtype == pl.Binary
    if is_opaque or present.is_empty():
        found = {"distinct": 0}
    elif present.dtype.is_numeric() or present.dtype.is_temporal():
        found = _measured(present)
    else:
        found = _worded(present.cast(pl.String))
    if not is_time and not is_opaque:
        known = [auc for question in questions if (auc := _auc(column, question)) is not None]
        found["auc"] = max(known, default=None)
    return ColumnProfile(name=column.name, type=str(column.dtype), nulls=column.null_count() / rows, **found)


def _measured(present: pl.Series) -> dict[str, Any]:
    numbers = present.to_physical().cast(pl.Float64).to_numpy()
    finite = numbers[np.isfinite(numbers)]
    low, high = np.quantile(finite, [0.01, 0.99]) if len(finite) else (0.0, 0.0)
    least = max(0 if high > low else 1, 4 * BINS * float(np.spacing(max(abs(low), abs(high)))))  # a bin has a width
    counts, _ = np.histogram(np.clip(finite, low, high), bins=BINS, range=(low, max(high, low + least)))
    ends = [present.min(), present.median(), present.max()]
    return {
        "distinct": present.n_unique(),
        "histogram": counts.tolist(),
        **dict(zip(("low", "middle", "high"), map(_plain, ends), strict=True)),
    }


def _worded(present: pl.Series) -> dict[str, Any]:
    counts = present.value_counts(name="rows").sort("rows", present.name, descending=[True, False]).head(BINS)
    return {
        "distinct": present.n_unique(),
        "low": present.min(),
        "high": present.max(),
        "histogram": counts.get_column("rows").to_list(),
        "words": counts.get_column(present.name).to_list(),
    }


def _auc(column: pl.Series, outcome: pl.Series) -> float | None:
    """Return how well a column alone predicts the label, from 0.5 to 1, in either direction.

    Return None if there are too few rows or only one label.

    A word is scored by the mean label of the other rows that have it, so a rare word does not seem to know its own
    label.
    """
    rows = pl.DataFrame({"value": column, "label": outcome}).filter(pl.col("value").is_not_null(), pl.col("label") > -1)
    label = rows.get_column("label").to_numpy()
    if rows.height < _FEWEST or not 0 < label.mean() < 1:
        return None
    if column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == pl.Boolean:
        score = rows.get_column("value").to_physical().cast(pl.Float64).fill_nan(0.0).to_numpy()
    else:
        others = (pl.col("label").sum() - pl.col("label")).over("value"), (pl.len() - 1).over("value")
        mean = rows.select(pl.when(others[1] > 0).then(others[0] / others[1]).otherwise(float(label.mean())))
        score = mean.to_series().to_numpy()
    found = metric_value("auc", label > label.mean(), score)
    return round(max(found, 1 - found), 4)


def _periods(times: pl.Series, outcome: pl.Series | None) -> list[ProfilePeriod]:
    """Split the rows into up to twenty periods of the same length, whole hours if the rows span days."""
    us = times.dt.epoch("us").drop_nulls().to_numpy()
    first, last = int(us.min()), int(us.max())
    length = max(1, -(-(last - first + 1) // MOST_PERIODS))
    if length > _HOUR_US:
        length = -(-length // _HOUR_US) * _HOUR_US
        first -= first % _HOUR_US
    label = pl.Series("label", [None] * len(times), dtype=pl.Float64) if outcome is None else outcome.alias("label")
    rows = pl.DataFrame([((times.dt.epoch("us") - first) // length).alias("period"), label]).drop_nulls("period")
    found = rows.group_by("period").agg(pl.len(), pl.col("label").count().alias("labelled"), pl.col("label").mean())
    return [
        ProfilePeriod(_time(first + period * length), count, labelled, _number(mean))
        for period, count, labelled, mean in found.sort("period")
        .select("period", "len", "labelled", "label")
        .iter_rows()
    ]


def _too_good(columns: Sequence[ColumnProfile]) -> list[SuspectColumn]:
    return [
        SuspectColumn(column.name, f"tells the label too well alone: AUC {column.auc:.3f}")
        for column in columns
        if column.auc is not None and column.auc >= TOO_GOOD
    ]


def _too_late(frame: pl.DataFrame, time: str) -> list[SuspectColumn]:
    """Return the columns of times that lie after the row's own time."""
    found = []
    for name, dtype in frame.schema.items():
        if name == time or not isinstance(dtype, pl.Datetime):
            continue
        after = int((frame.get_column(name).dt.epoch("us") > frame.get_column(time).dt.epoch("us")).sum())
        if after:
            found.append(SuspectColumn(name, f"lies after {time} in {after:,} of {frame.height:,} rows"))
    return found


_HOUR_US = 3_600_000_000


def _time(us: int) -> str:
    return str(pl.Series([us]).cast(pl.Datetime("us")).dt.to_string("%Y-%m-%dT%H:%M:%SZ").item())


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | str) else _number(value)


def _number(value: Any) -> Any:
    """Return the value as a float if possible, or else its text."""
    if value is None:
        return None
    return float(value) if isinstance(value, int | float) else str(value)
