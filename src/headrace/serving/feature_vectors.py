"""The answer of a look-up: values with V, t, age and status."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.base.times import epoch_us
from headrace.errors import TerminalError
from headrace.features.kernel.python_values import in_expressions
from headrace.features.online.value_columns import lists_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    import pandas as pd

    from headrace.features.kernel.on_demand import GivenColumns, OnDemandFeatures
    from headrace.features.kernel.states import Values


class Status(StrEnum):
    """The status of one entity's values in one view: how far they can be trusted, the worst status first.

    >>> from headrace import Status
    >>> [str(status) for status in Status]
    ['out_of_range', 'rebuilding', 'behind', 'stale', 'missing', 'present']
    """

    OUT_OF_RANGE = "out_of_range"
    """The time asked for is older than the oldest time that the store still knows: there is no value."""
    REBUILDING = "rebuilding"
    """A source partition is missing or catching up: the value may lack events."""
    BEHIND = "behind"
    """The request's own event is not counted yet, though the model's features include it."""
    STALE = "stale"
    """A worker's heartbeat is too old, or the newest event is older than the view's ``max_age``."""
    MISSING = "missing"
    """The store knows no event of this entity."""
    PRESENT = "present"
    """The value is complete at V."""


_WORST_FIRST = list(Status)
_NO_NUMBERS = "OM"
"""The kinds of numpy's types that texts, times and dates have."""

FEAST_STATUSES: Mapping[Status, str | None] = {
    Status.OUT_OF_RANGE: "OUTSIDE_MAX_AGE",
    Status.REBUILDING: "OUTSIDE_MAX_AGE",
    Status.BEHIND: "OUTSIDE_MAX_AGE",
    Status.STALE: "OUTSIDE_MAX_AGE",
    Status.MISSING: "NOT_FOUND",
    Status.PRESENT: None,
}
"""The names of Feast's FieldStatus; None: each feature's value decides between PRESENT and NULL_VALUE.

Feast has no word for a value that may lack events. OUTSIDE_MAX_AGE says that it must not be used as a fresh one.
"""


@dataclass(frozen=True)
class ViewAnswer:
    """One view's part of an answer, with one item for each row. ``age_us`` is -1 where no event is known.

    ``keys`` are the join keys of the view's entity. ``dims`` has the length of each column of vectors.
    """

    view: str
    version: str
    columns: Sequence[str]
    values: Sequence[Values]
    statuses: Sequence[Status]
    age_us: np.ndarray
    offsets: Sequence[Mapping[str, int]]
    keys: Sequence[str] = ()
    dims: Mapping[str, int] = field(default_factory=dict)

    def behind(self, rows: Sequence[int]) -> ViewAnswer:
        """Return the same answer, with the status ``behind`` for these rows, unless theirs is worse."""
        statuses = list(self.statuses)
        for row in rows:
            statuses[row] = min(statuses[row], Status.BEHIND, key=_WORST_FIRST.index)
        return replace(self, statuses=statuses)


