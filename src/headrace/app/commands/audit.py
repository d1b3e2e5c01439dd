"""`headrace audit` and `headrace skew`: compare what was served with the event log."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from headrace.app.terminal.options import DataDir, JsonOption, ModelFilter, moment, settings_from, with_zone
from headrace.app.terminal.tables import print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.app.project.settings import Settings
    from headrace.event_log.logged_offsets import MissingOffsets
    from headrace.trainers.audit.auditor import Auditor, AuditReport, SkewReport

T = TypeVar("T")
_WRONG, _LATER = 1, 75
_MOST_GAPS = 10
ServedSince = Annotated[
    datetime | None,
    typer.Option(parser=moment, help="Only vectors served from this time on. A time without a zone is UTC."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(audit)
    app.command()(skew)


def audit(
    *, model: ModelFilter = None, since: ServedSince = None, json: JsonOption = False, data_dir: DataDir = None
) -> None:
    """Recompute every served vector from the event log, at the V and the time that were logged with it.

    Exit code 1 if a vector differs: that is a fault. Exit code 75 if no vector differs but some vectors saw records
    that the event log does not have yet: wait for its next commit and try again.

    Vectors of an earlier version of a service are recomputed with its own definition, as it was deployed.
    """
    found = [each.audit() for each in _auditors(settings_from(data_dir=data_dir), model, since)]
    _print_reports(found, _print_audit, json=json)
    if any(report.mismatched for report in found):
        raise typer.Exit(_WRONG)
    if any(report.not_logged for report in found):
        raise typer.Exit(_LATER)


def skew(
    *,
    model: ModelFilter = None,
    since: ServedSince = None,
    at_least: Annotated[
        float | None, typer.Option(min=0, max=1, help="Exit code 1 if the share of equal vectors is smaller.")
    ] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Compare every served vector with the training set's values at the same key and time, without using its V.

    A vector differs if it was served while the worker was behind the available events. The share of equal vectors is a
    statistic; a smaller share is not a fault.
    """
    found = [each.skew() for each in _auditors(settings_from(data_dir=data_dir), model, since)]
    _print_reports(found, _print_skew, json=json)
    if at_least is not None and any(report.share < at_least for report in found):
        raise typer.Exit(_WRONG)


def _auditors(settings: Settings, model: str | None, since: datetime | None) -> list[Auditor]:
    from headrace.app.project.project import load_project
    from headrace.app.project_deployment import deployed_services
    from headrace.base.times import epoch_us
    from headrace.event_log.event_log import EventLog
    from headrace.trainers.audit.auditor import Auditor

    project, log = load_project(settings), EventLog(settings.event_log, namespace=settings.namespace)
    models = list(project.models.values()) if model is None else [project.model(model)]
    since_us = None if since is None else epoch_us(with_zone(since))
    found = [Auditor(each, log, since_us=since_us) for each in models]
    if any(auditor.other_services for auditor in found):
        known = deployed_services(settings)
        found += [other for auditor in found for other in auditor.of_other_services(known)]
    return found


def _print_reports(found: Sequence[T], print_one: Callable[[T], None], *, json: bool) -> None:
    if json:
        print_json(found)
        return
    for report in found:
        print_one(report)


def _print_audit(report: AuditReport) -> None:
    typer.echo(
        f"{report.model}: {report.checked:,} vectors checked, {report.mismatched:,} mismatched; "
        f"{report.out_of_range:,} were out of range"
    )
    wrong = {name: counts for name, counts in report.features.items() if counts.mismatched or counts.missing}
    if wrong:
        rows = [{"feature": name, "matched": f"{c.matched:,}", "mismatched": f"{c.mismatched:,}",
                 "missing": f"{c.missing:,}"} for name, c in wrong.items()]  # fmt: skip
        print_rows(("feature", "matched", "mismatched", "missing"), rows)
        print_rows(("key", "served_at", "feature", "served", "recomputed"), _flat(report.examples))
    for line in gap_lines(report.gaps):
        typer.echo(line)
    for service, count in report.other_services.items():
        typer.echo(f"{count:,} vectors were served by service {service}; this is {report.service}: not compared here")
    if report.not_logged:
        typer.echo(f"{report.not_logged:,} vectors saw records that the event log does not have (yet): not compared")


def gap_lines(gaps: Sequence[MissingOffsets]) -> list[str]:
    """Return a line for each gap, and one line for each topic's single offsets: the markers of transactions."""
    markers = Counter(gap.topic for gap in gaps if gap.end - gap.first == 1)
    longer = [gap for gap in gaps if gap.end - gap.first > 1]
    lines = [
        f"the event log of {topic!r} has no rows at {count:,} single offsets: Kafka keeps the marker of a producer's "
        "transaction at such an offset"
        for topic, count in markers.items()
    ]
    lines += [
        f"the event log of {gap.topic!r} has no rows {gap.first:,} to {gap.end - 1:,} of {gap.source}: they are lost, "
        "or of a transaction that was aborted"
        for gap in longer[:_MOST_GAPS]
    ]
    more = len(longer) - _MOST_GAPS
    return [*lines, f"and {more:,} more gaps: --json lists all of them"] if more > 0 else lines


def _print_skew(report: SkewReport) -> None:
    lag = ", ".join(f"{name} {records:,.0f}" for name, records in report.lag_records.items()) or "nothing served"
    typer.echo(f"{report.model}: {report.equal:,} of {report.checked:,} vectors equal; lag in records: {lag}")
    if report.own_event:
        parts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in report.own_event.items())
        typer.echo(f"{report.model}: the request's own event: {parts}")
    rows = [{"feature": name, "equal": f"{share:.4%}"} for name, share in report.features.items() if share < 1]
    if rows:
        print_rows(("feature", "equal"), rows)


def _flat(examples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"key": each["key"], "served_at": each["served_at"], "feature": name, "served": served, "recomputed": again}
        for each in examples
        for name, (served, again) in each["values"].items()
    ]
