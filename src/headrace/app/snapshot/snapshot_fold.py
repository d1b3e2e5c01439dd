"""Folds the records of the control topics into snapshots."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from headrace.app.snapshot.judgement import Told, judged
from headrace.app.snapshot.model_part import ModelPart
from headrace.app.snapshot.snapshot import HeardTopic, Snapshot
from headrace.app.snapshot.worker_part import WorkerPart
from headrace.bus import check_report, heartbeats, worker_report
from headrace.bus.unreadable_records import readable
from headrace.models import model_events
from headrace.trainers.runs.messages import DecisionRecord, RunEnded, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import Message

    from headrace.bus.control_topics import ControlTopics
    from headrace.models.model_events import ModelEvent
    from headrace.models.publication_signing import PublicationSigning


class SnapshotFold:
    """The state that snapshots are made of. Safe from any thread; :meth:`snapshot` changes nothing.

    ``wanted`` are the models of the project: they are shown before anything was heard of them.
    """

    def __init__(
        self, topics: ControlTopics, signing: PublicationSigning, wanted: Sequence[str] = (), *, begun_us: int
    ) -> None:
        self._topics, self._signing, self._wanted, self._begun_us = topics, signing, tuple(wanted), begun_us
        self._workers, self._models = WorkerPart(), ModelPart()
        self._lock = threading.Lock()
        self._record_us: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._partitions: dict[str, int] = {}
        self._takes: dict[str, Callable[[Message], None]] = {
            topics.observations: lambda each: self._workers.observe(worker_report.decode(each.value()), _at_us(each)),
            topics.heartbeats: lambda each: self._models.beat(heartbeats.decode(each.value())),
            topics.findings: lambda each: self._models.checked(check_report.decode(each.value())),
            topics.decisions: lambda each: self._models.decided(decode(each.value(), DecisionRecord), _at_us(each)),
            topics.runs: lambda each: self._models.ended(decode(each.value(), RunEnded)),
            topics.models: lambda each: self._models.happened(self._event(each)),
            topics.model_acks: lambda each: self._models.acknowledged(
                model_events.decode_acknowledgement(each.value())
            ),
        }

    @property
    def sources(self) -> tuple[str, ...]:
        """The topics whose records it takes."""
        return tuple(self._takes)

    def take(self, records: Sequence[Message]) -> None:
        """Take records. One that cannot be read is left out, counted and logged."""
        for record in records:
            with self._lock:
                self._take(record)

    def _take(self, record: Message) -> None:
        topic = record.topic() or ""
        for _ in readable([record], self._takes[topic]):
            self._record_us[topic] = max(self._record_us.get(topic, 0), _at_us(record))

    def lost(self, topics: Sequence[str], why: str | None) -> None:
        """Say why topics cannot be read, or None if they can again."""
        with self._lock:
            kept = {topic: said for topic, said in self._errors.items() if topic not in topics}
            self._errors = kept if why is None else kept | dict.fromkeys(topics, why)

    def has_partitions(self, counts: Mapping[str, int]) -> None:
        """Say how many partitions the topics of streams have: those of which no worker tells are shown too."""
        self._partitions = dict(counts)

    def is_heard(self) -> bool:
        """Return whether a worker has reported."""
        return self._topics.observations in self._record_us

    def snapshot(self, now_us: int) -> Snapshot:
        """Return what is known now."""
        with self._lock:
            return self._snapshot(now_us)

    def _snapshot(self, now_us: int) -> Snapshot:
        partitions = self._workers.partitions(self._partitions, now_us)
        views, models = self._workers.views(now_us), self._models.models(self._wanted, now_us)
        applications, trainers = self._models.applications(now_us), self._models.trainers(now_us)
        checks = self._models.checks(now_us)
        return Snapshot(
            namespace=self._topics.namespace,
            at_us=now_us,
            begun_us=self._begun_us,
            now=judged(Told(partitions, views, models, trainers, applications, checks, now_us, self._begun_us)),
            partitions=partitions,
            views=views,
            models=models,
            applications=applications,
            trainers=trainers,
            checks=checks,
            topics=[
                HeardTopic(topic=topic, record_us=self._record_us.get(topic), error=self._errors.get(topic))
                for topic in self.sources
            ],
        )

    def _event(self, record: Message) -> ModelEvent:
        found = model_events.record_of(record)
        self._signing.check(record.offset() or 0, found)
        return model_events.decode(found)


def _at_us(record: Message) -> int:
    """Return the time of a record, by the clock of its producer or of Kafka."""
    return max(record.timestamp()[1], 0) * 1_000
