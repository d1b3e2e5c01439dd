"""What a snapshot says to Prometheus of partitions, applications and findings."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from headrace.app.snapshot.snapshot import (
    ApplicationNow,
    CheckNow,
    NowSentence,
    NowSentences,
    PartitionNow,
    Snapshot,
)
from headrace.app.snapshot.snapshot_metrics import exposition

AT = 100_000_000
NOTHING = NowSentence(mark="unknown", said="no report")


def application(version: int | None, *, since_us: int | None = None, is_silent: bool = False) -> ApplicationNow:
    return ApplicationNow(
        application="web", model="m", version=version, live=4, observed_us=AT, acknowledged_us=None,
        is_silent=is_silent, since_us=since_us, rate=None, error=None,
    )  # fmt: skip


def served(*applications: ApplicationNow) -> dict[tuple[str, ...], float]:
    """Each value by its name and labels."""
    snapshot = Snapshot(
        namespace="headrace",
        at_us=AT,
        begun_us=0,
        now=NowSentences(complete=NOTHING, fresh=NOTHING, learning=NOTHING, applied=NOTHING),
        partitions=[
            PartitionNow(topic="t", partition=0, worker="w", observed_us=AT),
            PartitionNow(topic="t", partition=1, worker="x", observed_us=1, is_silent=True),
            PartitionNow(topic="t", partition=2),
        ],
        views=[],
        models=[],
        applications=list(applications),
        trainers=[],
        checks=[
            CheckNow(
                check="doctor", subject="deployment", at_us=5, severity="error", overdue=False, numbers={},
                findings=[{"severity": "error"}, {"severity": "warning"}, {"severity": "error"}],
            )
        ],
        topics=[],
    )  # fmt: skip
    families = text_string_to_metric_families(exposition(snapshot).decode())
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_partitions_that_nobody_reads_are_counted() -> None:
    found = served()
    assert found["headrace_exporter_read_timestamp_seconds",] == 100
    assert (found["headrace_topic_partitions", "t"], found["headrace_partitions_unowned", "t"]) == (3, 2)


def test_the_oldest_version_of_an_application_counts_and_a_silent_process_says_nothing() -> None:
    found = served(application(4), application(3, since_us=70_000_000), application(1, is_silent=True))
    assert found["headrace_application_version", "web", "m"] == 3
    assert found["headrace_application_behind_seconds", "web", "m"] == 30
    assert ("headrace_application_version", "web", "m") not in served(application(None))


def test_findings_are_counted_by_check_and_severity() -> None:
    found = served()
    assert found["headrace_findings", "doctor", "error"] == 2
    assert found["headrace_findings", "doctor", "warning"] == 1
