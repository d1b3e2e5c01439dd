"""`headrace data profile`: what to look at, and how it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from headrace.app.terminal.tables import print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.project.settings import Settings
    from headrace.trainers.data.profile import ColumnProfile, Profile

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 24


def look(what: str, settings: Settings, *, label: str | None, time: str | None) -> Profile:
    """Look at a Parquet file, such as of a training set; at a model's own training set; or at a stream's accepted rows.

    Raises ProjectError where there is none of these of that name, and TerminalError for a column that is not there.
    """
    import polars as pl  # noqa: PLC0415 - the page of help needs none of it

    from headrace.app.project.project import load_project  # noqa: PLC0415
    from headrace.app.training import training_set  # noqa: PLC0415
    from headrace.errors import ProjectError, TerminalError  # noqa: PLC0415
    from headrace.event_log.event_log import ACCEPTED, EventLog  # noqa: PLC0415
    from headrace.trainers.data.profile import profile  # noqa: PLC0415
    from headrace.trainers.data.training_set import manifest_of  # noqa: PLC0415

    if Path(what).suffix == ".parquet":
        frame = pl.read_parquet(what)
        known = {} if label and time else _told(manifest_of, what)
        label, time = label or known.get("label"), time or known.get("time")
    else:
        project = load_project(settings)
        if what in project.models:
            made = training_set(what, settings=settings)
            frame, label, time = made.to_polars(), label or made.label_column, time or made.manifest.time
        elif what in project.streams:
            rows = EventLog(settings.event_log).read(what).filter(pl.col("__verdict") == ACCEPTED)
            frame = rows.select(field.name for field in project.streams[what].fields)
            time = time or project.streams[what].event_time
        else:
            raise ProjectError(
                f"{what!r} is no Parquet file (*.parquet), and the project has no model or stream of that name; it has "
                f"the models {sorted(project.models) or 'none'} and the streams {sorted(project.streams) or 'none'}"
            )
    for name in (label, time):
        if name is not None and name not in frame.columns:
            raise TerminalError(f"{what} has no column {name!r}; it has {frame.columns}")
    return profile(frame, label=label, time=time)


def _told(manifest_of: Any, path: str) -> dict[str, Any]:
    """What a training set's own manifest says; nothing of another file."""
    from headrace.errors import TerminalError  # noqa: PLC0415

    try:
        manifest = manifest_of(path)
    except TerminalError:
        return {}
    return {"label": manifest.label_column, "time": manifest.time}


def tell(found: Profile) -> None:
    """As tables for a reader."""
    outcome = "" if found.label is None else f"; label {found.label!r}, mean {_short(found.label_mean)}"
    typer.echo(f"{found.rows:,} rows{outcome}")
    print_rows(("column", "type", "nulls", "distinct", "low", "middle", "high", "distribution", "auc"),
               [_row(column) for column in found.columns])  # fmt: skip
    if found.periods:
        most = max(period.rows for period in found.periods)
        typer.echo(f"\nrows by {found.time}" + ("" if found.label is None else ", and the label's mean"))
        print_rows(("from", "rows", "", "label"), [
            {"from": p.begins, "rows": f"{p.rows:,}", "": "█" * round(_WIDTH * p.rows / most), "label": _short(p.label)}
            for p in found.periods
        ])  # fmt: skip
    for suspect in found.suspects:
        typer.secho(f"suspect: {suspect.column} {suspect.why}", fg=typer.colors.YELLOW)


def _row(column: ColumnProfile) -> dict[str, Any]:
    words = ", ".join(f"{word} {count:,}" for word, count in zip(column.words[:3], column.histogram, strict=False))
    return {
        "column": column.name, "type": column.type, "nulls": f"{column.nulls:.1%}", "distinct": f"{column.distinct:,}",
        "low": _short(column.low), "middle": _short(column.middle), "high": _short(column.high),
        "distribution": words or bars(column.histogram), "auc": _short(column.auc),
    }  # fmt: skip


def bars(counts: Sequence[int]) -> str:
    """A histogram of one line: a full bar is the largest count, the lowest one at least a row, a blank none."""
    most = max(counts, default=0)
    return "".join(" " if not count else _BARS[round((len(_BARS) - 1) * count / most)] for count in counts)


def _short(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:_WIDTH]
