"""Watches the inputs of one model: null values, categories that were unseen before, and its label.

Once a day the newest days are compared with those before. See :func:`usual_range`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np
import polars as pl
import structlog

from headrace.errors import UnavailableError
from headrace.trainers.data.label_values import truths
from headrace.trainers.data.served_categories import CATEGORY_KINDS, OTHER
from headrace.trainers.data.served_nulls import KEPT_DAYS
from headrace.trainers.triggers.compared_days import ComparedDays, compared_days
from headrace.trainers.triggers.evidence import DAY_US
from headrace.trainers.triggers.usual_range import DailySums, UsualRange, usual_range
from headrace.trainers.triggers.watched_inputs import FALSE_MARKS_A_YEAR, LABEL, SAMPLE_DAYS, WatchedInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from headrace.models.manifest import TimeSpan
    from headrace.trainers.data.model_log import ModelLog
    from headrace.trainers.data.served_nulls import ServedNulls
    from headrace.trainers.definitions import Model

logger = structlog.get_logger(__name__)
MOST_CODES = 100
"""A whole number with more different values than this in the days before is a number, not a category."""
SPREAD_US = 3_600_000_000
_MOST_CLASSES = 10
_YEAR = 365


class _Series(NamedTuple):
    """What is watched: a name, what of it, its daily sums, and the days that are compared."""

    name: str
    what: str
    sums: DailySums
    days: ComparedDays


class InputWatch:
    """Looks at the inputs of a model once a day of event time. Not for several threads at once."""

    def __init__(self, model: Model, log: ModelLog, nulls: ServedNulls) -> None:
        self._model = model
        self._own = log
        self._nulls = nulls
        self._after_us = crc32(model.name.encode()) % SPREAD_US
        self._day = self._due = -1
        self._found: list[WatchedInput] = []

    def look(self, t_us: int, excluded: Sequence[TimeSpan] = ()) -> Sequence[WatchedInput]:
        """Return the watched inputs as of the beginning of a day; none while vectors are being counted.

        It is the same list until the next look. The first look is at once, the others are in the first hour of a day,
        for each model at another time: so no tick has to look for all of them.

        The log of the model has been read at ``t_us``. Days that an excluded span touches do not count. An error is
        logged, once a day: rules do not fail for it.
        """
        day, due = t_us // DAY_US, (t_us - self._after_us) // DAY_US
        if due == self._due or day == self._day:
            self._due = due
            return self._found
        try:
            if not self._nulls.count(day):
                return []
            self._found = _judged([*self._features(day, excluded), *self._label(t_us, excluded)])
        except UnavailableError:
            raise
        except Exception as error:
            logger.exception("the inputs of a model cannot be watched", model=self._model.name, exc_info=error)
            self._found = []
        self._day, self._due = day, due
        return self._found

    def _features(self, day: int, excluded: Sequence[TimeSpan]) -> Iterator[_Series]:
        asked = self._rows(day, excluded)
        for name in self._model.request_features:
            yield from _nulls(name, asked, name, day)
            if self._is_category(name, asked, day):
                yield _unseen_of(name, asked.group_by("__day", name).agg(pl.len().alias("rows")), day)
        days, rows, nulls = self._nulls.of(self._model)
        kept = ~np.isin(days, _touched(excluded)) & (days < day)
        served = self._nulls.categories(self._model).filter(pl.col("__day").is_in(days[kept]))
        for place, (name, kind) in enumerate(self._model.features.column_kinds.items()):
            yield _series(name, "nulls", DailySums.of_share(days[kept], rows[kept], nulls[kept, place]), day)
            if kind in CATEGORY_KINDS:
                counts = served.filter(pl.col("column") == place).rename({"category": name})
                yield _unseen_of(name, counts.with_columns(pl.col(name).replace(OTHER, None)), day)

    def _label(self, t_us: int, excluded: Sequence[TimeSpan]) -> Iterator[_Series]:
        """Yield what is watched of the label: on days whose labels are all known."""
        day, task = (t_us - self._model.label.spec.within_us) // DAY_US, self._model.label.predicts
        rows = self._rows(day, excluded)
        yield from _nulls(LABEL, rows, "__label", day)
        rows = rows.filter(pl.col("__label").is_not_null())
        values = truths(rows.get_column("__label"), task).astype(np.float64)
        days = rows.get_column("__day").to_numpy()
        if not task.classes:
            yield _series(LABEL, "rate" if task.name == "binary" else "mean", _sums(days, values), day)
        for place, name in enumerate(task.classes[:_MOST_CLASSES]):
            yield _series(LABEL, f"class {name}", _sums(days, (values == place).astype(np.float64)), day)

    def _rows(self, until_day: int, excluded: Sequence[TimeSpan]) -> pl.DataFrame:
        """Return the requests of the watched days before a day, with their labels."""
        rows = self._own.labelled_since((until_day - KEPT_DAYS) * DAY_US)
        is_own = (pl.col("__day") < until_day) & ~pl.col("__day").is_in(_touched(excluded))
        return rows.filter(is_own).select("__day", "__label", *self._model.request_features)

    def _is_category(self, name: str, asked: pl.DataFrame, day: int) -> bool:
        kind = self._model.requests.field(name).kind
        if kind != "int":
            return kind in {"str", "bool"}
        before = asked.filter(pl.col("__day") < day - SAMPLE_DAYS).get_column(name)
        return before.n_unique() <= MOST_CODES


def _judged(watched: Sequence[_Series]) -> list[WatchedInput]:
    """Compare the newest days of all of them. All looks of a year at all of them share the false marks.

    What has no rows lately is left out, and labels whose squares are beyond all numbers.
    """
    there = [each for each in watched if len(each.days.sample) and np.isfinite(each.sums.squares).all()]
    judged = sum(each.days.enough for each in there)
    found = []
    for name, what, sums, days in there:
        lately = float(sums.on(days.sample).total.sum() / sums.on(days.sample).rows.sum())
        here = WatchedInput(input=name, what=what, days=len(days.reference), lately=_short(lately))
        if days.enough:
            here = _compared(here, usual_range(sums, days, FALSE_MARKS_A_YEAR / (2 * _YEAR * judged)))
        found.append(here)
    return found


def _compared(here: WatchedInput, usual: UsualRange) -> WatchedInput:
    """Return a watched input with the days before, and whether it is out of range: unseen values are if they are many.

    A share lies between 0 and 1.
    """
    low, high = (usual.low, usual.high) if here.what == "mean" else (max(usual.low, 0.0), min(usual.high, 1.0))
    return WatchedInput(
        input=here.input,
        what=here.what,
        days=here.days,
        lately=_short(usual.lately),
        before=_short(usual.before),
        low=_short(low),
        high=_short(high),
        out=usual.out and (here.what != "unseen" or usual.lately > usual.high),
    )


def _series(name: str, what: str, sums: DailySums, day: int) -> _Series:
    return _Series(name, what, sums, compared_days(sums.day, until_day=day, sample_days=SAMPLE_DAYS))


def _nulls(name: str, rows: pl.DataFrame, column: str, day: int) -> Iterator[_Series]:
    """Yield the share of null values of a column, if there are rows."""
    value = pl.col(column)
    is_null = value.is_null() | value.is_nan() if rows.schema[column].is_float() else value.is_null()
    counts = rows.group_by("__day").agg(pl.len().alias("rows"), is_null.sum().alias("hits")).sort("__day")
    yield _series(name, "nulls", _shares(counts), day)


def _unseen_of(name: str, counts: pl.DataFrame, day: int) -> _Series:
    """Return the share of values that had not been seen before the two weeks in which they are.

    ``counts`` has the ``rows`` of each value on each ``__day``. A null is never unseen.

    The two weeks are those of the sample, and as many days with rows before it, again and again. All values of the
    oldest ones are seen for the first time, so these are not compared.
    """
    days = compared_days(np.unique(counts.get_column("__day").to_numpy()), until_day=day, sample_days=SAMPLE_DAYS)
    served = np.concatenate([days.reference[len(days.reference) % SAMPLE_DAYS :], days.sample])
    weeks = pl.DataFrame({"__day": served, "weeks": np.arange(len(served)) // SAMPLE_DAYS})
    placed = counts.join(weeks, on="__day")
    first = pl.col("weeks").min().over(name)
    is_unseen = (pl.col("weeks") == first) & pl.col(name).is_not_null()
    hits = placed.with_columns(pl.when(is_unseen).then("rows").otherwise(0).alias("hits"))
    sums = hits.filter(pl.col("weeks") > 0).group_by("__day").agg(pl.col("rows").sum(), pl.col("hits").sum())
    return _series(name, "unseen", _shares(sums.sort("__day")), day)


def _shares(counts: pl.DataFrame) -> DailySums:
    columns = (counts.get_column(name).cast(pl.Int64).to_numpy() for name in ("__day", "rows", "hits"))
    return DailySums.of_share(*columns)


def _sums(day: NDArray[np.int64], values: NDArray[np.float64]) -> DailySums:
    days, index = np.unique(day, return_inverse=True)
    rows = np.bincount(index, minlength=len(days)).astype(np.int64)
    with np.errstate(over="ignore"):
        total, squares = np.bincount(index, values, len(days)), np.bincount(index, values**2, len(days))
    return DailySums(days, rows, total.astype(np.float64), squares.astype(np.float64))


def _touched(excluded: Sequence[TimeSpan]) -> list[int]:
    """Return the days that a span touches."""
    return [day for span in excluded for day in range(span.from_us // DAY_US, -(-span.to_us // DAY_US))]


def _short(number: float) -> float:
    return float(f"{number:.6g}")
