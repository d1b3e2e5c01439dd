"""An unkeyed topic with 64 partitions, of which one user has most of the events: exact, also after killed workers."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from headrace.event_log.event_log import EventLog
from headrace.serving.features import FeatureClient, Status
from tests.support.crash.project import project_scene
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
PARTITIONS, EVENTS, KILLS = 64, 4_000, 2


@pytest.mark.timeout(300)
def test_a_hot_user_in_all_of_64_partitions_is_counted_exactly_after_kills(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    users = [f"u{number}" for number in range(20)]
    wanted: Counter[str] = Counter()
    topic = f"{namespace}.payments"
    with project_scene(services, namespace, tmp_path) as scene:
        for killed in range(KILLS + 1):
            worker = scene.start("worker", "--partitions", str(PARTITIONS))
            wanted.update(produced(services.bootstrap_servers, topic, users))
            if killed < KILLS:
                until(lambda: worker.metric("headrace_batch_records_count") > 0, 60, worker.output.read_text)  # noqa: B023
                worker.kill()
        log = EventLog(tmp_path / ".headrace" / "events")
        until(lambda: log.read(topic).height == wanted.total(), 90, worker.output.read_text)
        rows = log.read(topic)
        assert rows.get_column("__partition").n_unique() == PARTITIONS
        assert rows.select("__partition", "__offset").is_unique().all()
        with closing(FeatureClient.from_url(services.redis_url, namespace)) as client:

            def counted() -> dict[str, float]:
                found = client.get("risk", [{"user": user} for user in users])
                return dict(zip(users, (row["user__n_1h"] for row in found.to_dicts()), strict=True))

            until(lambda: counted() == wanted, 60, counted)
            found = client.get("risk", [{"user": users[0]}])
        assert found.statuses(0)["user"] == Status.PRESENT
        assert len(found.offsets(0)["user"]) == PARTITIONS


def produced(servers: str, topic: str, users: list[str]) -> Counter[str]:
    """Send events without a key, to each partition in turn: most are of the first user. Return how many each has."""
    producer = Producer({"bootstrap.servers": servers, "log_level": 2})
    sent: Counter[str] = Counter()
    for number in range(EVENTS):
        user = users[0] if number % 5 else users[number // 5 % len(users)]
        event = {"payment_id": number, "user": user, "cents": 5, "at": datetime.now(UTC).isoformat()}
        producer.produce(topic, json.dumps(event), partition=number % PARTITIONS)
        sent[user] += 1
    assert producer.flush(60) == 0
    return sent
