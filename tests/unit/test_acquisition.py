"""Catching up reads the log in bounded pieces, and folds them in slices that live batches come between."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import polars as pl
import pytest

from headrace.bus.source_partition import SourcePartition
from headrace.errors import OfflineStoreUnavailableError, OnlineStoreUnavailableError
from headrace.features.online.cursor import Cursor, CursorState
from headrace.features.online.store import FencedWrite
from headrace.streams.plane.acquisition import Acquisition
from headrace.streams.plane.catch_up import CatchUp
from headrace.streams.plane.flusher import Flusher
from headrace.streams.plane.logged_stream import LoggedStream
from headrace.streams.plane.partition import OwnedPartition, PartitionPhase
from headrace.streams.plane.partitions import Partitions
from headrace.streams.plane.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from headrace.event_log.log_writer import LogWriter

SOURCE = SourcePartition(0, b"0" * 16)
PIECE, SLICE = 20_000, 10_000


class SparseLog:
    """Has the even offsets, but for those of an accepted gap; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.away = 0
        self.takes_s = 0.0

    def read_from(self, _: str, source: SourcePartition, start: int, end: int, columns: list[str]) -> pl.DataFrame:
        assert (source, columns) == (SOURCE, ["__offset", "at"])
        if self.away:
            self.away -= 1
            raise OfflineStoreUnavailableError("away")
        self.asked.append((start, end))
        time.sleep(self.takes_s)
        offsets = [at for at in range(start + start % 2, end, 2) if not 30_000 <= at < 60_000]
        return rows(offsets)

    def empty(self, _: str) -> pl.DataFrame:
        return rows([])


def rows(offsets: list[int]) -> pl.DataFrame:
    times = pl.Series("at", [0] * len(offsets), pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {"__offset": pl.Series(offsets, dtype=pl.Int64), "__reason": [None] * len(offsets), "at": times}
    )


@dataclass
class Store:
    """Refuses a number of writes, or does not answer them."""

    refuses: int = 0
    unanswered: int = 0
    states: list[CursorState] = field(default_factory=list)

    def write(self, writes: list[FencedWrite]) -> list[bool]:
        if self.unanswered:
            self.unanswered -= 1
            raise OnlineStoreUnavailableError("away")
        refused, self.refuses = self.refuses > 0, max(self.refuses - 1, 0)
        self.states += [write.after.state for write in writes]
        return [not refused] * len(writes)


class View:
    """Keeps the offsets that it was given; its memory goes when it is acquired."""

    event_time, columns = "at", ("__offset", "at")

    def __init__(self, position: int) -> None:
        self.view, self.source = f"v{position}@1", SOURCE
        self._stored = self.cursor = Cursor(b"me", position, state=CursorState.LIVE)
        self.folded: list[int] = []
        self.slices: list[int] = []

    @property
    def position(self) -> int:
        return max(self.cursor.next_offset, 0)

    @property
    def is_live(self) -> bool:
        return self.cursor.next_offset >= 0 and self.cursor.state is CursorState.LIVE

    def marked(self, state: CursorState) -> list[FencedWrite]:
        return [FencedWrite(self.view, SOURCE, self.cursor, self.cursor.moved(self.position, 0, 0, state))]

    def applied(self, write: FencedWrite) -> None:
        self.cursor = write.after

    def acquire(self, owner: bytes, _: int) -> None:
        self.cursor = replace(self.cursor, owner=owner)

    def fold(self, logged: Any, next_offset: int, state: CursorState) -> list[FencedWrite]:
        new = logged.since(self.position).offsets.tolist()
        self.folded += new
        self.slices.append(len(new))
        return [FencedWrite(self.view, SOURCE, self.cursor, self.cursor.moved(next_offset, len(new), 0, state))]


@dataclass
class Flushed:
    """A flusher whose log ends at ``end``, with a buffer beyond it."""

    end: int
    parts: list[pl.DataFrame] = field(default_factory=list)

    def positions(self) -> dict[SourcePartition, int]:
        return {SOURCE: self.end}

    @contextmanager
    def keeping(self, _: SourcePartition) -> Iterator[list[pl.DataFrame]]:
        yield self.parts


