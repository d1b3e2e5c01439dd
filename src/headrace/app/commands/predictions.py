"""`headrace predictions`: lists past predictions, and shows what one of them was made of."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.terminal.options import DataDir, JsonOption, ModelFilter, moment, settings_from, with_zone
from headrace.app.terminal.tables import print_details, print_json, print_list, print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.app.past_predictions import PastPrediction, PastPredictions
    from headrace.app.project.settings import Settings

_LISTED = ("prediction_id", "served_at", "model", "key", "version", "role", "score")
_LARGEST = 2**31 - 1


def register(app: typer.Typer) -> None:
    """Add the commands."""
    predictions = typer.Typer(no_args_is_help=True, help="Past predictions: list the newest, show one.")
    predictions.command("list")(list_predictions)
    predictions.command("show")(show)
    app.add_typer(predictions, name="predictions")


def list_predictions(
    *,
    model: ModelFilter = None,
    key: Annotated[str | None, typer.Option(help="Only requests with this key.")] = None,
    version: Annotated[int | None, typer.Option(min=0, max=_LARGEST, help="Only this version of the model.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=moment, help="Only those served from this time on. A time without a zone is UTC."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The largest number of predictions to list.")] = 20,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """List the newest predictions in the event log, the newest first."""
    found = _predictions(settings_from(data_dir=data_dir)).newest(
        limit, model=model, key=key, version=version, since=None if since is None else with_zone(since)
    )
    shown = found if json else [{**row, "score": score_text(row)} for row in found]
    print_list(_LISTED, shown, json=json, if_empty=_none(model, key, version, since))


def _none(model: str | None, key: str | None, version: int | None, since: datetime | None) -> str:
    """Return the sentence for a list without predictions: it repeats what was asked for."""
    when = None if since is None else with_zone(since).isoformat()
    given = {"of model": model, "with key": key, "of version": version, "served since": when}
    asked = " ".join(f"{words} {value}" for words, value in given.items() if value is not None)
    return f"the event log has no prediction{asked and ' ' + asked}"


def show(
    prediction_id: Annotated[str, typer.Argument(help="The prediction, as `headrace predictions list` shows it.")],
    *,
    events: Annotated[
        int, typer.Option(min=0, max=_LARGEST, help="The largest number of events of each view to show.")
    ] = 5,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Show all about one prediction: its request, its features by name, what they were made of, and its outcome.

    Each value is computed again from the event log, at the offsets and the time that were logged with it.
    """
    from headrace.base.times import wall_clock

    found = _predictions(settings_from(data_dir=data_dir)).show(prediction_id, now_us=wall_clock(), newest=events)
    if json:
        print_json(found)
        return
    _print(found)


def _predictions(settings: Settings) -> PastPredictions:
    from headrace.app.past_predictions import PastPredictions
    from headrace.app.project.project import load_project
    from headrace.app.project_deployment import deployed_services
    from headrace.event_log.event_log import EventLog

    log = EventLog(settings.event_log, namespace=settings.namespace)
    return PastPredictions(load_project(settings).model, log, lambda: deployed_services(settings))


def score_text(row: Mapping[str, Any]) -> Any:
    """Return what was predicted: a number, or the values by class or quantile as text."""
    values, outputs = row.get("values"), row.get("outputs")
    if not values:
        return row["score"]
    return (
        ", ".join(f"{name} {value:.4g}" for name, value in zip(outputs, values, strict=True)) if outputs else values[0]
    )


def _print(found: PastPrediction) -> None:
    outcome = found.outcome
    label = outcome.reason or (str(outcome.label).lower() if isinstance(outcome.label, bool) else outcome.label)
    told = {name: value for name, value in found.prediction.items() if name not in {"format", "values", "outputs"}}
    told["score"] = score_text(found.prediction)
    print_details({**told, "service": found.service, "request": found.request, "outcome": label})
    if found.note:
        typer.echo(f"\n{found.note}")
    if found.views:
        typer.echo("\nviews")
        rows = [{"view": view.name, "status": view.status, "age": view.age, "events": view.events,
                 "V": ", ".join(f"{source} {end}" for source, end in view.offsets.items()),
                 "version": view.version} for view in found.views]  # fmt: skip
        print_rows(("view", "status", "age", "events", "V", "version"), rows)
    if found.features:
        typer.echo("\nfeatures")
        features = [{"feature": each.name, "served": each.served, "recomputed": each.recomputed}
                    for each in found.features]  # fmt: skip
        print_rows(("feature", "served", "recomputed"), features)
    for view in found.views:
        if view.newest:
            shown = f"the newest {len(view.newest)} of the " if view.events > len(view.newest) else "the "
            typer.echo(f"\n{shown}{view.events:,} events in the longest window of {view.name}")
            print_rows(list(view.newest[0]), view.newest)
