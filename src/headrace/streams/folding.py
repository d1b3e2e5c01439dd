"""A batch's way: judged, buffered for the log, folded by the views that are live, written in one round trip."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

import polars as pl
import structlog

from headrace.features.log import REJECTED
from headrace.streams.batch import Judge, Records
from headrace.streams.failpoints import failpoint
from headrace.streams.letters import letters
from headrace.streams.logged_rows import LoggedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import Message

    from headrace.bus.patience import Patience
    from headrace.bus.stream import Stream
    from headrace.features.online import OnlineStore, Write
    from headrace.streams.acquisition import Acquisition
    from headrace.streams.flusher import Flusher
    from headrace.streams.letters import Letter
    from headrace.streams.meter import Meter
    from headrace.streams.partition import OwnedPartition
    from headrace.streams.view_partition import ViewPartition

    Owned = Mapping[tuple[str, int], OwnedPartition]
    ViewWrite = tuple[OwnedPartition, ViewPartition, Write]
logger = structlog.get_logger(__name__)


class Folding:
    """What every write of a worker's live views goes through. It waits for a store that is away.

    ``owned`` and ``flushers`` are the worker's own, as they are at each call. ``send`` takes a rejected record's copy.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        store: OnlineStore,
        owned: Owned,
        flushers: Mapping[str, Flusher],
        acquisition: Acquisition,
        *,
        send: Callable[[Letter], None],
        patiently: Patience,
        monotonic: Callable[[], float],
        meter: Meter,
    ) -> None:
        self._streams, self._store, self._owned, self._flushers = streams, store, owned, flushers
        self._acquisition, self._send, self._patiently = acquisition, send, patiently
        self._monotonic, self._meter = monotonic, meter
        self._judges = {topic: Judge(stream) for topic, stream in streams.items()}

    def take(self, messages: Sequence[Message]) -> None:
        """Take records in; those of partitions that are not owned, or not from their position on, are dropped."""
        began = self._monotonic()
        by_place: dict[tuple[str, int], list[Message]] = defaultdict(list)
        for message in messages:
            by_place[str(message.topic()), int(message.partition() or 0)].append(message)
        writes: list[ViewWrite] = []
        for place, own in by_place.items():
            if place in self._owned:
                writes += self._fold(self._owned[place], own)
        failpoint("before-redis")
        self._patiently(partial(self._write, writes))
        failpoint("after-redis")
        self._meter.batch(len(messages), self._monotonic() - began)

    def beat(self) -> list[OwnedPartition]:
        """A heartbeat on every cursor of the partitions that are not to be acquired again; these partitions."""
        beating = self._writing()
        beats = [(owned, view, write) for owned in beating for view in owned.views for write in view.heartbeat()]
        self._patiently(partial(self._write, beats))
        return beating

    def level(self) -> None:
        """Bring up the cursors of shards that the last batches had nothing for."""
        behind = [(owned, view, write) for owned in self._writing() for view in owned.views for write in view.level()]
        self._patiently(partial(self._write, behind))

    def _writing(self) -> list[OwnedPartition]:
        return [owned for place, owned in self._owned.items() if not self._acquisition.waiting(place)]

    def _fold(self, owned: OwnedPartition, messages: Iterable[Message]) -> list[ViewWrite]:
        messages = [message for message in messages if (message.offset() or 0) >= owned.next_offset]
        if not messages or owned.rewind:
            return []
        logged = self._judged(owned, messages)
        self._flushers[owned.topic].add(owned.source, logged.rows, owned.next_offset)
        if self._acquisition.waiting(owned.place):
            return []
        views = [view for view in owned.live if view.position < owned.next_offset]
        folds = [(view, partial(view.fold, logged, owned.next_offset)) for view in views]
        return [(owned, view, write) for view, fold in folds for write in self._patiently(fold)]

    def _judged(self, owned: OwnedPartition, messages: Sequence[Message]) -> LoggedRows:
        """The rows, with which the partition has moved on."""
        stream, source, records = self._streams[owned.topic], owned.source, Records.of(messages)
        rows = self._judges[owned.topic].rows(source.topic_id, source.partition, records, owned.available_us)
        owned.available_us = rows.get_column("__available_at").dt.epoch("us").item(-1)
        owned.next_offset = int(records.offsets[-1]) + 1
        logged = LoggedRows.of(rows, stream.event_time)
        owned.counts["late"] += logged.late(stream.lateness_us)
        if rows.get_column("__reason").null_count() < rows.height:
            self._reject(owned, rows.filter(pl.col("__verdict") == REJECTED))
        return logged

    def _reject(self, owned: OwnedPartition, rejected: pl.DataFrame) -> None:
        owned.counts["rejected"] += rejected.height
        self._meter.rejected(owned.topic, rejected.get_column("__reason"))
        for letter in letters(owned.topic, owned.source, rejected):
            self._patiently(partial(self._send, letter))

    def _write(self, writes: Sequence[ViewWrite]) -> None:
        """One round trip; a refused write means that the memory is no longer the store's: acquire again."""
        if not writes:
            return
        began = self._monotonic()
        applied = self._store.write([write for _, _, write in writes])
        self._meter.wrote(applied, self._monotonic() - began)
        for (owned, view, write), done in zip(writes, applied, strict=True):
            if done:
                view.applied(write)
            else:
                logger.warning("write refused", view=view.view, partition=owned.source.partition)
                self._acquisition.later(owned)
