"""Tells the bus what the doctor has found, so that pages and other programs show it with its age."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from headrace.app.doctor.finding import Finding, Severity
from headrace.bus import check_report
from headrace.bus.check_report import CheckFinding, CheckReport, bounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.bus.check_report import CheckSeverity
    from headrace.bus.control_topics import ControlTopics

DOCTOR, DEPLOYMENT = "doctor", "deployment"
_SEVERITIES: dict[Severity, CheckSeverity] = {
    Severity.OK: "ok",
    Severity.WARNING: "warning",
    Severity.ERROR: "error",
}


def doctor_report(found: Sequence[Finding], *, by: str, at_us: int) -> CheckReport:
    """Return the report of these findings. Those that are ``ok`` are only counted."""
    counts = Counter(each.severity for each in found)
    return CheckReport(
        check=DOCTOR,
        subject=DEPLOYMENT,
        at_us=at_us,
        by=by,
        numbers={
            "ok": float(counts[Severity.OK]),
            "warnings": float(counts[Severity.WARNING]),
            "errors": float(counts[Severity.ERROR]),
        },
        findings=bounded(
            CheckFinding(each.subject, _SEVERITIES[each.severity], each.found, each.advice)
            for each in found
            if each.severity is not Severity.OK
        ),
    )


def record(servers: str, topics: ControlTopics, report: CheckReport) -> None:
    """Send a report, and return when Kafka has it. Raises BusUnavailableError."""
    from headrace.bus.producer import EventProducer
    from headrace.bus.topics import A_MONTH, TopicPlan, ensure_topics

    ensure_topics(servers, [TopicPlan(topics.findings, 1, A_MONTH)])
    producer = EventProducer(servers)
    producer.put(topics.findings, report.key.encode(), check_report.encode(report))
    producer.flush()
