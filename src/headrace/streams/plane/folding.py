"""The way of a batch: it is judged, buffered for the log, folded into the live views, and written in one round trip.

The write runs on a thread, while the loop reads and judges the next batch. The loop processes the outcome of the write
before it folds or writes anything else, so a cursor never has more than one write under way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import structlog
from confluent_kafka import Message

from headrace.base.failpoints import failpoint
from headrace.errors import OnlineStoreUnavailableError
from headrace.event_log.columns import DUPLICATE, REJECTED
from headrace.streams.plane.partition import PartitionPhase
from headrace.streams.plane.record_judge import PartitionRecords, PartitionRun
from headrace.streams.plane.rejected_copies import copies_of
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import fold_together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.base.waiting import UntilAvailable
    from headrace.bus.formats.record_format import AwaitedSchema
    from headrace.features.online.store import FencedWrite, OnlineStore
    from headrace.streams.plane.logged_stream import LoggedStream
    from headrace.streams.plane.partition import OwnedPartition, Place
    from headrace.streams.plane.partitions import Partitions
    from headrace.streams.plane.plane_metrics import PlaneMetrics
    from headrace.streams.plane.rejected_copies import RejectedCopies
    from headrace.streams.views.view_partition import ViewPartition

_READ: Any = Message
"""Methods of messages that were read: each has a topic, a partition and an offset. ``map`` calls nothing faster."""
_MOST_DOUBT_S = 600.0
"""A record that a view may have counted is not rejected for so long, counted from the first one of its partition."""
logger = structlog.get_logger(__name__)


class PartitionBatch(NamedTuple):
    """The records of one partition in a batch, in order."""

    owned: OwnedPartition
    messages: Sequence[Message]


class ViewFold(NamedTuple):
    """A live view of a partition, and the offset of the partition's first record in the batch."""

    owned: OwnedPartition
    view: ViewPartition
    first_offset: int


class ViewWrite(NamedTuple):
    """A write of one view of a partition."""

    owned: OwnedPartition
    view: ViewPartition
    write: FencedWrite


@dataclass(frozen=True)
class _PendingBatch:
    """A batch whose write is under way: the number of its records, the time when it was read, and its writes."""

    records: int
    began: float
    writes: Sequence[ViewWrite]


@dataclass(frozen=True)
class _WriteOutcome:
    """The outcome of a round trip: for each write whether it was applied, the time of the answer, and the duration."""

    applied: Sequence[bool]
    at: float
    seconds: float