class Scene:
    """One partition with views at some positions, over a log to ``end`` and a buffer to ``consumed``."""

    def __init__(self, *positions: int, end: int, tail: list[pl.DataFrame] | None = None) -> None:
        self.log, self.store, self.flusher = SparseLog(), Store(), Flushed(end, tail or [])
        self.views = [View(position) for position in positions]
        consumed = self.flusher.parts[-1]["__offset"][-1] + 1 if tail else end
        views: Any = list(self.views)
        self.owned = OwnedPartition("t", SOURCE, views, next_offset=consumed, reads_from=end, partition_count=1)
        self.partitions = Partitions(Retries(0, 0, monotonic=lambda: 0.0, chance=lambda: 0.0))
        self.streams: dict[str, LoggedStream] = {}
        self.log_with(self.flusher)
        store: Any = self.store
        self.acquisition = Acquisition(
            self.partitions,
            store,
            CatchUp(store, self.streams, piece_rows=PIECE),
            new_owner=lambda: b"me",
            publish=lambda: None,
        )
        self.acquisition.acquire(self.owned)
        self.partitions.add(self.owned)

    def log_with(self, flusher: Any) -> None:
        """From now on rows go to the log by this flusher."""
        log: Any = self.log
        no: Any = None
        self.streams["t"] = LoggedStream(no, log, no, flusher, no)

    def run(self, until: Callable[[], bool] = lambda: False, *, alone: bool = False) -> None:
        """Slices, and acquiring again, to the end."""
        deadline = time.monotonic() + 10
        while self.owned.phase is not PartitionPhase.LIVE and not until():
            assert time.monotonic() < deadline
            for _ in self.partitions.due():
                self.acquisition.acquire(self.owned)
            self.acquisition.advance(alone=alone)


