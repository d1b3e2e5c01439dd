"""How many of the looked-up values that were served are null, by day: counted once for all models of a trainer.

The vectors of all models are on one topic. So one pass over a day's vectors counts for all of them, and only the counts
are kept.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from headrace.base.times import utc_datetime
from headrace.errors import NotInLogYetError
from headrace.event_log.columns import ACCEPTED
from headrace.features.offline.vector_values import TEXTS, logged_columns
from headrace.models.predictions import vectors_of
from headrace.trainers.data.model_log import is_doubtful_vector
from headrace.trainers.data.served_categories import ServedCategories
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from headrace.event_log.readable_log import ReadableLog
    from headrace.trainers.definitions import Model

KEPT_DAYS = 182
"""The days that are looked at: half a year has the newest days and their reference, also of who closes at weekends."""
_NEW_DAYS = 2
"""The last day is counted once more on the next one, because its last vectors are logged after it."""
_STEP_DAYS = 7
_ROWS_AT_ONCE = 500_000
_COLUMNS = ["model", "service", "requested_at", "statuses", "values", "__verdict"]
_KEY = ["model", "service", "is_doubtful", "width", "day"]


class _Vectors(NamedTuple):
    """Vectors that are counted together: of so many values each, as anybody may write one of another number."""

    model: str
    service: str
    is_doubtful: bool
    width: int


class ServedNulls:
    """Counts the null values of the vectors of some ``models``, by name. A vector that is logged twice counts twice.

    For several threads.
    """

    def __init__(self, log: ReadableLog, models: Mapping[str, Model]) -> None:
        self._log = log
        self._models = sorted(models)
        self._columns = logged_columns((model.features.column_kinds for model in models.values()), _COLUMNS)
        self._categories = ServedCategories(models)
        self._topic = vectors_of(log.namespace).topic
        self._counts: dict[_Vectors, dict[int, NDArray[np.int64]]] = defaultdict(dict)
        self._first = self._until = 0  # the days that are counted
        self._lock = threading.Lock()

    def count(self, until_day: int) -> bool:
        """Count the days before ``until_day`` that are not counted yet, the newest ones first.

        Return False if it has read enough rows for one call before all of them were counted. Raises
        OfflineStoreUnavailableError.
        """
        with self._lock:
            if until_day > self._until:
                newest = until_day - _NEW_DAYS
                self._add(newest, until_day)
                self._first = self._first if newest < self._until else newest
                self._until = until_day
            rows, step, oldest = 0, _STEP_DAYS, until_day - KEPT_DAYS
            while self._first > oldest and rows < _ROWS_AT_ONCE:
                start = max(oldest, self._first - step)
                rows += self._add(start, self._first)
                self._first, step = start, step * 2 if rows < _ROWS_AT_ONCE // 8 else _STEP_DAYS
            return self._first <= oldest

    def of(self, model: Model) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the days, the vectors of each day, and their nulls by (day, column of the model's features).

        Vectors of other features are left out, those of another number of values, and those that the model leaves out
        because they are in doubt.
        """
        kinds = [False] if model.on_stale == "leave_out" else [False, True]
        found: dict[int, NDArray[np.int64]] = {}
        width = len(model.features.columns())
        with self._lock:
            for is_doubtful in kinds:
                counts = self._counts.get(_Vectors(model.name, model.features.version, is_doubtful, width), {})
                for day, each in counts.items():
                    found[day] = found[day] + each if day in found else each
        days = sorted(found)
        table = np.array([found[day] for day in days], np.int64).reshape(len(days), width + 1)
        return np.array(days, np.int64), table[:, 0], table[:, 1:]

    def categories(self, model: Model) -> pl.DataFrame:
        """Return how often each text was served: see :meth:`ServedCategories.of`."""
        with self._lock:
            return self._categories.of(model)

    def _add(self, first: int, until: int) -> int:
        """Count the vectors of the days from ``first`` on again. Return how many rows were read."""
        begin, end = (pa.scalar(utc_datetime(day * DAY_US), pa.timestamp("us", "UTC")) for day in (first, until))
        asked, rows = ds.field("requested_at"), 0
        found: dict[tuple[_Vectors, int], NDArray[np.int64]] = {}
        categories: list[pl.DataFrame] = []
        keep = (asked >= begin) & (asked < end) & ds.field("model").isin(self._models)
        try:
            for piece in self._log.scan(self._topic, self._columns, keep):
                rows += piece.height
                own = _own(piece)
                categories.append(self._categories.counted(own))
                for *key, day, each in _counted(own).iter_rows():
                    place, counts = (_Vectors(*key), day), np.array(each, np.int64)
                    found[place] = found[place] + counts if place in found else counts
        except NotInLogYetError:
            return 0
        self._categories.replace(first, until, until - KEPT_DAYS, categories)
        for kept in self._counts.values():
            for day in [day for day in kept if first <= day < until or day < until - KEPT_DAYS]:
                del kept[day]
        for (vectors, day), counts in found.items():
            self._counts[vectors][day] = counts
        return rows


def _own(vectors: pl.DataFrame) -> pl.DataFrame:
    """Return the accepted vectors, with the columns of :data:`_KEY`."""
    day = (pl.col("requested_at").dt.epoch("us") // DAY_US).alias("day")
    texts = [TEXTS] if TEXTS in vectors.columns else []
    own = vectors.filter((pl.col("__verdict") == ACCEPTED) & (pl.col("values").list.len() > 0))
    width = pl.col("values").list.len()
    return own.select(
        "model", "service", is_doubtful_vector().alias("is_doubtful"), width.alias("width"), day, "values", *texts
    )


def _counted(own: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of :data:`_KEY`, and a list: the number of vectors, then that of the nulls of each column."""
    own = own.with_columns(pl.int_ranges(pl.col("width")).alias("column"))
    counts = _in_columns(own).group_by(*_KEY, "column").agg(pl.len().alias("rows"), pl.col("values").sum())
    lists = counts.sort("column").group_by(_KEY).agg(pl.col("rows").first(), pl.col("values"))
    return lists.select(*_KEY, pl.concat_list(pl.col("rows").cast(pl.Int64), pl.col("values").cast(pl.List(pl.Int64))))


def _in_columns(own: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each value of each vector, whose ``values`` is true if the value is null.

    A feature that is no number is null if it has no text either.
    """
    is_null = pl.col("values").is_null() | pl.col("values").is_nan()
    if TEXTS not in own.columns:
        return own.explode("values", "column").with_columns(is_null)
    has_texts = (pl.col(TEXTS).list.len() == pl.col("width")).fill_null(value=False)
    with_texts = (
        own.filter(has_texts).explode("values", "column", TEXTS).with_columns(is_null & pl.col(TEXTS).is_null())
    )
    return pl.concat([_in_columns(own.filter(~has_texts).drop(TEXTS)), with_texts.drop(TEXTS)])
