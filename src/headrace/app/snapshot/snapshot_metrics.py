"""What no process owns, for Prometheus: partitions that nobody reads, applications that are behind, findings.

It is made from a snapshot, so it asks nothing of Kafka that the page does not read anyway.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from headrace.app.snapshot.snapshot import Snapshot

_APPLICATION = ("application", "model")


class SnapshotMetrics(Collector):
    """The metrics of one snapshot. A value that nobody has said lately is left out: it is never 0."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        read = GaugeMetricFamily("headrace_exporter_read_timestamp_seconds", "The time of the snapshot.")
        read.add_metric([], self._snapshot.at_us / 1e6)
        yield read
        yield from self._partitions()
        yield from self._applications()
        yield from self._findings()

    def _partitions(self) -> Iterator[Metric]:
        there = GaugeMetricFamily("headrace_topic_partitions", "Partitions.", labels=["topic"])
        unowned = GaugeMetricFamily("headrace_partitions_unowned", "Nobody reads them.", labels=["topic"])
        parts = self._snapshot.partitions
        all_of = Counter(each.topic for each in parts)
        read = Counter(each.topic for each in parts if each.worker is not None and not each.is_silent)
        for topic, count in all_of.items():
            there.add_metric([topic], count)
            unowned.add_metric([topic], count - read[topic])
        yield from (there, unowned)

    def _applications(self) -> Iterator[Metric]:
        version = GaugeMetricFamily("headrace_application_version", "The oldest.", labels=_APPLICATION)
        behind = GaugeMetricFamily("headrace_application_behind_seconds", "Since another is live.", labels=_APPLICATION)
        versions: dict[tuple[str, str], int] = {}
        waits: dict[tuple[str, str], float] = {}
        for each in self._snapshot.applications:
            place = each.application, each.model
            if each.is_silent or each.version is None:
                continue
            versions[place] = min(each.version, versions.get(place, each.version))
            since_us = self._snapshot.at_us if each.since_us is None else each.since_us
            waits[place] = max((self._snapshot.at_us - since_us) / 1e6, waits.get(place, 0.0))
        for place, number in versions.items():
            version.add_metric(place, number)
            behind.add_metric(place, waits[place])
        yield from (version, behind)

    def _findings(self) -> Iterator[Metric]:
        found = GaugeMetricFamily("headrace_findings", "In the newest reports.", labels=["check", "severity"])
        counts = Counter(
            (check.check, str(each.get("severity"))) for check in self._snapshot.checks for each in check.findings
        )
        for place, count in counts.items():
            found.add_metric(place, count)
        yield found


def exposition(snapshot: Snapshot) -> bytes:
    """Return a snapshot in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(SnapshotMetrics(snapshot))
    return generate_latest(registry)