@dataclass(frozen=True)
class FeatureVectors:
    """The answer to a look-up of ``rows`` rows. ``at`` is the time t that the values are of, in UTC.

    ``on_demand`` are the columns computed from the views' columns and the request's values.

    >>> import headrace
    >>> flight = {"origin": "JFK", "dest": "LAX", "carrier": "B6", "scheduled_at": "2013-07-04T22:00:00Z"}
    >>> with headrace.connect() as hr:
    ...     found = hr.features().get("delay", flight)
    >>> found.to_dicts()[0]["airport__departures_1h"]
    0
    >>> found.statuses()["airport"].value
    'missing'
    """

    rows: int
    at: datetime
    views: Sequence[ViewAnswer]
    on_demand: Mapping[str, Values] = field(default_factory=dict)

    @cached_property
    def columns(self) -> list[str]:
        """The names of the feature columns, in the service's order."""
        return [*(column for view in self.views for column in view.columns), *self.on_demand]

    def with_on_demand(self, features: OnDemandFeatures, given: GivenColumns) -> FeatureVectors:
        """Return the same answer, with on-demand features after the columns of the views."""
        if not features.names:
            return self
        found = {name: values for view in self.views for name, values in zip(view.columns, view.values, strict=True)}
        found |= {name: in_expressions(found[name]) for name in features.reads if name in found}
        made = features.values(found, given, self.rows, epoch_us(self.at))
        return replace(self, on_demand=dict(zip(features.names, made, strict=True)))

    def with_behind(self, view: str, rows: Sequence[int]) -> FeatureVectors:
        """Return the same answer, with the status ``behind`` for these rows of a view, unless theirs is worse."""
        return replace(self, views=[each.behind(rows) if each.view == view else each for each in self.views])

    @cached_property
    def others(self) -> list[str]:
        """The columns that are texts, times, dates, lists or vectors."""
        found = zip(self.columns, self._values, strict=True)
        return [name for name, (values, _) in found if values.dtype.kind in _NO_NUMBERS]

    @cached_property
    def _values(self) -> Sequence[Values]:
        return [*(values for view in self.views for values in view.values), *self.on_demand.values()]

    def to_lists(self) -> list[list[Any]]:
        """Return one list of values for each row; None where there is no value.

        A text is a str, a time a datetime in UTC, a date a date, and a list a list.
        """
        found = [lists_of(view.values, place) for view in self.views for place in range(len(view.values))]
        found += [lists_of([values], 0) for values in self.on_demand.values()]
        columns = [values if all(present) else _with_none(values, present) for values, present in found]
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in range(self.rows)]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict for each row, by column name; None where there is no value."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.to_lists()]

    def to_numpy(self) -> np.ndarray:
        """Return a float64 matrix with one column for each feature; NaN where there is no value.

        Raises TerminalError if a feature is a text, a time, a date or a list.
        """
        if self.others:
            message = f"a matrix has numbers, and {self.others} are none: use to_pandas(), to_dicts() or to_lists()"
            raise TerminalError(message)
        columns = [np.where(present, values, np.nan) for values, present in self._values]
        return np.column_stack(columns) if columns else np.zeros((self.rows, 0))

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame with numbers as float64, NaN where there is no value.

        A text is a str or None, a list a list or None. A time is datetime64[us, UTC] and a date datetime64[ms], NaT
        where there is no value.
        """
        import pandas as pd  # noqa: PLC0415 - comes with headrace[serving]

        if not self.others:
            return pd.DataFrame(self.to_numpy(), columns=self.columns)
        found = zip(self.columns, self._values, strict=True)
        return pd.DataFrame({name: _pandas_column(*values) for name, values in found}, columns=self.columns)

    def to_model_input(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return what an estimator gets of these columns: numbers as float64, others as :meth:`to_pandas` has them.

        A list that is not there is empty. A vector has a column for each of its numbers: ``<feature>_0``, and so on.
        """
        import pandas as pd  # noqa: PLC0415

        if not self.others:
            numbers = self.to_numpy()[:, [self.columns.index(name) for name in columns]]
            return pd.DataFrame(numbers, columns=list(columns))
        found = dict(zip(self.columns, self._values, strict=True))
        dims = {name: dim for view in self.views for name, dim in view.dims.items()}
        parts = [part for name in columns for part in _model_columns(name, *found[name], dims.get(name))]
        return pd.DataFrame(dict(parts))

    def statuses(self, row: int | None = None) -> dict[str, Status]:
        """Return view → status of one row. ``row`` may be left out if the look-up had one row only.

        Raises TerminalError if it is left out and the look-up had another number of rows.
        """
        place = self._place(row, "statuses")
        return {view.view: view.statuses[place] for view in self.views}

    def ages(self, row: int | None = None) -> dict[str, timedelta | None]:
        """Return view → time from the newest known event to t, of one row; None where no event is known.

        ``row`` is that of :meth:`statuses`.
        """
        place = self._place(row, "ages")
        found = {view.view: int(view.age_us[place]) for view in self.views}
        return {view: timedelta(microseconds=age_us) if age_us >= 0 else None for view, age_us in found.items()}

    def offsets(self, row: int | None = None) -> dict[str, Mapping[str, int]]:
        """Return V of one row: view → source partition → next offset. ``row`` is that of :meth:`statuses`."""
        place = self._place(row, "offsets")
        return {view.view: view.offsets[place] for view in self.views}

    def _place(self, row: int | None, method: str) -> int:
        if row is None and self.rows != 1:
            message = f"this look-up has {self.rows} rows: name the row, such as {method}(0) for the first one"
            raise TerminalError(message)
        return row or 0


def _pandas_column(values: np.ndarray, present: np.ndarray) -> Any:
    """Return one column as :meth:`FeatureVectors.to_pandas` has it."""
    import pandas as pd  # noqa: PLC0415

    if values.dtype.kind == "M":
        times = np.where(present, values, np.datetime64("NaT"))
        if values.dtype == "M8[D]":
            return times.astype("M8[ms]")
        return pd.DatetimeIndex(times).tz_localize("UTC")
    if values.dtype.kind in _NO_NUMBERS:
        return pd.Series(_with_none(values.tolist(), present.tolist()), dtype=object)
    return np.where(present, values, np.nan)


def _model_columns(name: str, values: np.ndarray, present: np.ndarray, dim: int | None) -> Iterator[tuple[str, Any]]:
    """Yield the columns of an estimator for one column; those of a vector are its ``dim`` numbers."""
    if dim is None:
        column = _pandas_column(values, present)
        is_list = values.dtype == object and any(isinstance(value, list) for value in values)
        yield name, [[] if value is None else value for value in column] if is_list else column
        return
    numbers = np.full((len(values), dim), np.nan)
    if present.any():
        numbers[present] = values[present].tolist()
    yield from ((f"{name}_{place}", numbers[:, place]) for place in range(dim))


def _with_none(values: Sequence[Any], present: Sequence[bool]) -> list[Any]:
    return [value if there else None for value, there in zip(values, present, strict=True)]