def even(start: int, end: int) -> list[int]:
    return [at for at in range(start + start % 2, end, 2) if not 30_000 <= at < 60_000]


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are only offsets here."""
    monkeypatch.setattr("headrace.streams.views.logged_rows.with_time", lambda frame, _: frame)


def test_a_large_catch_up_is_read_in_pieces_that_meet_and_end_at_d() -> None:
    scene = Scene(37, end=101_010)
    scene.run()
    asked = scene.log.asked
    assert (asked[0][0], asked[-1][1]) == (37, 101_010)
    assert all(before[1] == after[0] for before, after in pairwise(asked))
    assert max(end - start for start, end in asked) == PIECE
    assert scene.views[0].folded == even(37, 101_010)
    assert max(scene.views[0].slices) <= SLICE


def test_slices_are_as_large_as_pieces_when_no_live_view_waits() -> None:
    tail = [rows(list(range(50, 50 + 3 * SLICE)))]
    busy, alone = Scene(0, end=50, tail=tail), Scene(0, end=50, tail=tail)
    busy.run()
    alone.run(alone=True)
    assert busy.views[0].folded == alone.views[0].folded
    assert max(busy.views[0].slices) == SLICE
    assert max(alone.views[0].slices) == 3 * SLICE


def test_the_cursor_says_rebuilding_from_before_the_first_row_to_the_last() -> None:
    scene = Scene(-1, end=100)
    assert scene.store.states == [CursorState.REBUILDING]
    assert scene.views[0].cursor.next_offset == 0, "it stands before a field is read"
    scene.run()
    assert scene.store.states == [CursorState.REBUILDING, CursorState.LIVE]
    assert scene.views[0].cursor.next_offset == 100


def test_a_partition_that_is_not_behind_is_live_at_once() -> None:
    scene = Scene(100, 250, -1, end=100)
    assert [view.view for view in scene.owned.live_views] == ["v100@1", "v250@1"]
    scene.run()
    assert [view.folded for view in scene.views] == [[], [], even(0, 100)]


def test_views_nearest_to_the_end_go_first_and_views_at_one_offset_share_the_reads() -> None:
    scene = Scene(0, 29_000, 0, end=62_000)
    scene.run(until=lambda: len(scene.owned.behind) == 2)
    assert scene.views[0].folded == scene.views[2].folded == []
    assert scene.views[1].folded == even(29_000, 62_000)
    scene.run()
    assert scene.views[0].folded == scene.views[2].folded == even(0, 62_000)
    assert [start for start, _ in scene.log.asked].count(0) == 1


def test_the_buffer_of_a_catch_up_follows_the_log() -> None:
    scene = Scene(0, end=50, tail=[rows(list(range(50, 25_000))), rows([25_000])])
    scene.run()
    assert scene.views[0].folded == [*range(0, 50, 2), *range(50, 25_001)]
    assert max(scene.views[0].slices) <= SLICE
    assert scene.views[0].cursor.state is CursorState.LIVE


def test_rows_that_arrive_during_a_catch_up_are_folded_before_the_view_is_live() -> None:
    scene = Scene(0, end=100_000)
    scene.run(until=lambda: len(scene.views[0].slices) == 1)
    scene.flusher.parts.append(rows([100_000, 100_001]))
    scene.owned.next_offset = 100_002
    scene.run()
    assert scene.views[0].folded == [*even(0, 100_000), 100_000, 100_001]
    assert scene.store.states[-2:] == [CursorState.REBUILDING, CursorState.LIVE]


class Writer:
    """Of a log that ends somewhere."""

    def __init__(self, end: int) -> None:
        self.end = end

    def refresh(self) -> None:
        pass

    def position(self, _: SourcePartition) -> int:
        return self.end

    def append(
        self, _: pl.DataFrame, expected: Mapping[SourcePartition, int | None], positions: Mapping[SourcePartition, int]
    ) -> None:
        assert expected == {SOURCE: self.end}
        self.end = positions[SOURCE]


def test_a_log_that_is_flushed_more_often_than_it_can_be_read_is_caught_up_with() -> None:
    scene, writer = Scene(0, end=100), Writer(100)
    scene.log.takes_s = 0.05
    flusher = Flusher(cast("LogWriter", writer), time.monotonic)
    flusher.open(SOURCE)
    scene.log_with(flusher)
    deadline = time.monotonic() + 10
    while scene.owned.behind:
        assert time.monotonic() < deadline, "it runs after the end for ever"
        end = scene.owned.next_offset
        scene.owned.next_offset = end + 2
        flusher.add(SOURCE, rows([end, end + 1]), end + 2)
        flusher.flush()
        for _ in range(4):
            scene.acquisition.advance()
        time.sleep(0.01)
    assert len(scene.log.asked) == 1
    read = scene.log.asked[0][1]
    assert scene.views[0].folded == [*range(0, read, 2), *range(read, scene.owned.next_offset)]
    assert flusher._unflushed[SOURCE].kept is None
    flusher.shutdown()


@pytest.mark.parametrize("trouble", ["refuses", "unanswered"])
def test_a_slice_that_is_not_applied_is_folded_again_from_the_cursor(trouble: str) -> None:
    scene = Scene(0, end=100_000)
    scene.run(until=lambda: len(scene.views[0].slices) == 1)
    view, before = scene.views[0], scene.views[0].cursor.next_offset
    setattr(scene.store, trouble, 1)
    scene.run(until=lambda: scene.owned.phase is PartitionPhase.REFUSED)
    assert view.cursor.next_offset == before
    del view.folded[len(even(0, before)) :]
    scene.run()
    assert view.folded == even(0, 100_000)


def test_a_log_that_is_away_is_waited_for() -> None:
    scene = Scene(0, end=1_000)
    scene.log.away = 2
    scene.run()
    assert scene.views[0].folded == even(0, 1_000)


def test_views_come_and_go_and_the_others_do_not_notice() -> None:
    scene = Scene(0, 100_000, end=100_000)
    scene.run(until=lambda: len(scene.views[0].slices) == 1)
    new: Any = View(-1)
    staying: Any = scene.views[1]
    scene.acquisition.follow(scene.owned, [staying, new])
    assert scene.owned.live_views == [staying]
    assert new.cursor.state is CursorState.REBUILDING
    scene.run()
    assert new.folded == even(0, 100_000)
    assert (len(scene.views[0].slices), staying.slices) == (1, [])
