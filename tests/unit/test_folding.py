"""A batch is written beside the loop: one write at a time, whose outcome is taken in before anything else is folded."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message

from headrace.base.times import utc_datetime
from headrace.base.waiting import UntilAvailable
from headrace.bus.event import encode
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving import FeatureClient
from headrace.streams.plane.folding import Folding
from headrace.streams.plane.logged_stream import LoggedStream
from headrace.streams.plane.partition import OwnedPartition, PartitionPhase
from headrace.streams.plane.partitions import Partitions
from headrace.streams.plane.plane_metrics import PlaneMetrics
from headrace.streams.plane.record_judge import RecordJudge
from headrace.streams.plane.retries import Retries
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.lookups_scene import MINUTE, SOURCES, START_US, risk, sale, sales, shops, tills

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.online.store import FencedWrite
    from headrace.streams.plane.rejected_copies import RejectedCopy

AT_US = START_US + 5 * MINUTE


class Store(MemoryOnlineStore):
    """Answers writes when it is let; some not at all, or with no."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.asked = threading.Event(), threading.Semaphore(0)
        self.unanswered = self.refused = 0
        self.open.set()

    def write(self, writes: Sequence[FencedWrite]) -> list[bool]:
        self.asked.release()
        assert self.open.wait(10)
        if self.unanswered:
            self.unanswered -= 1
            raise OnlineStoreUnavailableError("away")
        if self.refused:
            self.refused -= 1
            return [False] * len(writes)
        return super().write(writes)


@dataclass
class Buffer:
    """What would go to the log."""

    rows: list[pl.DataFrame] = field(default_factory=list)
    added: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def add(self, source: SourcePartition, rows: pl.DataFrame, next_offset: int) -> None:
        assert source in SOURCES
        assert rows.get_column("__offset").to_list()[-1] == next_offset - 1
        self.rows.append(rows)
        self.added.release()


class NoCopies:
    """No record is rejected here."""

    def send(self, copy: RejectedCopy) -> None:
        pytest.fail(str(copy))


class Scene:
    """A worker's folding over two partitions."""

    def __init__(self) -> None:
        self.store, self.buffer = Store(), Buffer()
        self.partitions = Partitions(Retries(1, 1, monotonic=lambda: 0.0, chance=lambda: 0.0))
        publish_definitions(self.store, [shops, tills], [risk])
        self.owned = [self._own(source) for source in SOURCES]
        self.stop = threading.Event()
        log: Any = None
        buffer: Any = self.buffer
        copies: Any = NoCopies()
        self.folding = Folding(
            {"sales": LoggedStream(sales, log, log, buffer, RecordJudge(sales))},
            self.store,
            self.partitions,
            copies,
            until_available=UntilAvailable(self.stop),
            monotonic=lambda: 0.0,
            meter=PlaneMetrics(),
        )
        self._offsets = [0, 0]

    def _own(self, source: SourcePartition) -> OwnedPartition:
        views = [ViewPartition(view.spec, source, self.store) for view in (shops, tills)]
        for view in views:
            view.acquire(b"w" * 16, len(SOURCES))
        owned = OwnedPartition("sales", source, views, 0, 0, len(SOURCES))
        self.partitions.add(owned)
        self.partitions.begin(owned, behind=[])
        return owned

    def refused(self) -> list[int]:
        """The partitions that are to be acquired again."""
        return [p for (_, p), phase in self.partitions.phases().items() if phase is PartitionPhase.REFUSED]

    def fold(self, *partitions: int) -> None:
        """A batch of a sale of one in each."""
        self.folding.fold([self._message(partition) for partition in partitions])

    def _message(self, partition: int) -> Message:
        offset = self._offsets[partition]
        self._offsets[partition] += 1
        stamp = (1, START_US // 1_000 + 120_000)
        value = encode(sale("a", 1))
        return Message(topic="sales", partition=partition, offset=offset, value=value, timestamp=stamp)

    def count(self) -> int:
        """How many sales a look-up knows of."""
        found: int = (
            FeatureClient(self.store).get("risk", {"shop": "a", "till": 1}, as_of=utc_datetime(AT_US)).to_lists()[0][0]
        )
        return found


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.store.open.set()
    scene.stop.set()
    scene.folding.close()


def test_the_next_batch_is_judged_but_not_folded_while_a_write_is_under_way(scene: Scene) -> None:
    scene.store.open.clear()
    scene.fold(0, 1)
    assert scene.store.asked.acquire(timeout=10)
    following = threading.Thread(target=scene.fold, args=(0, 1))
    following.start()
    assert all(scene.buffer.added.acquire(timeout=10) for _ in range(4))  # judged, of both batches
    assert not scene.store.asked.acquire(timeout=0.05)
    assert [view.position for owned in scene.owned for view in owned.views] == [1] * 4
    scene.store.open.set()
    following.join(10)
    scene.folding.settle()
    assert scene.count() == 4
    assert [view.written for owned in scene.owned for view in owned.views] == [2] * 4


def test_a_write_that_got_no_answer_is_sent_again_before_anything_else(scene: Scene) -> None:
    scene.store.unanswered = 2
    scene.fold(0)
    scene.fold(0, 1)
    scene.folding.level()
    assert scene.count() == 3
    assert scene.refused() == []


def test_folding_without_waiting_for_an_absent_store_loses_nothing(scene: Scene) -> None:
    scene.store.unanswered = 1
    scene.fold(0)
    with pytest.raises(OnlineStoreUnavailableError):
        scene.folding.level(wait=False)
    scene.folding.settle()
    assert scene.count() == 1


def test_a_refused_write_has_its_partitions_acquired_again_unless_they_are_gone(scene: Scene) -> None:
    scene.store.refused = 1
    scene.fold(0, 1)
    scene.partitions.release(("sales", 1))
    scene.folding.settle()
    assert scene.refused() == [0]
    scene.fold(0)
    assert len(scene.buffer.rows) == 3  # it is logged meanwhile
    assert scene.count() == 0


def test_a_heartbeat_waits_for_the_write_before_it(scene: Scene) -> None:
    scene.fold(0)
    assert len(scene.folding.beat()) == 2
    assert scene.refused() == []
    assert scene.count() == 1
