"""`headrace features preview`: what a view makes of the rows of files, over time."""

from __future__ import annotations

import json as codec
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.terminal.options import DataDir, JsonOption, moment, settings_from, with_zone
from headrace.app.terminal.tables import print_json, print_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.preview.preview import Preview

_FORMS = ("parquet", "csv", "jsonl")


def register(app: typer.Typer) -> None:
    """Add the command to those of `headrace features`, which is registered before it."""
    (features,) = (group.typer_instance for group in app.registered_groups if group.name == "features")
    assert features is not None  # noqa: S101 - typer says that it may be
    features.command("preview")(preview)


def preview(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="A view or a feature service of the project.")],
    *,
    files: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="FILE",
            help="Parquet, CSV, JSON lines, Delta; a folder or a pattern. TOPIC=FILE of several.",
        ),
    ],
    entity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,…",
            help="An entity, with values of the request (default: the three with most rows). May be repeated.",
        ),
    ] = None,
    at: Annotated[
        list[datetime] | None, typer.Option(parser=moment, help="A time (default: a grid). May be repeated.")
    ] = None,
    every: Annotated[str | None, typer.Option(help="The step between two times, such as 1h.")] = None,
    features: Annotated[
        list[str] | None, typer.Option("--feature", help="Show this feature alone. May be repeated.")
    ] = None,
    available_at: Annotated[
        str | None,
        typer.Option(help="Since when a row was known: a column, or event_time+5m (default: its event time)."),
    ] = None,
    zone: Annotated[str | None, typer.Option(help="The zone of times without one, such as UTC.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="parquet, csv or jsonl, if no name says it.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw the first feature to this file, .svg or .png.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Show the features of the rows of files over time, computed in memory: no Kafka, no Redis, no event log."""
    from headrace.app.in_memory.memory_fold import streams_of
    from headrace.app.preview.given_files import rows_of_files
    from headrace.app.preview.preview import preview as previewed
    from headrace.app.project.project import load_project

    if form is not None and form not in _FORMS:
        raise typer.BadParameter(f"--format {form}: wanted {', '.join(_FORMS)}")
    project = load_project(settings_from(data_dir=data_dir))
    what = project.views.get(view) or project.services.get(view)
    if what is None:
        message = (
            f"the project has no view and no service {view!r}: it has {sorted({*project.views, *project.services})}"
        )
        raise typer.BadParameter(message)
    views = [project.views[view]] if view in project.views else list(project.services[view].views)
    keys: dict[str, str] = {key.name: key.kind for each in views for key in each.spec.entity.keys}
    if view not in project.views:
        request = {each.name: each.kind for each in project.services[view].request_fields}
        keys |= request
        if request and not entity:
            wanted = ",".join(f"{name}=…" for name in keys)
            raise typer.BadParameter(f"the service {view!r} takes values of a request: write --entity {wanted}")
    found = previewed(
        what,
        rows_of_files(streams_of(views), files, form),  # type: ignore[arg-type]  # checked above
        entity=[_entity(keys, text) for text in entity] if entity else None,
        at=[with_zone(time) for time in at] if at else None,
        every=every,
        available_at=available_at,
        zone=zone,
    )
    _report(found)
    if chart is not None:
        found.chart(chart, features[0] if features else None)
        typer.echo(f"wrote {chart}", err=True)
    _print(found, features, csv=csv, json=json)


def _print(found: Preview, features: Sequence[str] | None, *, csv: bool, json: bool) -> None:
    from headrace.app.preview.preview import shown_value

    table = found.to_polars()
    unknown = [name for name in features or () if name not in found.columns]
    if unknown:
        raise typer.BadParameter(f"there is no feature {unknown[0]!r}: there are {', '.join(found.columns)}")
    if features:
        table = table.select(*(name for name in table.columns if name not in found.columns), *features)
    if csv:
        typer.echo(table.write_csv(), nl=False)
        return
    rows = table.to_dicts()
    if json:
        print_json([{name: _plain(value) for name, value in row.items()} for row in rows])
        return
    shown = [{name: shown_value(value) for name, value in row.items()} for row in rows]
    print_list(table.columns, shown, json=False, if_empty="no times")


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _report(found: Preview) -> None:
    """Say on standard error how many rows were rejected, and why the first one was."""
    if found.rejected:
        first = found.rejected[0]
        typer.echo(
            f"{len(found.rejected)} of {sum(found.found.verdicts.values())} rows are rejected and count for nothing; "
            f"the first: row {first.row} of {first.topic} ({first.reason}): {first.error}: {first.value}",
            err=True,
        )


def _entity(keys: dict[str, str], text: str) -> dict[str, Any]:
    """Parse ``KEY=VALUE,KEY=VALUE``. Raises BadParameter for what is no key of the view."""
    found: dict[str, Any] = {}
    for pair in text.split(","):
        name, is_pair, value = pair.partition("=")
        if not is_pair or name not in keys:
            wanted = ",".join(f"{key}=…" for key in keys)
            raise typer.BadParameter(f"--entity {text}: {pair!r} is no join key with its value; wanted {wanted}")
        found[name] = _typed(keys[name], name, value)
    return found


def _typed(kind: str, name: str, text: str) -> Any:
    if kind == "str":
        return text
    try:
        return {"int": int, "float": float}[kind](text) if kind in {"int", "float"} else codec.loads(text)
    except ValueError:
        raise typer.BadParameter(f"--entity {name}={text}: wanted {kind}") from None
