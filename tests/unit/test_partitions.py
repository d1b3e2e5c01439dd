"""The phases of a partition: each transition of docs/reference/exactly-once.md, and what a phase allows."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.bus.source_partition import SourcePartition
from headrace.streams.plane.partition import OwnedPartition, PartitionPhase, StoppedPartition
from headrace.streams.plane.partitions import Partitions
from headrace.streams.plane.retries import Retries

PLACE = "t", 0


class View:
    """Knows how many partitions its topic has."""

    partition_count = 1

    def extend_topic(self, partition_count: int) -> None:
        self.partition_count = partition_count


class Scene:
    """A worker's partitions, under a clock that a test sets. Waits are 1 s, then 2 s."""

    def __init__(self) -> None:
        self.now = 0.0
        self.partitions = Partitions(Retries(1, 2, monotonic=lambda: self.now, chance=lambda: 1.0))

    def opened(self, partition: int = 0, partition_count: int = 1) -> OwnedPartition:
        source, views = SourcePartition(partition, b"0" * 16), [View(), View()]
        of_any: Any = views
        return OwnedPartition("t", source, of_any, 0, 0, partition_count)

    def live(self) -> OwnedPartition:
        owned = self.opened()
        self.partitions.add(owned)
        self.partitions.begin(owned, behind=[])
        return owned


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_an_opened_partition_is_not_written_until_its_cursors_are_acquired(scene: Scene) -> None:
    owned = scene.opened()
    scene.partitions.add(owned)
    assert scene.partitions.phases() == {PLACE: PartitionPhase.ASSIGNED}
    assert (scene.partitions.written(), owned.live_views) == ([], [])
    scene.partitions.begin(owned, behind=owned.views[:1])
    assert owned.phase is PartitionPhase.CATCHING_UP
    assert (scene.partitions.written(), owned.live_views) == ([owned], owned.views[1:])
    owned.behind = []
    scene.partitions.caught_up(owned)
    assert (owned.phase, owned.live_views) == (PartitionPhase.LIVE, owned.views)


def test_a_refused_partition_is_read_but_not_written_and_is_due_after_its_wait(scene: Scene) -> None:
    owned = scene.live()
    scene.partitions.refuse(owned)
    assert (owned.phase, owned.live_views, scene.partitions.written()) == (PartitionPhase.REFUSED, [], [])
    assert scene.partitions.is_read(PLACE)
    assert not scene.partitions.has_due()
    scene.now = 1.0
    assert scene.partitions.has_due()
    assert scene.partitions.due() == [owned]


def test_a_fenced_partition_stays_fenced_through_refused_writes_until_kafka_is_rewound(scene: Scene) -> None:
    owned = scene.live()
    scene.partitions.fence(owned)
    scene.partitions.refuse(owned)
    assert scene.partitions.phases() == {PLACE: PartitionPhase.FENCED}
    scene.partitions.rewind(owned)
    assert scene.partitions.phases() == {PLACE: PartitionPhase.REFUSED}


def test_waits_grow_until_a_heartbeat_is_applied(scene: Scene) -> None:
    owned = scene.live()
    for wait in (1.0, 2.0, 2.0):
        scene.partitions.refuse(owned)
        scene.now += wait
        assert scene.partitions.due() == [owned]
        scene.partitions.begin(owned, behind=[])
    scene.partitions.confirm(owned)
    scene.partitions.refuse(owned)
    scene.now += 1.0
    assert scene.partitions.due() == [owned]


def test_a_stopped_partition_is_not_read_and_is_opened_again_when_due(scene: Scene) -> None:
    owned, stopped = scene.live(), StoppedPartition("t", 0, "the topic is gone")
    scene.partitions.stop(stopped)
    assert owned.phase is PartitionPhase.RELEASED
    assert scene.partitions.phases() == {PLACE: PartitionPhase.STOPPED}
    assert (scene.partitions.is_read(PLACE), scene.partitions.all_owned()) == (False, [])
    assert scene.partitions.is_known(StoppedPartition("t", 0, "the topic is gone"))
    assert not scene.partitions.is_known(StoppedPartition("t", 0, "another reason"))
    scene.now = 1.0
    assert scene.partitions.due() == [stopped]
    again = scene.opened()
    scene.partitions.add(again)
    assert scene.partitions.stopped() == []
    assert scene.partitions.owned(PLACE) is again


def test_a_released_partition_is_never_due(scene: Scene) -> None:
    owned = scene.live()
    scene.partitions.refuse(owned)
    assert scene.partitions.release(PLACE) is owned
    assert scene.partitions.release(PLACE) is None
    scene.now = 10.0
    assert (scene.partitions.due(), scene.partitions.phases()) == ([], {})


def test_a_new_partition_tells_the_others_how_many_the_topic_has(scene: Scene) -> None:
    owned = scene.live()
    scene.partitions.add(scene.opened(partition=1, partition_count=2))
    views: Any = owned.views
    assert owned.partition_count == 2
    assert [view.partition_count for view in views] == [2, 2]
