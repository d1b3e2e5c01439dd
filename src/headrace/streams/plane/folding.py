"""A batch's way: judged, buffered for the log, folded by the views that are live, written in one round trip.

The write runs beside the loop, which reads and judges the next batch meanwhile. Its outcome is taken in before anything
else is folded or written, so a cursor never has more than one write under way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import structlog
from confluent_kafka import Message

from headrace.errors import OnlineStoreUnavailableError
from headrace.event_log.event_log import REJECTED
from headrace.streams.plane.failpoints import failpoint
from headrace.streams.plane.record_judge import PartitionRecords, PartitionRun, RecordJudge
from headrace.streams.plane.rejected_copies import letters
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import fold_together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.base.waiting import UntilAvailable
    from headrace.bus.stream import Stream
    from headrace.features.online.store import FencedWrite, OnlineStore
    from headrace.streams.plane.acquisition import Acquisition
    from headrace.streams.plane.flusher import Flusher
    from headrace.streams.plane.partition import OwnedPartition
    from headrace.streams.plane.plane_metrics import PlaneMetrics
    from headrace.streams.plane.rejected_copies import RejectedCopy
    from headrace.streams.views.view_partition import ViewPartition

    OwnedPartitions = Mapping[tuple[str, int], OwnedPartition]
    PartitionBatch = tuple[OwnedPartition, Sequence[Message]]
    ViewWrite = tuple[OwnedPartition, ViewPartition, FencedWrite]
_READ: Any = Message
"""Of messages that were read: they have a topic, a partition and an offset. ``map`` calls nothing faster."""
logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _PendingBatch:
    """So many records, taken at a time, and what is to be written of them."""

    records: int
    began: float
    writes: Sequence[ViewWrite]


@dataclass(frozen=True)
class _WriteOutcome:
    """Which writes were applied, when that was known, and the seconds that took."""

    applied: Sequence[bool]
    at: float
    seconds: float


class Folding:
    """What every write of a worker's live views goes through. It waits for a store that is away.

    ``owned`` and ``flushers`` are the worker's own, as they are at each call. ``send`` takes a rejected record's copy.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        store: OnlineStore,
        owned: OwnedPartitions,
        flushers: Mapping[str, Flusher],
        acquisition: Acquisition,
        *,
        send: Callable[[RejectedCopy], None],
        patiently: UntilAvailable,
        monotonic: Callable[[], float],
        meter: PlaneMetrics,
    ) -> None:
        self._streams, self._store, self._owned, self._flushers = streams, store, owned, flushers
        self._acquisition, self._send, self._patiently = acquisition, send, patiently
        self._monotonic, self._meter = monotonic, meter
        self._judges = {topic: RecordJudge(stream) for topic, stream in streams.items()}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._under_way: tuple[_PendingBatch, Future[_WriteOutcome]] | None = None

    def take(self, messages: Sequence[Message]) -> None:
        """Take records in; those of partitions that are not owned, or not from their position on, are dropped."""
        began = self._monotonic()
        by_topic: dict[str, list[PartitionBatch]] = defaultdict(list)
        for place, own in _by_place(messages).items():
            owned = self._owned.get(place)
            wanted = own[bisect_left(own, owned.next_offset, key=_READ.offset) :] if owned and not owned.rewind else []
            if owned and wanted:
                by_topic[owned.topic].append((owned, wanted))
        judged = [(taken, self._judged(topic, taken)) for topic, taken in by_topic.items()]
        self.settle()
        writes = [write for taken, rows in judged for write in self._fold(taken, rows)]
        failpoint("before-redis")
        self._begin(_PendingBatch(len(messages), began, writes))

    def settle(self, *, wait: bool = True) -> None:
        """Take in what became of the last batch's write. ``wait``: as for :meth:`level`."""
        self._do(self._take_in, wait=wait)

    def close(self) -> None:
        """End the thread, once what it writes has been answered."""
        self._thread.shutdown(wait=True)

    def beat(self) -> list[OwnedPartition]:
        """A heartbeat on every cursor of the partitions that are not to be acquired again; these partitions."""
        self.settle()
        beating = self._writing()
        beats = [(owned, view, write) for owned in beating for view in owned.views for write in view.heartbeat()]
        self._patiently(partial(self._write, beats))
        return beating

    def level(self, *, wait: bool = True) -> None:
        """Bring up the cursors of shards that the last batches had nothing for.

        ``wait`` for a store that is away, or raise OnlineStoreUnavailableError.
        """
        self.settle(wait=wait)
        behind = [(owned, view, write) for owned in self._writing() for view in owned.views for write in view.level()]
        self._do(partial(self._write, behind), wait=wait)

    def _do(self, action: Callable[[], None], *, wait: bool) -> None:
        if wait:
            self._patiently(action)
        else:
            action()

    def _writing(self) -> list[OwnedPartition]:
        return [owned for place, owned in self._owned.items() if not self._acquisition.waiting(place)]

    def _fold(self, taken: Sequence[PartitionBatch], rows: LoggedRows) -> list[ViewWrite]:
        """Fold the records of all partitions of a topic together: what that costs is by batch."""
        live = [
            (owned, view, int(own[0].offset() or 0))
            for owned, own in taken
            if not self._acquisition.waiting(owned.place)
            for view in owned.live
            if view.position < owned.next_offset
        ]
        by_view = groupby(sorted(live, key=lambda one: one[1].view), key=lambda one: one[1].view)
        return [write for _, folding in by_view for write in self._fold_view(list(folding), rows)]

    def _judged(self, topic: str, taken: Sequence[PartitionBatch]) -> LoggedRows:
        """The rows, with which the partitions have moved on."""
        stream, records = self._streams[topic], PartitionRecords.of([message for _, own in taken for message in own])
        runs = [PartitionRun(owned.source, len(own), owned.available_us) for owned, own in taken]
        logged = LoggedRows.of(self._judges[topic].together(runs, records), stream.event_time)
        available = logged.rows.get_column("__available_at").to_numpy().astype(np.int64)
        late, start = logged.late(stream.lateness_us), 0
        for owned, own in taken:
            rows, start = logged.rows.slice(start, len(own)), start + len(own)
            owned.available_us, owned.next_offset = int(available[start - 1]), int(records.offsets[start - 1]) + 1
            owned.counts["late"] += int(np.count_nonzero(late == owned.source.partition))
            if logged.rejects:
                self._reject(owned, rows.filter(pl.col("__verdict") == REJECTED))
            self._flushers[topic].add(owned.source, rows, owned.next_offset)
        return logged

    def _fold_view(
        self, folding: Sequence[tuple[OwnedPartition, ViewPartition, int]], rows: LoggedRows
    ) -> list[ViewWrite]:
        """Those partitions together that have folded none of these rows yet, each of the others alone."""
        fresh = [(owned, view) for owned, view, first in folding if view.position <= first]
        others = [(owned, view) for owned, view, first in folding if view.position > first]
        found: list[ViewWrite] = []
        if fresh:
            views, ends = [view for _, view in fresh], [owned.next_offset for owned, _ in fresh]
            own = rows.only([view.source.partition for view in views])
            writes = self._patiently(partial(fold_together, views, own, ends))
            found += [(owned, view, write) for (owned, view), of in zip(fresh, writes, strict=True) for write in of]
        for owned, view in others:
            fold = partial(view.fold, rows.only([view.source.partition]), owned.next_offset)
            found += [(owned, view, write) for write in self._patiently(fold)]
        return found

    def _reject(self, owned: OwnedPartition, rejected: pl.DataFrame) -> None:
        owned.counts["rejected"] += rejected.height
        self._meter.rejected(owned.topic, rejected.get_column("__reason"))
        for letter in letters(owned.topic, owned.source, rejected):
            self._patiently(partial(self._send, letter))

    # -- writes: each compare-and-set is one round trip with all the others --------------------------------------------

    def _write(self, writes: Sequence[ViewWrite]) -> None:
        if writes:
            self._written(writes, self._sent(writes))

    def _begin(self, batch: _PendingBatch) -> None:
        self._under_way = batch, self._thread.submit(self._sent, batch.writes)

    def _take_in(self) -> None:
        """Raises OnlineStoreUnavailableError, with another try under way."""
        if self._under_way is None:
            return
        (batch, future), self._under_way = self._under_way, None
        try:
            answer = future.result()
        except OnlineStoreUnavailableError:
            self._begin(batch)
            raise
        failpoint("after-redis")
        self._written(batch.writes, answer)
        self._meter.batch(batch.records, answer.at - batch.began)

    def _sent(self, writes: Sequence[ViewWrite]) -> _WriteOutcome:
        began = self._monotonic()
        applied = self._store.write([write for _, _, write in writes])
        at = self._monotonic()
        return _WriteOutcome(applied, at, at - began)

    def _written(self, writes: Sequence[ViewWrite], answer: _WriteOutcome) -> None:
        """A refused write means that the memory is no longer the store's: acquire again."""
        if writes:
            self._meter.wrote(answer.applied, answer.seconds)
        for (owned, view, write), done in zip(writes, answer.applied, strict=True):
            if done:
                view.applied(write)
            elif self._owned.get(owned.place) is owned:  # not given away meanwhile
                logger.warning("write refused", view=view.view, partition=owned.source.partition)
                self._acquisition.later(owned)


def _by_place(messages: Sequence[Message]) -> Mapping[tuple[str, int], list[Message]]:
    """The messages of each partition, in order. They come in runs of one partition."""
    topics = list(map(_READ.topic, messages))
    partitions = np.fromiter(map(_READ.partition, messages), np.int64, len(messages))
    numbers = {topic: number for number, topic in enumerate(set(topics))}
    moves = np.diff(partitions) != 0
    if len(numbers) > 1:
        moves |= np.diff([numbers[topic] for topic in topics]) != 0
    found: dict[tuple[str, int], list[Message]] = defaultdict(list)
    for start, end in pairwise([0, *(np.flatnonzero(moves) + 1).tolist(), len(messages)]):
        found[topics[start], int(partitions[start])].extend(messages[start:end])
    return found
