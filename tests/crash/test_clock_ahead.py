"""A record with a time far ahead: its view says so instead of 0, the others are exact, and the doctor names it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from headrace.errors import FeaturesUnknownError
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from tests.support.crash.project import project_scene
from tests.support.waiting import eventually, until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.serving.feature_vectors import FeatureVectors

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
AHEAD = timedelta(hours=23)
HOUR_S = 3_600


class Till:
    """Produces payments of ada to partition 0, those of bob to partition 1, and a verdict on each."""

    def __init__(self, servers: str, name: str) -> None:
        self._producer, self._name, self.sent = Producer({"bootstrap.servers": servers}), name, 0

    def pay(self, user: str, ahead: timedelta = timedelta()) -> None:
        at = datetime.now(UTC) + ahead
        self.sent += 1
        payment = {"payment_id": self.sent, "user": user, "cents": 5, "at": at.isoformat()}
        verdict = {"payment_id": self.sent, "fraud": False, "at": datetime.now(UTC).isoformat()}
        partition, key = ("ada", "bob").index(user), user.encode()
        self._producer.produce(
            f"{self._name}.payments", json.dumps(payment).encode(), key, partition, timestamp=int(at.timestamp() * 1e3)
        )
        self._producer.produce(f"{self._name}.verdicts", json.dumps(verdict).encode(), b"1", 0)
        assert self._producer.flush(10) == 0


@pytest.mark.timeout(300)
def test_a_record_23_hours_ahead_makes_no_look_up_0(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    store = RedisOnlineStore(services.redis_url, namespace)
    client = FeatureClient(store, heartbeat_bound="30s")

    def asked() -> FeatureVectors:
        return eventually(lambda: client.get("both", {"user": "ada", "payment_id": 1}))

    def is_served() -> bool:
        try:
            return bool(asked())
        except FeaturesUnknownError:  # the worker has just begun
            return False

    def answer() -> tuple[dict[str, object], dict[str, str]]:
        found = asked()
        assert abs(found.at - datetime.now(UTC)) < timedelta(minutes=1)
        return found.to_dicts()[0], {view: status.value for view, status in found.statuses().items()}

    with project_scene(services, namespace, tmp_path) as scene:
        worker, till = (
            scene.start("worker", "--replay", "--partitions", "2"),
            Till(services.bootstrap_servers, namespace),
        )
        until(is_served, 60)
        for _ in range(3):
            till.pay("ada")
            till.pay("bob")
        exact = {"user__n_1h": 3, "verdict__n_1h": 1}, {"user": "present", "verdict": "present"}
        until(lambda: answer() == exact, 60, answer)
        assert errors(scene.run("doctor", "--json").stdout) == []
        till.pay("bob", AHEAD)
        ahead = {"user__n_1h": None, "verdict__n_1h": 1}, {"user": "out_of_range", "verdict": "present"}
        until(lambda: answer() == ahead, 60, answer)
        till.pay("ada")
        worker.kill()
        worker = scene.start("worker", "--replay")
        place = {"topic": f"{namespace}.payments", "partition": "1"}

        def ahead_s() -> float:
            return worker.metric("headrace_partition_clock_timestamp_seconds", **place) - time.time()

        until(lambda: 22 * HOUR_S < ahead_s() <= 23 * HOUR_S, 60, ahead_s)  # it reads what the log does not have yet
        assert answer() == ahead
        then = client.get("both", {"user": "bob", "payment_id": 1}, as_of=datetime.now(UTC) + AHEAD)
        assert then.statuses()["user"].value == "present"  # the law holds at that time, when it comes
        assert then.to_dicts()[0]["user__n_1h"] == 1
        said = errors(scene.run("doctor", "--json").stdout)
        assert [each.partition(":")[0] for each in said] == [f"partition 1 of {namespace}.payments", "partition 1"]
        assert all("its clock is 23.0 h ahead of this machine's" in each or "22.9 h" in each for each in said)


def errors(report: str) -> list[str]:
    """What the doctor calls an error about clocks."""
    return [each["found"] for each in json.loads(report) if each["severity"] == "error" and "clock is" in each["found"]]
