"""`headrace.preview`: what a view makes of some rows, over time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.app.in_memory.given_rows import judged_rows
from headrace.app.in_memory.memory_fold import fold_judged, newest, streams_of, with_streams
from headrace.app.preview.given_files import rows_of_files
from headrace.app.preview.line_chart import COLORS, Line, svg
from headrace.base.times import duration_us, epoch_us, utc_datetime
from headrace.errors import DefinitionError, TerminalError, require
from headrace.event_log.columns import ACCEPTED
from headrace.features.definitions.view import FeatureView
from headrace.features.kernel.role_rows import view_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from headrace.app.in_memory.folded_features import FoldedFeatures
    from headrace.app.in_memory.given_rows import GivenRows, LeftOutRow, RowsInMemory
    from headrace.base.times import Duration
    from headrace.features.definitions.service import FeatureService
    from headrace.features.kernel.on_demand import RequestValues

_STEPS = ("1s", "10s", "1m", "5m", "10m", "30m", "1h", "3h", "6h", "12h", "1d", "7d", "28d")
_FEW, _MANY, _MOST_TIMES, _ENTITIES, _SHOWN = 10, 60, 10_000, 3, 12
_NUMBERS = ("int", "float", "bool")


@dataclass(frozen=True)
class Preview:
    """Features over time, as :func:`headrace.preview` returns them. A notebook shows a chart and a table of it.

    ``found`` has the values; its entities and times are those of the preview.

    >>> from datetime import UTC, datetime
    >>> import headrace
    >>> from features.views import at_airport
    >>> flight = {"flight_id": 1, "carrier": "B6", "origin": "JFK", "dest": "LAX", "delay_minutes": 7.0}
    >>> seen = headrace.preview(at_airport, [{**flight, "departed_at": datetime(2013, 1, 1, tzinfo=UTC)}])
    >>> seen.columns[0], seen.svg()[:4]
    ('airport__departures_1h', '<svg')
    """

    name: str
    found: FoldedFeatures

    @property
    def columns(self) -> list[str]:
        """The names of the feature columns."""
        return self.found.columns

    @property
    def rejected(self) -> list[LeftOutRow]:
        """The rows that a worker would reject, with number, topic, reason and error. They count for nothing."""
        return self.found.rejected

    def to_polars(self) -> pl.DataFrame:
        """Return one row for each entity and time: join keys, ``at``, and the features."""
        return self.found.to_polars()

    def to_pandas(self) -> pd.DataFrame:
        """Return one row for each entity and time: join keys, ``at``, and the features."""
        return self.found.to_pandas()

    def svg(self, feature: str | None = None) -> str:
        """Return a chart of a feature over time as SVG (default: the first one that is a number).

        Raises TerminalError if there is no such feature, or none that is a number.
        """
        column = self._numeric(feature)
        return svg(column, self.found.times, self._lines(column))

    def chart(self, path: str | Path, feature: str | None = None) -> None:
        """Write a chart of a feature over time to a file: SVG, or PNG, which needs matplotlib.

        Raises TerminalError as :meth:`svg`, and for a name that ends in neither.
        """
        column, target = self._numeric(feature), Path(path)
        if target.suffix == ".svg":
            target.write_text(svg(column, self.found.times, self._lines(column), is_file=True), "utf-8")
        elif target.suffix == ".png":
            self._png(target, column)
        else:
            raise TerminalError(f"{target}: a chart is written as .svg or .png")

    def _numeric(self, feature: str | None) -> str:
        numbers = [name for name in self.columns if self.found.kinds.get(name, "float") in _NUMBERS]
        if feature is None and numbers:
            return numbers[0]
        if feature is None or feature not in numbers:
            raise TerminalError(f"no feature {feature!r} that is a number; there are {', '.join(numbers) or 'none'}")
        return feature

    def _lines(self, column: str) -> list[Line]:
        values, count = self.found.column(column), len(self.found.times)
        return [
            Line(" ".join(map(str, entity.values())), values[number * count : (number + 1) * count])
            for number, entity in enumerate(self.found.entities[: len(COLORS)])
        ]

    def _png(self, path: Path, column: str) -> None:
        figure = require("matplotlib.figure", "demo").Figure(figsize=(9, 3.5), dpi=120, layout="constrained")
        axes = figure.subplots()
        for line, color in zip(self._lines(column), COLORS, strict=False):
            values = [float("nan") if value is None else float(value) for value in line.values]  # noqa: PD011 - ours
            axes.plot(self.found.times, values, color=color, label=line.name)
        axes.set_title(column)
        axes.legend(frameon=False)
        figure.savefig(path, format="png", metadata={"Software": None})

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a chart, and the beginning and the end of the table."""
        rows = self.found.to_dicts()
        names = list(rows[0]) if rows else []
        shown: list[Mapping[str, Any] | None] = [*rows]
        if len(rows) > _SHOWN:
            shown = [*rows[: _SHOWN // 2], None, *rows[-_SHOWN // 2 :]]
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f'<tr><td colspan="{len(names)}">…</td></tr>'
            if row is None
            else f"<tr>{''.join(f'<td>{escape(shown_value(row[name]))}</td>' for name in names)}</tr>"
            for row in shown
        )
        left_out = f"<p>{len(self.rejected)} rows are rejected: see .rejected</p>" if self.rejected else ""
        chart = self.svg() if any(self.found.kinds.get(name, "float") in _NUMBERS for name in self.columns) else ""
        return f"<div>{chart}{left_out}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def preview(
    what: FeatureView | FeatureService,
    rows: GivenRows,
    *,
    entity: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    at: datetime | Sequence[datetime] | None = None,
    every: Duration | None = None,
    request: RequestValues = None,
    available_at: str | None = None,
    zone: str | None = None,
) -> Preview:
    """Return what a view, or a service, makes of rows over time, computed in memory as by a worker and a look-up.

    ``rows``, ``available_at``, ``zone`` and ``request`` are those of :func:`headrace.testing.fold`. ``rows`` may also
    be the path of a file: Parquet, CSV, JSON lines, or a Delta table. Rows that a worker would reject are left out and
    listed. ``entity`` is one entity or several; by default the three with most rows. ``at`` is one time or several; by
    default the times from the first to the newest row, ``every`` so often, or in about sixty steps, fewer for few rows.
    Raises DefinitionError for what does not fit, and if there would be more than 10,000 times.

    >>> from datetime import UTC, datetime
    >>> import headrace
    >>> import polars as pl
    >>> from features.views import at_airport
    >>> flight = {"flight_id": 1, "carrier": "B6", "origin": "JFK", "dest": "LAX", "delay_minutes": 7.0}
    >>> rows = pl.DataFrame([{**flight, "departed_at": datetime(2013, 1, 1, hour, tzinfo=UTC)} for hour in (5, 6, 9)])
    >>> seen = headrace.preview(at_airport, rows, every="1h")
    >>> seen.to_polars()["airport__departures_3h"].to_list()
    [1, 2, 2, 1, 1]
    """
    views = [what] if isinstance(what, FeatureView) else list(what.views)
    streams = streams_of(views)
    given = rows_of_files(streams, [str(rows)]) if isinstance(rows, str | Path) else rows
    judged = [
        judged_rows(stream, own, number, available_at=available_at, zone=zone)
        for number, (stream, own) in enumerate(with_streams(streams, given))
    ]
    times = grid(judged, every) if at is None else at
    entities = busiest(views[0], judged) if entity is None else entity
    return Preview(what.name, fold_judged(what, judged, at=times, entity=entities, request=request))


