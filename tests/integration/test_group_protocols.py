"""Workers share partitions also by a broker that knows the classic group protocol only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.app.local.kafka import LocalKafka
from headrace.bus.consumer import BatchConsumer
from headrace.bus.producer import EventProducer
from headrace.bus.topics import TopicPlan, ensure_topics
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.long]


class ClassicKafka(LocalKafka):
    """A broker as before Kafka 4."""

    def _properties(self) -> dict[str, object]:
        return {**super()._properties(), "group.coordinator.rebalance.protocols": "classic"}


@pytest.fixture
def classic(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "kafka"
    folder.mkdir()
    kafka = ClassicKafka(folder)
    kafka.launch()
    kafka.await_ready(180)
    yield kafka.bootstrap_servers
    kafka.stop()


class Member:
    """Reads what the group gives to it, from the beginning."""

    def __init__(self, servers: str) -> None:
        self.own: set[int] = set()
        self.read: list[bytes | None] = []
        self.consumer = BatchConsumer(servers, "readers")
        self.consumer.subscribe(["topic"], self)

    def assigned(self, topic: str, partition: int) -> int:
        del topic
        self.own.add(partition)
        return 0

    def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        self.own -= {number for _, number in partitions}

    lost = revoked

    def poll(self) -> bool:
        """Read on; true for `until`."""
        self.read += [record.value() for record in self.consumer.poll(100, 0.1)]
        return True


def test_two_members_share_the_partitions_and_one_takes_those_of_the_other(classic: str) -> None:
    ensure_topics(classic, [TopicPlan("topic", 2)])
    producer = EventProducer(classic)
    for number in range(20):
        producer.put("topic", b"%d" % number, b"%d" % number)
    producer.flush()
    first = Member(classic)
    until(lambda: first.poll() and len(first.read) == 20, 60)
    assert first.own == {0, 1}
    second = Member(classic)
    until(lambda: first.poll() and second.poll() and len(first.own) == len(second.own) == 1, 60)
    assert first.own | second.own == {0, 1}
    first.consumer.close()
    until(lambda: second.poll() and second.own == {0, 1}, 60)
    second.consumer.close()
