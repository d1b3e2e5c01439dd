"""`headrace audit` and `headrace skew`: what was served, against the event log."""

from __future__ import annotations

import json as codec
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.terminal.options import MOMENT_FORMS, DataDir, JsonOption, settings_from, zoned
from headrace.app.terminal.tables import print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.project.settings import Settings
    from headrace.trainers.audit.auditor import Auditor, AuditReport, SkewReport

_WRONG, _LATER = 1, 75
ModelOption = Annotated[str | None, typer.Option("--model", help="Only this model (default: all of the project).")]
Since = Annotated[
    datetime | None,
    typer.Option(formats=MOMENT_FORMS, help="Only what was served from then on; without a zone it is UTC."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(audit)
    app.command()(skew)


def audit(
    *, model: ModelOption = None, since: Since = None, json: JsonOption = False, data_dir: DataDir = None
) -> None:
    """Recompute every served vector from the event log, at the V and the time that were logged with it.

    They are equal, or something is wrong: exit code 1 if one differs. Exit code 75 if all others are equal and some saw
    records that the log does not have: wait for its next commit and try again.
    """
    found = [each.audit() for each in _auditors(settings_from(data_dir=data_dir), model, since)]
    _show(found, json=json, tell=_tell_audit)
    if any(report.mismatched for report in found):
        raise typer.Exit(_WRONG)
    if any(report.not_logged for report in found):
        raise typer.Exit(_LATER)


def skew(
    *,
    model: ModelOption = None,
    since: Since = None,
    at_least: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit code 1 if a smaller share of vectors is equal.")
    ] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Compare every served vector with what a training set has at the same key and time, without knowing its V.

    What differs was served while the worker lagged behind what was available; it is a statistic, and no fault.
    """
    found = [each.skew() for each in _auditors(settings_from(data_dir=data_dir), model, since)]
    _show(found, json=json, tell=_tell_skew)
    if at_least is not None and any(report.share < at_least for report in found):
        raise typer.Exit(_WRONG)


def _auditors(settings: Settings, model: str | None, since: datetime | None) -> list[Auditor]:
    from headrace.app.project.project import load_project
    from headrace.base.times import epoch_us
    from headrace.event_log.event_log import EventLog
    from headrace.trainers.audit.auditor import Auditor

    project, log = load_project(settings), EventLog(settings.event_log)
    models = list(project.models.values()) if model is None else [project.model(model)]
    since_us = None if since is None else epoch_us(zoned(since))
    return [Auditor(each, log, since_us=since_us) for each in models]


def _show(found: Sequence[Any], *, json: bool, tell: Any) -> None:
    import msgspec

    if json:
        typer.echo(codec.dumps([msgspec.to_builtins(report) for report in found], indent=2))
    for report in [] if json else found:
        tell(report)


def _tell_audit(report: AuditReport) -> None:
    typer.echo(
        f"{report.model}: {report.checked:,} vectors checked, {report.mismatched:,} mismatched; "
        f"{report.out_of_range:,} were out of range, and rightly so where nothing is mismatched"
    )
    wrong = {name: counts for name, counts in report.features.items() if counts.mismatched or counts.missing}
    if wrong:
        rows = [{"feature": name, "matched": f"{c.matched:,}", "mismatched": f"{c.mismatched:,}",
                 "missing": f"{c.missing:,}"} for name, c in wrong.items()]  # fmt: skip
        print_rows(("feature", "matched", "mismatched", "missing"), rows)
        print_rows(("key", "served_at", "feature", "served", "recomputed"), _flat(report.examples))
    for gap in report.gaps:
        typer.echo(f"the event log of {gap.topic!r} has no rows {gap.first:,} to {gap.end - 1:,} of {gap.source}")
    for service, count in report.other_services.items():
        typer.echo(f"{count:,} vectors were served by service {service}; it is {report.service} now: not compared")
    if report.not_logged:
        typer.echo(f"{report.not_logged:,} vectors saw records that the event log does not have (yet): not compared")


def _tell_skew(report: SkewReport) -> None:
    lag = ", ".join(f"{name} {records:,.0f}" for name, records in report.lag_records.items()) or "nothing served"
    typer.echo(f"{report.model}: {report.equal:,} of {report.checked:,} vectors equal; lag in records: {lag}")
    rows = [{"feature": name, "equal": f"{share:.4%}"} for name, share in report.features.items() if share < 1]
    if rows:
        print_rows(("feature", "equal"), rows)


def _flat(examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"key": each["key"], "served_at": each["served_at"], "feature": name, "served": served, "recomputed": again}
        for each in examples
        for name, (served, again) in each["values"].items()
    ]