class Folding:
    """Judges batches, and makes every write of a worker's live views. It waits while the store does not answer."""

    def __init__(
        self,
        streams: Mapping[str, LoggedStream],
        store: OnlineStore,
        partitions: Partitions,
        copies: RejectedCopies,
        *,
        until_available: UntilAvailable,
        monotonic: Callable[[], float],
        meter: PlaneMetrics,
    ) -> None:
        self._streams, self._store, self._partitions, self._copies = streams, store, partitions, copies
        self._until_available, self._monotonic, self._meter = until_available, monotonic, meter
        self._waiting: dict[Place, AwaitedSchema] = {}
        self._doubted_since: dict[Place, float] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._under_way: tuple[_PendingBatch, Future[_WriteOutcome]] | None = None

    # -- called by the loop -----------------------------------------------------------------------------------------

    def fold(self, messages: Sequence[Message]) -> None:
        """Judge and buffer a batch, fold it into the live views, and begin its write.

        Records are dropped if their partition is not read, is fenced, or has moved beyond them.
        """
        began = self._monotonic()
        judged = [(batches, self._judged(topic, batches)) for topic, batches in self._by_topic(messages).items()]
        self.settle()
        writes = [write for batches, rows in judged for write in self._fold(self._final(batches, rows), rows)]
        failpoint("before-redis")
        self._begin(_PendingBatch(len(messages), began, writes))

    def pass_by(self, ends: Mapping[Place, int]) -> None:
        """Move partitions to their ends, below which nothing is left to read: what is there is no record.

        So the log's position does not stay at the end of a transaction until Kafka deletes it. ``ends`` was reached
        after the records that :meth:`fold` got last.
        """
        for place, end in ends.items():
            owned = self._partitions.owned(place)
            if owned is None or owned.phase is PartitionPhase.FENCED or place in self._waiting:
                continue
            if end > owned.next_offset:
                for view in owned.live_views:
                    view.position = end if view.position == owned.next_offset else view.position
                owned.next_offset = end
                self._streams[owned.topic].flusher.pass_by(owned.source, end)

    def settle(self, *, wait: bool = True) -> None:
        """Process the outcome of the last batch's write. ``wait`` is that of :meth:`level`."""
        if wait:
            self._until_available(self._take_in)
        else:
            self._take_in()

    def beat(self) -> list[OwnedPartition]:
        """Write a heartbeat into every cursor of the partitions that this worker writes. Return these partitions.

        The result includes partitions whose heartbeat was refused; their phase is now REFUSED.
        """
        self.settle()
        beating = self._partitions.written()
        beats = [ViewWrite(owned, view, w) for owned in beating for view in owned.views for w in view.heartbeat()]
        self._until_available(self._write, beats)
        return beating

    def level(self, *, wait: bool = True) -> None:
        """Bring up the cursors of shards for which the last batches had no rows.

        If the store does not answer, wait for it; without ``wait``, raise OnlineStoreUnavailableError.
        """
        self.settle(wait=wait)
        written = self._partitions.written()
        levels = [ViewWrite(owned, view, w) for owned in written for view in owned.views for w in view.level()]
        if wait:
            self._until_available(self._write, levels)
        else:
            self._write(levels)

    def waiting(self) -> dict[Place, AwaitedSchema]:
        """Return the partitions whose next record needs a schema that is not there yet. They take no record any more.

        The next call does not return them again, and they take records again.
        """
        waiting, self._waiting = self._waiting, {}
        return waiting

    def still_awaited(self, topic: str, awaited: AwaitedSchema) -> str | None:
        """Return why an awaited schema is not there yet; None if it is, or will not come. It never waits."""
        return self._streams[topic].judge.still_awaited(awaited)

    def close(self) -> None:
        """End the thread, once its write has been answered."""
        self._thread.shutdown(wait=True)

    # -- judging ----------------------------------------------------------------------------------------------------

    def _by_topic(self, messages: Sequence[Message]) -> Mapping[str, list[PartitionBatch]]:
        """Return the records that count, by topic and partition."""
        found: dict[str, list[PartitionBatch]] = defaultdict(list)
        for place, records in _by_place(messages).items():
            owned = self._partitions.owned(place)
            if owned is None or owned.phase is PartitionPhase.FENCED or place in self._waiting:
                continue
            wanted = self._judgeable(owned, records[bisect_left(records, owned.next_offset, key=_READ.offset) :])
            if wanted:
                found[owned.topic].append(PartitionBatch(owned, wanted))
        return found

    def _judgeable(self, owned: OwnedPartition, records: list[Message]) -> list[Message]:
        """Return the records up to the first one whose schema is not there yet."""
        awaited = self._streams[owned.topic].judge.awaited(records) or self._doubtful(owned, records)
        if awaited is None:
            return records
        self._waiting[owned.place] = awaited
        return records[: awaited.position]

    def _doubtful(self, owned: OwnedPartition, records: Sequence[Message]) -> AwaitedSchema | None:
        """Return the first record that must not be rejected, although its schema is not registered.

        A view has folded it, and so it was accepted: a rejection is in the log before a view goes beyond it. While the
        cursors are not acquired, nobody knows. If the log was restored from a backup, it may have lost the rejection:
        so a partition does not wait for ever.
        """
        stream = self._streams[owned.topic]
        if not (stream.stream.format.uses_schemas and owned.views):
            return None
        folded = max(view.furthest for view in owned.views)
        doubted = records[: bisect_left(records, folded, key=_READ.offset)] if owned.is_written else records
        if not doubted:
            return None
        found = stream.judge.unregistered(list(map(Message.key, doubted)), list(map(Message.value, doubted)))
        if found is None or not owned.is_written:
            return found
        return None if self._gives_up(owned, found) else found._replace(is_certain=True)

    def _gives_up(self, owned: OwnedPartition, awaited: AwaitedSchema) -> bool:
        """Return whether a partition has waited long enough for schemas by which it may have been read before."""
        now = self._monotonic()
        if now - self._doubted_since.setdefault(owned.place, now) < _MOST_DOUBT_S:
            return False
        logger.error(
            "records are rejected that a view may have counted: their schemas are not registered",
            topic=owned.topic, partition=owned.source.partition, schema_id=awaited.schema_id,
            do="compare with `headrace audit`; a new version of the view is made of the log alone",
        )  # fmt: skip
        return True

    def _judged(self, topic: str, batches: Sequence[PartitionBatch]) -> LoggedRows:
        """Judge and buffer the records of a topic, and move the position of each partition beyond them."""
        stream = self._streams[topic].stream
        records = PartitionRecords.from_messages(
            [message for batch in batches for message in batch.messages], with_headers=stream.format.reads_headers
        )
        runs = [
            PartitionRun(owned.source, len(messages), owned.available_us, owned.seen) for owned, messages in batches
        ]
        logged = LoggedRows.from_rows(self._streams[topic].judge.judge(runs, records), stream.event_time)
        available = logged.rows.get_column("__available_at").to_numpy().astype(np.int64)
        late, start = logged.late(stream.spec.lateness_us), 0
        for owned, messages in batches:
            rows, start = logged.rows.slice(start, len(messages)), start + len(messages)
            owned.available_us, owned.next_offset = int(available[start - 1]), int(records.offsets[start - 1]) + 1
            owned.late += int(np.count_nonzero(late == owned.source.partition))
            if logged.rejects:
                self._reject(owned, rows.filter(pl.col("__verdict") == REJECTED))
                owned.duplicates += rows.filter(pl.col("__verdict") == DUPLICATE).height
            self._streams[topic].flusher.add(owned.source, rows, owned.next_offset)
        return logged

    def _final(self, batches: Sequence[PartitionBatch], logged: LoggedRows) -> Sequence[PartitionBatch]:
        """Return the batches whose verdicts are final. First commit the verdicts that could be others later.

        A record is rejected if its schema is not registered. If the schema came afterwards, another worker would accept
        the record, unless the log has the rejection. Partitions of which another worker has moved the log are left out.
        """
        stream = self._streams[batches[0].owned.topic]
        if not (stream.stream.format.uses_schemas and logged.rejects):
            return batches
        rejected = logged.rows.filter(pl.col("__verdict") == REJECTED)
        if not stream.judge.may_change(
            rejected.get_column("__key").to_list(), rejected.get_column("__value").to_list()
        ):
            return batches
        self._until_available(self._copies.flush)
        fenced = self._until_available(stream.flusher.commit)
        return [batch for batch in batches if batch.owned.source not in fenced]

    def _reject(self, owned: OwnedPartition, rejected: pl.DataFrame) -> None:
        reasons = rejected.get_column("__reason")
        owned.rejected.update(dict(reasons.value_counts().iter_rows()))
        self._meter.rejected(owned.topic, reasons)
        for copy in copies_of(owned.topic, owned.source, rejected):
            self._until_available(self._copies.send, copy)

    # -- folding ----------------------------------------------------------------------------------------------------

    def _fold(self, batches: Sequence[PartitionBatch], rows: LoggedRows) -> list[ViewWrite]:
        """Fold the records of all partitions of a topic together: the cost is by batch, not by partition."""
        folds = [
            ViewFold(owned, view, int(messages[0].offset() or 0))
            for owned, messages in batches
            for view in owned.live_views
            if view.position < owned.next_offset
        ]
        by_view = groupby(sorted(folds, key=_view_name), key=_view_name)
        return [write for _, of_view in by_view for write in self._fold_view(list(of_view), rows)]

    def _fold_view(self, folds: Sequence[ViewFold], rows: LoggedRows) -> list[ViewWrite]:
        """Fold rows into one view.

        Partitions of which the view has none of these rows are folded together, each other partition by itself.
        """
        fresh = [fold for fold in folds if fold.view.position <= fold.first_offset]
        others = [fold for fold in folds if fold.view.position > fold.first_offset]
        found: list[ViewWrite] = []
        if fresh:
            views, ends = [fold.view for fold in fresh], [fold.owned.next_offset for fold in fresh]
            of_views = rows.only([view.source.partition for view in views])
            writes = self._until_available(fold_together, views, of_views, ends)
            found += [ViewWrite(f.owned, f.view, w) for f, of_view in zip(fresh, writes, strict=True) for w in of_view]
        for owned, view, _ in others:
            alone = self._until_available(view.fold, rows.only([view.source.partition]), owned.next_offset)
            found += [ViewWrite(owned, view, write) for write in alone]
        return found

    # -- writing: each compare-and-set is in one round trip with all the others ---------------------------------------

    def _write(self, writes: Sequence[ViewWrite]) -> None:
        if writes:
            self._apply(writes, self._send(writes))

    def _begin(self, batch: _PendingBatch) -> None:
        self._under_way = batch, self._thread.submit(self._send, batch.writes)

    def _take_in(self) -> None:
        """Process the outcome of the write under way.

        If the store did not answer, begin the same write again and raise OnlineStoreUnavailableError.
        """
        if self._under_way is None:
            return
        (batch, future), self._under_way = self._under_way, None
        try:
            outcome = future.result()
        except OnlineStoreUnavailableError:
            self._begin(batch)
            raise
        failpoint("after-redis")
        self._apply(batch.writes, outcome)
        self._meter.batch(batch.records, outcome.at - batch.began)

    def _send(self, writes: Sequence[ViewWrite]) -> _WriteOutcome:
        began = self._monotonic()
        applied = self._store.write([each.write for each in writes])
        at = self._monotonic()
        return _WriteOutcome(applied, at, at - began)

    def _apply(self, writes: Sequence[ViewWrite], outcome: _WriteOutcome) -> None:
        """Process an outcome. After a refused write the memory is not the store's any more: acquire again."""
        if writes:
            self._meter.wrote(outcome.applied, outcome.seconds)
        for (owned, view, write), is_applied in zip(writes, outcome.applied, strict=True):
            if is_applied:
                view.applied(write)
            elif owned.phase is not PartitionPhase.RELEASED:
                logger.warning("write refused", view=view.view, partition=owned.source.partition)
                self._partitions.refuse(owned)


def _view_name(fold: ViewFold) -> str:
    return fold.view.view


def _by_place(messages: Sequence[Message]) -> Mapping[tuple[str, int], list[Message]]:
    """Return the messages of each partition, in order. Kafka gives them in runs of one partition."""
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
