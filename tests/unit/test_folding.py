"""A batch is written beside the loop: one write at a time, whose outcome is taken in before anything else is folded."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Message

from headrace.base.waiting import UntilAvailable
from headrace.bus.event import encode
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving import FeatureClient
from headrace.streams.plane.folding import Folding
from headrace.streams.plane.partition import OwnedPartition
from headrace.streams.plane.plane_metrics import PlaneMetrics
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.lookups_scene import MINUTE, SOURCES, START_US, risk, sale, sales, shops, tills

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from headrace.bus.source_partition import SourcePartition
    from headrace.features.online.store import FencedWrite

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


class Again:
    """The partitions that are to be acquired again."""

    def __init__(self) -> None:
        self.places = list[tuple[str, int]]()

    def waiting(self, place: tuple[str, int]) -> bool:
        return place in self.places

    def later(self, owned: OwnedPartition) -> None:
        self.places.append(owned.place)


class Scene:
    """A worker's folding over two partitions."""

    def __init__(self) -> None:
        self.store, self.buffer, self.again = Store(), Buffer(), Again()
        publish_definitions(self.store, [shops, tills], [risk])
        self.owned = {("sales", source.partition): self._own(source) for source in SOURCES}
        self.stop = threading.Event()
        doubles: dict[str, Any] = {"flushers": {"sales": self.buffer}, "acquisition": self.again}
        self.folding = Folding(
            {"sales": sales},
            self.store,
            self.owned,
            send=lambda letter: pytest.fail(str(letter)),
            patiently=UntilAvailable(self.stop),
            monotonic=lambda: 0.0,
            meter=PlaneMetrics(),
            **doubles,
        )
        self._offsets = [0, 0]

    def _own(self, source: SourcePartition) -> OwnedPartition:
        views = [ViewPartition(view.spec, source, self.store) for view in (shops, tills)]
        for view in views:
            view.acquire(b"w" * 16, len(SOURCES))
        return OwnedPartition("sales", source, views, 0, 0, len(SOURCES))

    def take(self, *partitions: int) -> None:
        """A batch of a sale of one in each."""
        self.folding.take([self._message(partition) for partition in partitions])

    def _message(self, partition: int) -> Message:
        offset = self._offsets[partition]
        self._offsets[partition] += 1
        stamp = (1, START_US // 1_000 + 120_000)
        value = encode(sale("a", 1))
        return Message(topic="sales", partition=partition, offset=offset, value=value, timestamp=stamp)

    def count(self) -> int:
        """How many sales a look-up knows of."""
        found: int = FeatureClient(self.store).get("risk", {"shop": "a", "till": 1}, as_of_us=AT_US).to_lists()[0][0]
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
    scene.take(0, 1)
    assert scene.store.asked.acquire(timeout=10)
    following = threading.Thread(target=scene.take, args=(0, 1))
    following.start()
    assert all(scene.buffer.added.acquire(timeout=10) for _ in range(4))  # judged, of both batches
    assert not scene.store.asked.acquire(timeout=0.05)
    assert [view.position for owned in scene.owned.values() for view in owned.views] == [1] * 4
    scene.store.open.set()
    following.join(10)
    scene.folding.settle()
    assert scene.count() == 4
    assert [view.written for owned in scene.owned.values() for view in owned.views] == [2] * 4


def test_a_write_that_got_no_answer_is_sent_again_before_anything_else(scene: Scene) -> None:
    scene.store.unanswered = 2
    scene.take(0)
    scene.take(0, 1)
    scene.folding.level()
    assert scene.count() == 3
    assert scene.again.places == []


def test_folding_without_waiting_for_an_absent_store_loses_nothing(scene: Scene) -> None:
    scene.store.unanswered = 1
    scene.take(0)
    with pytest.raises(OnlineStoreUnavailableError):
        scene.folding.level(wait=False)
    scene.folding.settle()
    assert scene.count() == 1


def test_a_refused_write_has_its_partitions_acquired_again_unless_they_are_gone(scene: Scene) -> None:
    scene.store.refused = 1
    scene.take(0, 1)
    del scene.owned["sales", 1]
    scene.folding.settle()
    assert set(scene.again.places) == {("sales", 0)}
    scene.take(0)
    assert len(scene.buffer.rows) == 3  # it is logged meanwhile
    assert scene.count() == 0


def test_a_heartbeat_waits_for_the_write_before_it(scene: Scene) -> None:
    scene.take(0)
    assert len(scene.folding.beat()) == 2
    assert scene.again.places == []
    assert scene.count() == 1
