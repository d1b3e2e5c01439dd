"""Profiles data for `headrace data profile`: finds the table, profiles it, and prints the profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from headrace.app.terminal.tables import print_rows
from headrace.errors import ProjectError, TerminalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from headrace.app.project.settings import Settings
    from headrace.trainers.data.profile import ColumnProfile, Profile

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24
_COLUMNS = ("column", "type", "nulls", "distinct", "low", "middle", "high", "distribution", "auc")


class ProfiledTable(NamedTuple):
    """A table, and the names of its label column and of its time column as far as they are known."""

    frame: pl.DataFrame
    label: str | None
    time: str | None


def profile_data(what: str, settings: Settings, *, label: str | None, time: str | None) -> Profile:
    """Profile a Parquet file, the training set of a model, or the accepted rows of a stream.

    ``what`` is a path that ends in .parquet, the name of a model, or the topic of a stream. ``label`` and ``time`` name
    columns; a training set knows its own. Raises ProjectError if there is no such data, and TerminalError if a column
    is not there.
    """
    from headrace.trainers.data.profile import profile

    found = _parquet(what) if Path(what).suffix == ".parquet" else _of_project(what, settings)
    label, time = label or found.label, time or found.time
    for name in (label, time):
        if name is not None and name not in found.frame.columns:
            raise TerminalError(f"{what} has no column {name!r}; it has {found.frame.columns}")
    return profile(found.frame, label=label, time=time)


def _parquet(path: str) -> ProfiledTable:
    import polars as pl

    from headrace.trainers.data.training_set import manifest_of

    frame = pl.read_parquet(path)
    try:
        manifest = manifest_of(path)
    except TerminalError:  # not a training set
        return ProfiledTable(frame, None, None)
    return ProfiledTable(frame, manifest.label_column, manifest.time)


def _of_project(what: str, settings: Settings) -> ProfiledTable:
    from headrace.app.project.project import load_project
    from headrace.app.training_sets import training_set
    from headrace.bus.nested_columns import picked
    from headrace.event_log.event_log import EventLog

    project = load_project(settings)
    if what in project.models:
        made = training_set(what, settings=settings)
        return ProfiledTable(made.to_polars(), made.label_column, made.manifest.time)
    if what in project.streams:
        stream = project.streams[what]
        rows = _accepted(EventLog(settings.event_log, namespace=settings.namespace).read(what))
        names = [*(field.name for field in stream.fields), stream.event_time]  # a table's time may be no field
        return ProfiledTable(picked(rows, list(dict.fromkeys(names))), None, stream.event_time)
    raise ProjectError(
        f"{what!r} is not a Parquet file (*.parquet), and the project has no model or stream of that name; it has "
        f"the models {sorted(project.models) or 'none'} and the streams {sorted(project.streams) or 'none'}"
    )


def _accepted(rows: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    from headrace.bus.stream_spec import DELETE, OPERATION
    from headrace.event_log.columns import ACCEPTED

    good = rows.filter(pl.col("__verdict") == ACCEPTED)
    return good.filter(pl.col(OPERATION) != DELETE) if OPERATION in good.columns else good


def print_profile(found: Profile) -> None:
    """Print a profile as tables."""
    mean = "" if found.label_mean is None else f", mean {_short(found.label_mean)}"
    outcome = "" if found.label is None else f"; label {found.label!r}{mean}"
    typer.echo(f"{found.rows:,} rows{outcome}")
    print_rows(_COLUMNS, [_row(column) for column in found.columns])
    if found.periods:
        _print_periods(found)
    for suspect in found.suspects:
        typer.secho(f"suspect: {suspect.column} {suspect.why}", fg=typer.colors.YELLOW)


def _print_periods(found: Profile) -> None:
    most = max(period.rows for period in found.periods)
    typer.echo(f"\nrows by {found.time}" + ("" if found.label is None else ", and the label's mean"))
    rows = [
        {"from": p.begins, "rows": f"{p.rows:,}", "": "█" * round(_WIDTH * p.rows / most), "label": _short(p.label)}
        for p in found.periods
    ]
    print_rows(("from", "rows", "", "label"), rows)


def _row(column: ColumnProfile) -> dict[str, Any]:
    words = ", ".join(f"{word} {count:,}" for word, count in zip(column.words[:3], column.histogram, strict=False))
    return {
        "column": column.name, "type": column.type, "nulls": f"{column.nulls:.1%}", "distinct": f"{column.distinct:,}",
        "low": _short(column.low), "middle": _short(column.middle), "high": _short(column.high),
        "distribution": words or bars(column.histogram), "auc": _short(column.auc),
    }  # fmt: skip


def bars(counts: Sequence[int]) -> str:
    """Return a histogram as one line of text. A full bar is the largest count, and a blank is a count of 0.

    >>> bars([0, 1, 4, 8])
    ' ▂▅█'
    """
    most = max(counts, default=0)
    return "".join(" " if not count else _BARS[round((len(_BARS) - 1) * count / most)] for count in counts)


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:_WIDTH]
