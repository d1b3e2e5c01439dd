"""The answer of a fold: features of some entities at some times, with their statuses, and the rows' verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.errors import TerminalError
from headrace.serving.feature_vectors import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pandas as pd

    from headrace.app.in_memory.given_rows import LeftOutRow, RowsInMemory
    from headrace.features.kernel.states import Values
    from headrace.serving.feature_vectors import FeatureVectors

AT = "at"
"""The column of times in the tables of a fold."""
_WORST_FIRST = list(Status)
_SHOWN = 10
"""The rows that are printed of a fold."""


@dataclass(frozen=True)
class FoldedFeatures:
    """Features of ``entities`` at ``times``, as :func:`headrace.testing.fold` returns them.

    ``answers`` has one answer for each time, with one row for each entity. ``kinds`` are those of the columns.

    >>> from datetime import UTC, datetime, timedelta
    >>> from headrace import Count, Entity, Event, FeatureView, Stream
    >>> from headrace.testing import fold
    >>> class Visit(Event):
    ...     who: str
    ...     at: datetime
    >>> visits = Stream("visits", Visit, event_time="at")
    >>> visitor = FeatureView("visitor", Entity("who"), visits, ["1h"], {"visits": Count()})
    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> found = fold(visitor, [Visit("ann", noon), Visit("bob", noon)], at=[noon, noon + timedelta(hours=2)])
    >>> found.of(who="ann").column("visitor__visits_1h")
    [1, 0]
    """

    entities: Sequence[Mapping[str, Any]]
    times: Sequence[datetime]
    answers: Sequence[FeatureVectors]
    judged: Sequence[RowsInMemory]
    kinds: Mapping[str, str]

    def __repr__(self) -> str:
        rows = self.to_dicts()
        more = f"\n… and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        return "\n".join(map(repr, rows[:_SHOWN])) + more

    @property
    def columns(self) -> list[str]:
        """The names of the feature columns."""
        return self.answers[0].columns

    def __getitem__(self, column: str) -> Any:
        """Return the value of a column, None if there is none. The fold has one entity and one time.

        Raises TerminalError if it has more, and if there is no such column.
        """
        values = self.column(column)
        if len(values) != 1:
            raise TerminalError(f"{self._size()}: choose one with .of(KEY=…, at=…), or take .column({column!r})")
        return values[0]

    def column(self, column: str) -> list[Any]:
        """Return the values of a column: for each entity, in order, one for each time.

        Raises TerminalError if there is no such column.
        """
        if column not in self.columns:
            raise TerminalError(f"there is no feature {column!r}: there are {', '.join(self.columns)}")
        place = self.columns.index(column)
        of_times = [[row[place] for row in answer.to_lists()] for answer in self.answers]
        return [values[row] for row in range(len(self.entities)) for values in of_times]

    def of(self, *, at: datetime | None = None, **keys: Any) -> FoldedFeatures:
        """Return the features of the entities with these join keys, at one time or at all.

        Raises TerminalError if there is no such entity or time.
        """
        rows = [n for n, each in enumerate(self.entities) if all(each.get(key) == keys[key] for key in keys)]
        if not rows:
            raise TerminalError(f"the fold has no entity {keys}: it has {list(map(dict, self.entities[:5]))}")
        places = [place for place, time in enumerate(self.times) if at in {None, time}]
        if not places:
            raise TerminalError(f"the fold has no time {at}: it has {[str(time) for time in self.times[:5]]}")
        answers = [_only(self.answers[place], rows) for place in places]
        chosen = [self.entities[row] for row in rows]
        return replace(self, entities=chosen, times=[self.times[place] for place in places], answers=answers)

    @property
    def status(self) -> Status:
        """The worst status of the views. The fold has one entity and one time: TerminalError if it has more."""
        return min(self.statuses().values(), key=_WORST_FIRST.index)

    def statuses(self) -> dict[str, Status]:
        """Return view → status. The fold has one entity and one time: TerminalError if it has more."""
        if len(self.entities) * len(self.times) != 1:
            raise TerminalError(f"{self._size()}: choose one with .of(KEY=…, at=…)")
        return self.answers[0].statuses(0)

    @property
    def verdicts(self) -> dict[str, int]:
        """The number of rows by verdict: accepted, rejected and duplicate. The rows are all that were given."""
        found = Counter[str]()
        for own in self.judged:
            found.update(own.frame.get_column("__verdict").to_list())
        return dict(found)

    @property
    def rejected(self) -> list[LeftOutRow]:
        """The rejected rows, with number, topic, reason and error."""
        return [row for own in self.judged for row in own.rejected()]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one dict for each entity and time: its join keys, ``at``, and the features; None for no value."""
        of_times = [answer.to_dicts() for answer in self.answers]
        return [
            {**entity, AT: time, **rows[number]}
            for number, entity in enumerate(self.entities)
            for time, rows in zip(self.times, of_times, strict=True)
        ]

    def to_polars(self) -> pl.DataFrame:
        """Return one row for each entity and time, with the columns of :meth:`to_dicts`."""
        from headrace.features.offline.feature_history import column_dtype  # it imports pandas, which takes a second

        rows = self.to_dicts()
        names = [*dict.fromkeys(name for entity in self.entities for name in entity), AT, *self.columns]
        types = {**{name: column_dtype(kind) for name, kind in self.kinds.items()}, AT: column_dtype("datetime")}
        return pl.DataFrame([pl.Series(n, [row.get(n) for row in rows], types.get(n), strict=False) for n in names])

    def to_pandas(self) -> pd.DataFrame:
        """Return one row for each entity and time, with the columns of :meth:`to_dicts`."""
        import pandas as pd

        found = self.to_polars()
        return pd.DataFrame({column.name: _pandas(column) for column in found.get_columns()}, columns=found.columns)

    def _size(self) -> str:
        return f"this fold has {len(self.entities)} entities and {len(self.times)} times"


def _pandas(column: pl.Series) -> Any:
    """Return a column for pandas. A number without a value is NaN, a time NaT, anything else None."""
    import pandas as pd

    if isinstance(column.dtype, pl.Datetime):
        return pd.DatetimeIndex(column.dt.replace_time_zone(None).to_numpy()).tz_localize("UTC")
    if column.dtype.is_numeric():
        return column.to_numpy()
    return pd.Series(column.to_list(), dtype=object)


def _only(answer: FeatureVectors, rows: Sequence[int]) -> FeatureVectors:
    """Return the answer for some of the rows."""
    views = [
        replace(
            view,
            values=[_of_rows(values, rows) for values in view.values],  # noqa: PD011 - ours, no DataFrame's
            statuses=[view.statuses[row] for row in rows],
            age_us=view.age_us[rows],
            offsets=[view.offsets[row] for row in rows],
        )
        for view in answer.views
    ]
    made = {name: _of_rows(values, rows) for name, values in answer.on_demand.items()}
    return replace(answer, rows=len(rows), views=views, on_demand=made)


def _of_rows(column: Values, rows: Sequence[int]) -> Values:
    values, present = column
    return values[rows], present[rows]
