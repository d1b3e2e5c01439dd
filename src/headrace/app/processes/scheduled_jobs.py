"""The jobs that workers run on a schedule: audit and skew of served vectors, and the tables of feature values."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from headrace.base.times import duration_us, wall_clock
from headrace.bus.check_report import CheckFinding, CheckReport, finite
from headrace.event_log.event_log import EventLog
from headrace.features.offline.feature_table import FeatureTable
from headrace.streams.upkeep import ScheduledJob

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.features.definitions.view import FeatureView
    from headrace.trainers.definitions import Model


def scheduled_jobs(settings: Settings, project: Project) -> list[ScheduledJob]:
    """Return the jobs that the settings turn on. A replay in lockstep has its own clock and runs none."""
    if settings.clock == "control":
        return []
    log = EventLog(settings.event_log, namespace=settings.namespace)
    audit_us, table_us = duration_us(settings.audit_interval), duration_us(settings.feature_tables_interval)
    audits = [
        ScheduledJob(
            f"audit {model.name}",
            settings.topics.vectors,
            timedelta(microseconds=audit_us),
            partial(_audit, model, log, audit_us),
            partial(audit_reports, model.name),
        )
        for model in (project.models.values() if audit_us else ())
    ]
    tables = [
        ScheduledJob(
            f"table {view.name}",
            view.streams[0].topic,
            timedelta(microseconds=table_us),
            partial(_table, view, log, settings.feature_tables),
            partial(_table_reports, view.name),
        )
        for view in (project.views.values() if table_us else ())
    ]
    return audits + tables


def _audit(model: Model, log: EventLog, every_us: int) -> dict[str, float]:
    """Audit the last two intervals, so that nothing is left out when a run starts late."""
    from headrace.trainers.audit.auditor import Auditor  # imported when the first audit runs

    auditor = Auditor(model, log, since_us=wall_clock() - 2 * every_us)
    audited, skewed = auditor.audit(), auditor.skew()
    return {
        "checked": audited.checked,
        "mismatched": audited.mismatched,
        "not_logged": audited.not_logged,
        "other_services": sum(audited.other_services.values()),
        "equal_share": skewed.share,
        **{f"lag_records_{name}": value for name, value in skewed.lag_records.items()},
        **{f"own_event_{name}": value for name, value in skewed.own_event.items()},
    }


def audit_reports(model: str, found: Mapping[str, float]) -> list[CheckReport]:
    """Return the reports of an audit: the values that must be equal, and how training data differs from served data."""
    audited = {name: found[name] for name in ("checked", "mismatched", "not_logged", "other_services")}
    skewed = {name: value for name, value in found.items() if name not in audited}
    findings = []
    if audited["mismatched"]:
        findings.append(
            CheckFinding(
                model,
                "error",
                f"{audited['mismatched']:,.0f} of {audited['checked']:,.0f} served vectors differ from the event log",
                f"headrace audit --model {model}",
            )
        )
    if audited["not_logged"]:
        findings.append(
            CheckFinding(
                model,
                "warning",
                f"{audited['not_logged']:,.0f} served vectors used records that are not in the event log",
                f"headrace audit --model {model}; headrace doctor looks for gaps",
            )
        )
    return [_report("audit", model, audited, findings), _report("skew", model, skewed)]


def _table_reports(view: str, found: Mapping[str, float]) -> list[CheckReport]:
    return [_report("table", view, found)]


def _report(check: str, subject: str, found: Mapping[str, float], findings: Sequence[CheckFinding] = ()) -> CheckReport:
    """Return a report without who checked when: the worker knows that."""
    return CheckReport(check=check, subject=subject, at_us=0, by="", numbers=finite(found), findings=list(findings))


def _table(view: FeatureView, log: EventLog, folder: str) -> dict[str, float]:
    return {"rows": FeatureTable(view.spec, log, folder).update()}
