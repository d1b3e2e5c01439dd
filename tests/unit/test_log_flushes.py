"""The commits of all streams of a worker: waited for, measured, and what follows from a fence."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from headrace.base.waiting import UntilAvailable
from headrace.errors import OfflineStoreUnavailableError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.log_flushes import LogFlushes
from headrace.streams.plane.logged_stream import LoggedStream
from headrace.streams.plane.partition import OwnedPartition, PartitionPhase
from headrace.streams.plane.partitions import Partitions
from headrace.streams.plane.plane_metrics import PlaneMetrics
from headrace.streams.plane.retries import Retries
from tests.support.logged_sales import SOURCES, rows, sales

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Copies:
    """Counts how often copies of rejected rows were waited for."""

    flushed = 0

    def flush(self) -> None:
        self.flushed += 1


class Meter(PlaneMetrics):
    """Keeps the commits."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, int]] = []

    def flushed(self, topic: str, rows: int, seconds: float) -> None:
        assert seconds >= 0
        self.commits.append((topic, rows))


class Scene:
    """A worker with three partitions of one stream."""

    def __init__(self, folder: Path) -> None:
        self.log, self.meter, self.copies = EventLog(folder), Meter(), Copies()
        self.partitions = Partitions(Retries(1, 1, monotonic=lambda: 0.0, chance=lambda: 0.0))
        self.stream = LoggedStream.open(sales, self.log, lambda: 0.0)
        copies: Any = self.copies
        until_available = UntilAvailable(threading.Event())
        self.flushes = LogFlushes({"sales": self.stream}, self.partitions, copies, until_available, self.meter)
        self.owned = [self._own(source) for source in SOURCES]

    def _own(self, source: Any) -> OwnedPartition:
        self.stream.flusher.open(source)
        owned = OwnedPartition("sales", source, [], 7, 0, len(SOURCES))
        self.partitions.add(owned)
        self.partitions.begin(owned, behind=[])
        self.stream.flusher.add(source, rows(source, 0, 7), 7)
        return owned


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.stream.flusher.shutdown()


def test_a_flush_returns_once_a_log_that_was_away_has_everything(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    append, away = LogWriter.append, [True, True]

    def sometimes(*args: Any) -> None:
        if away:
            away.pop()
            raise OfflineStoreUnavailableError("away")
        append(*args)

    monkeypatch.setattr(LogWriter, "append", sometimes)
    scene.flushes.flush()
    assert scene.flushes.pending == 0
    assert scene.meter.commits == [("sales", 21)]
    assert scene.copies.flushed == 1
    assert scene.log.read("sales").height == 21


def test_a_fenced_partition_waits_at_the_new_position_with_its_clock(scene: Scene) -> None:
    other = SOURCES[1]
    LogWriter(scene.log, sales).append(rows(other, 0, 4), {other: None}, {other: 4})
    scene.flushes.flush()
    assert [owned.phase for owned in scene.owned] == [
        PartitionPhase.LIVE, PartitionPhase.FENCED, PartitionPhase.LIVE
    ]  # fmt: skip
    fenced = scene.owned[1]
    assert (fenced.next_offset, fenced.available_us) == (4, 1_767_225_600_000_000)
    assert scene.meter.commits == [("sales", 14)]


def test_a_partition_that_was_given_away_is_not_fenced(scene: Scene) -> None:
    other = SOURCES[1]
    LogWriter(scene.log, sales).append(rows(other, 0, 4), {other: None}, {other: 4})
    scene.partitions.release(("sales", 1))
    scene.flushes.flush()
    assert scene.owned[1].phase is PartitionPhase.RELEASED
    assert scene.owned[1].next_offset == 7


def test_a_fence_is_found_where_another_partition_is_closed(scene: Scene) -> None:
    other = SOURCES[1]
    LogWriter(scene.log, sales).append(rows(other, 0, 4), {other: None}, {other: 4})
    scene.flushes.start()
    scene.flushes.close(scene.owned[0])
    assert scene.owned[1].phase is PartitionPhase.FENCED
    assert scene.owned[1].next_offset == 4
