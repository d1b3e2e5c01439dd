"""`headrace process --replay`: history of the event log that Kafka does not have any more, exactly once."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer, TopicPartition

from headrace.bus.kafka_clients import admin
from tests.support.enriched_project import PYTHON, EnrichedProject
from tests.support.processor_project import PARTITIONS, committed_records, stopped
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.crash, pytest.mark.long]
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
PATIENT = PYTHON.replace("with_features(card_usual,", 'with_features(card_usual, silent_after="500ms",')
ROWS = 60


def paid_at(number: int) -> datetime:
    return START + timedelta(minutes=number)


def send(project: EnrichedProject, numbers: range) -> None:
    """Payments, a minute after each other, each in the partition of its card."""
    producer = Producer({"bootstrap.servers": project.servers})
    for number in numbers:
        card = f"c{number % 3}"
        row = {"payment_id": number, "card": card, "shop": "s1", "amount": float(number)}
        value = json.dumps(row | {"paid_at": paid_at(number).isoformat()}).encode()
        stamp = int(paid_at(number).timestamp() * 1_000)
        producer.produce(project.payments, value, card, partition=number % 3, timestamp=stamp)
    assert producer.flush(30) == 0


def test_history_that_kafka_has_deleted_is_enriched_once(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    project = EnrichedProject(services, namespace, tmp_path, python=PATIENT, replay=True)
    with project.working():
        send(project, range(ROWS))
        until(lambda: project.logged_payments() == ROWS, 60)
        ends = [TopicPartition(project.payments, partition, ROWS // 3) for partition in range(3)]
        client = admin(project.servers)  # kept while the futures are open
        for future in client.delete_records(ends).values():
            future.result(30)
        name, small = project.compared.processor.name, {"HEADRACE_PROCESS_BATCH_SIZE": "20"}
        with project.process("--replay", name, FAILPOINT="before-process-commit:2", **small) as process:
            assert process.wait(150) == -signal.SIGKILL, project.log()
        with project.process("--replay", name, **small) as process:
            assert process.wait(150) == 0, project.log()
        assert_right(project, ROWS)
        with project.process(**small) as process:  # it goes on in Kafka where the history ends
            send(project, range(ROWS, ROWS + 3))
            project.await_written(ROWS + 3)
            assert stopped(process) == 0
    assert "were deleted before they were read" not in project.log()
    assert_right(project, ROWS + 3)


def assert_right(project: EnrichedProject, count: int) -> None:
    """Each payment is there once, with the mean of the payments before it, and at its own time."""
    records = committed_records(project.servers, project.compared.topic, PARTITIONS)
    found = {}
    for each in records:
        event = json.loads(each.value() or b"")
        found[event["payment_id"]] = event
        assert each.timestamp()[1] == int(paid_at(event["payment_id"]).timestamp() * 1_000)
    assert len(records) == len(found) == count
    for number, event in found.items():
        before = [float(earlier) for earlier in range(number % 3, number, 3)]
        assert event["card__mean_30d"] == (pytest.approx(fmean(before)) if before else None)