def grid(judged: Sequence[RowsInMemory], every: Duration | None = None) -> list[datetime]:
    """Return the times of a preview: multiples of the step, from before the first row to after the newest."""
    known = [own.frame.get_column("__available_at").to_physical().min() for own in judged]
    begins = [int(str(each)) for each in known if each is not None]
    end = epoch_us(newest(judged))
    begin = min([*begins, end])
    rows = sum(own.frame.height for own in judged)
    step = _step(end - begin, rows) if every is None else duration_us(every)
    count = (end - begin) // max(step, 1) + 2
    if step <= 0 or count > _MOST_TIMES:
        raise DefinitionError(f"every={every!r} gives {count} times: choose a step that gives at most {_MOST_TIMES:,}")
    first = begin // step * step
    return [utc_datetime(time) for time in range(first, end + step, step)]


def _step(span_us: int, rows: int) -> int:
    """Return a step that gives about sixty times, or for few rows about four for each, and at least about ten."""
    times = min(_MANY, max(_FEW, 4 * rows))
    steps = [duration_us(step) for step in _STEPS]
    return next((step for step in steps if span_us <= step * times), steps[-1])


def busiest(view: FeatureView, judged: Sequence[RowsInMemory]) -> list[dict[str, Any]]:
    """Return the entities of a view with most rows."""
    names = view.spec.key_names
    parts = [
        view_rows(own.frame.filter(pl.col("__verdict") == ACCEPTED), view.spec, own.stream.topic).select(names)
        for own in judged
        if own.stream.topic in view.spec.topics
    ]
    counts = pl.concat(parts).drop_nulls().group_by(names).len("__count")
    return (
        counts.sort("__count", *names, descending=[True, *[False] * len(names)])
        .head(_ENTITIES)
        .select(names)
        .to_dicts()
    )


def shown_value(value: Any) -> str:
    """Return a value for a table that people read."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    return "" if value is None else str(value)
