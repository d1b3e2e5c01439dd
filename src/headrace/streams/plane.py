"""The data plane: exactly once from Kafka to Redis and the event log.

docs/reference/exactly-once.md states the protocol. One thread reads, folds and writes; appends to the log run beside
it. The log is the truth: Kafka is read from the log's position D; a view whose cursor is behind D catches up from the
log; one that is ahead leaves out what it has.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import structlog

from headrace.bus.clock import Clock, wall_clock
from headrace.bus.consumer import BatchConsumer
from headrace.bus.producer import EventProducer
from headrace.bus.topics import OBSERVATIONS, admin, dead_letters, incarnations
from headrace.errors import TerminalError, TransientError
from headrace.features.log import REJECTED, EventLog, LogWriter
from headrace.features.online import NO_CLOCK, OnlineStore, Source, Write
from headrace.streams.acquisition import Acquisition
from headrace.streams.batch import Judge, Records
from headrace.streams.failpoints import failpoint
from headrace.streams.flusher import Flusher
from headrace.streams.logged_rows import LoggedRows
from headrace.streams.observation import Observation, PartitionObservation, ViewObservation
from headrace.streams.partition import OwnedPartition
from headrace.streams.patience import Patience
from headrace.streams.retries import Retries
from headrace.streams.scavenger import Scavenger
from headrace.streams.view_partition import ViewPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import Message

    from headrace.bus.stream import Stream

_ON_ITS_WAY_S = 0.01
_LETTER = ["__offset", "__reason", "__error", "__key", "__value"]
logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PlaneConfig:
    """How the data plane runs; durations in seconds, bounds in rows."""

    bootstrap_servers: str
    group: str = "headrace-worker"
    worker: str = "worker"
    batch_rows: int = 20_000
    poll_s: float = 0.02
    flush_s: float = 1.0
    flush_rows: int = 200_000
    most_pending: int = 1_000_000
    heartbeat_s: float = 1.0
    catch_up_rows: int = 200_000
    reacquire_s: float = 0.2
    reacquire_most_s: float = 5.0


class DataPlane:
    """Runs in one thread: :meth:`run` until :meth:`stop`. Owns every partition that Kafka assigns to it."""

    def __init__(
        self,
        config: PlaneConfig,
        streams: Sequence[Stream],
        view_specs: Sequence[Mapping[str, Any]],
        store: OnlineStore,
        log: EventLog,
        *,
        new_owner: Callable[[], bytes],
        monotonic: Callable[[], float],
        clock: Clock = wall_clock,
        chance: Callable[[], float] = random.random,
        publish: Callable[[], None] = lambda: None,
    ) -> None:
        """``publish`` puts the definitions into the store: first, and at each acquisition, as a store may lose them.

        ``chance`` gives numbers in [0, 1), for the jitter of retries.
        """
        self._config = config
        self._streams = {stream.topic: stream for stream in streams}
        self._specs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for spec in view_specs:
            self._specs[spec["source"]["topic"]].append(spec)
        self._store, self._log = store, log
        self._monotonic, self._clock, self._publish = monotonic, clock, publish
        self._scavenger = Scavenger(store, view_specs)
        self._judges = {topic: Judge(stream) for topic, stream in self._streams.items()}
        self._flushers: dict[str, Flusher] = {}
        self._owned: dict[tuple[str, int], OwnedPartition] = {}
        self._stop, self._flush_now = threading.Event(), threading.Event()
        self._patiently = Patience(self._stop)
        self._acquisition = Acquisition(
            store,
            log,
            self._flushers,
            Retries(config.reacquire_s, config.reacquire_most_s, monotonic=monotonic, chance=chance),
            new_owner=new_owner,
            publish=publish,
            catch_up_rows=config.catch_up_rows,
        )
        self._next_flush = self._next_beat = 0.0

    # -- life -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Consume until stopped. Leaves everything flushed, or raises what made that impossible."""
        config = self._config
        self._admin = admin(config.bootstrap_servers)
        self._producer = EventProducer(config.bootstrap_servers)
        self._patiently(self._publish)
        for topic in self._streams:
            self._flushers[topic] = self._patiently(partial(self._flusher, topic))
        self._consumer = BatchConsumer(config.bootstrap_servers, config.group, list(self._streams), self)
        try:
            while not self._stop.is_set():
                self.step()
        finally:
            self._consumer.close()
            for flusher in self._flushers.values():
                flusher.shutdown()

    def _flusher(self, topic: str) -> Flusher:
        return Flusher(LogWriter(self._log, self._streams[topic]), lambda source: self._on_fenced(topic, source))

    def stop(self) -> None:
        """Ask the loop to end; safe from any thread."""
        self._stop.set()

    def flush_soon(self) -> None:
        """Ask for a commit of everything buffered; safe from any thread."""
        self._flush_now.set()

    def step(self) -> None:
        """One turn: read, fold, write, buffer; now and then flush and beat."""
        self._read(self._config.poll_s)
        if self._flush_now.is_set():
            self._read(_ON_ITS_WAY_S)  # what was sent before the request
        self._flush_if_due()
        self._beat_if_due()
        self._acquire_again()

    def _read(self, timeout_s: float) -> None:
        messages = self._consumer.poll(self._config.batch_rows, timeout_s)
        if messages:
            self._take(messages)

    # -- partitions come and go (called by the consumer) -----------------------------------------------------------

    def assigned(self, topic: str, partition: int) -> int | None:
        """Open the log, take the views' cursors, and bring them up to the log's position D."""
        return self._patiently(lambda: self._take_over(topic, partition))

    def _take_over(self, topic: str, partition: int) -> int | None:
        incarnation = incarnations(self._admin, [topic])[topic]
        source = Source(partition, incarnation.topic_id)
        position = self._flushers[topic].open(source) or 0
        low = self._consumer.low_watermark(topic, partition)
        if low > position:
            self._gap(topic, source, position, low)
            return None
        views = [ViewPartition(spec, source, self._store) for spec in self._specs[topic]]
        available = self._available(topic, source, position)
        owned = OwnedPartition(topic, source, views, position, incarnation.partitions, available)
        self._acquisition.acquire(owned)
        self._owned[owned.place] = owned
        logger.info("partition taken", topic=topic, partition=partition, position=position)
        return position

    def _gap(self, topic: str, source: Source, position: int, low: int) -> None:
        self._flushers[topic].close(source)
        logger.error(
            "the topic begins beyond the event log: this partition stays stopped",
            topic=topic, partition=source.partition, log_ends=position, topic_begins=low,
            do="restore the topic, or accept the loss with `headrace repair --accept-loss`",
        )  # fmt: skip

    def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Flush, then forget. They are fenced no more from here on: what the log has of them is the next owner's."""
        leaving = [self._owned.pop(place) for place in partitions if place in self._owned]
        self._patiently(self._producer.flush)
        for topic in {owned.topic for owned in leaving}:
            self._patiently(self._flushers[topic].flush)
        self._forget(leaving)

    def lost(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Forget."""
        self._forget([self._owned.pop(place) for place in partitions if place in self._owned])

    def _forget(self, leaving: Sequence[OwnedPartition]) -> None:
        for owned in leaving:
            self._acquisition.forget(owned.place)
            self._patiently(partial(self._flushers[owned.topic].close, owned.source))

    def failed(self, topic: str, partition: int, error: str) -> None:
        """Log it: the partition stays where it is until the topic is repaired."""
        logger.error("partition cannot be read on", topic=topic, partition=partition, error=error)

    def _available(self, topic: str, source: Source, position: int) -> int:
        if position == 0:
            return NO_CLOCK
        last = self._log.read_from(topic, source, position - 1, columns=["__available_at"])
        return last.get_column("__available_at").dt.epoch("us").max()  # type: ignore[return-value]

    # -- again ------------------------------------------------------------------------------------------------------

    def _acquire_again(self) -> None:
        for place in self._acquisition.due():
            owned = self._owned[place]
            if owned.rewind and not self._consumer.seek(*place, owned.next_offset):
                self._acquisition.later(owned)
                continue
            owned.rewind = False
            logger.info("acquiring again", topic=owned.topic, partition=owned.source.partition)
            self._patiently(partial(self._acquisition.acquire, owned))

    def _on_fenced(self, topic: str, source: Source) -> None:
        """The log went on without us: read again from where it stands, once the next polls have left it with us."""
        owned = self._owned.get((topic, source.partition))
        if owned is None:
            return
        position = self._flushers[topic].open(source) or 0
        logger.warning("fenced by the event log", topic=topic, partition=source.partition, position=position)
        owned.next_offset, owned.available_us = position, self._available(topic, source, position)
        owned.rewind = True
        self._acquisition.later(owned)

    # -- a batch ----------------------------------------------------------------------------------------------------

    def _take(self, messages: Sequence[Message]) -> None:
        by_place: dict[tuple[str, int], list[Message]] = defaultdict(list)
        for message in messages:
            by_place[str(message.topic()), int(message.partition() or 0)].append(message)
        writes: list[tuple[OwnedPartition, ViewPartition, Write]] = []
        for place, own in by_place.items():
            if place in self._owned:
                writes += self._fold(self._owned[place], own)
        failpoint("before-redis")
        self._patiently(lambda: self._write(writes))
        failpoint("after-redis")

    def _fold(
        self, owned: OwnedPartition, messages: Sequence[Message]
    ) -> list[tuple[OwnedPartition, ViewPartition, Write]]:
        messages = [message for message in messages if (message.offset() or 0) >= owned.next_offset]
        if not messages or owned.rewind:
            return []
        records = Records.of(messages)
        rows = self._judges[owned.topic].rows(
            owned.source.topic_id, owned.source.partition, records, owned.available_us
        )
        owned.available_us = rows.get_column("__available_at").dt.epoch("us").item(-1)
        owned.next_offset = int(records.offsets[-1]) + 1
        self._count(owned, rows)
        self._flushers[owned.topic].add(owned.source, rows, owned.next_offset)
        if self._acquisition.waiting(owned.place):
            return []
        behind = [view for view in owned.views if view.position < owned.next_offset]
        logged = LoggedRows.of(rows, self._streams[owned.topic].event_time)
        folds = [partial(view.fold, logged, owned.next_offset) for view in behind]
        return [(owned, view, self._patiently(fold)) for view, fold in zip(behind, folds, strict=True)]

    def _write(self, writes: Sequence[tuple[OwnedPartition, ViewPartition, Write]]) -> None:
        """One round trip; a refused write means that the memory is no longer the store's: acquire again."""
        if not writes:
            return
        applied = self._store.write([write for _, _, write in writes])
        for (owned, view, write), done in zip(writes, applied, strict=True):
            if done:
                view.cursor = write.after
            else:
                logger.warning("write refused", view=view.view, partition=owned.source.partition)
                self._acquisition.later(owned)

    def _count(self, owned: OwnedPartition, rows: pl.DataFrame) -> None:
        if rows.get_column("__reason").null_count() == rows.height:
            return
        rejected = rows.filter(pl.col("__verdict") == REJECTED).select(_LETTER)
        owned.counts["rejected"] += rejected.height
        for row in rejected.iter_rows(named=True):
            self._dead_letter(owned, row)

    def _dead_letter(self, owned: OwnedPartition, row: Mapping[str, Any]) -> None:
        headers = {
            "headrace_id": f"{owned.source.text}-{row['__offset']}",
            "headrace_reason": row["__reason"],
            "headrace_error": row["__error"],
        }
        topic, encoded = dead_letters(owned.topic), {name: text.encode() for name, text in headers.items()}
        try:
            self._patiently(lambda: self._producer.put(topic, row["__key"], row["__value"], headers=encoded))
        except TerminalError as error:  # too large with its headers: the log has the bytes
            logger.warning("dead letter without its value", topic=topic, error=str(error))
            self._patiently(lambda: self._producer.put(topic, None, None, headers=encoded))

    # -- now and then -------------------------------------------------------------------------------------------------

    def _flush_if_due(self) -> None:
        now = self._monotonic()
        asked = self._flush_now.is_set()
        pending = max((flusher.pending for flusher in self._flushers.values()), default=0)
        if asked or now >= self._next_flush or pending >= self._config.flush_rows:
            self._flush_now.clear()
            self._next_flush = now + self._config.flush_s
            self._patiently(lambda: self._start_flushes(wait=asked or pending >= self._config.most_pending))
        else:
            self._patiently(lambda: [flusher.collect() for flusher in self._flushers.values()])

    def _start_flushes(self, *, wait: bool) -> None:
        self._producer.flush()
        for flusher in self._flushers.values():
            flusher.settle() if wait else flusher.collect()
            flusher.start()
        if wait:
            for flusher in self._flushers.values():
                flusher.settle()
        self._commit_offsets()

    def _commit_offsets(self) -> None:
        positions = [
            (topic, source.partition, position)
            for topic, flusher in self._flushers.items()
            for source, position in flusher.positions().items()
            if (topic, source.partition) in self._owned
        ]
        if positions:
            self._consumer.commit(positions)

    def _beat_if_due(self) -> None:
        now = self._monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + self._config.heartbeat_s
        beats = [
            (owned, view, view.heartbeat())
            for place, owned in self._owned.items()
            for view in owned.views
            if not self._acquisition.waiting(place)
        ]
        self._patiently(lambda: self._write(beats))
        self._patiently(self._scavenger.step)
        for owned, _, _ in beats:
            self._acquisition.held(owned)
        self._observe()

    def _observe(self) -> None:
        """An observation that Kafka does not take is no loss: the next one says the same and more."""
        try:
            self._producer.put(OBSERVATIONS, self._config.worker.encode(), self._observation().encode())
        except TransientError as error:
            logger.warning("no observation sent", error=str(error))

    def _observation(self) -> Observation:
        positions = {topic: flusher.positions() for topic, flusher in self._flushers.items()}
        return Observation(
            worker=self._config.worker,
            observed_us=self._clock(),
            partitions=[
                PartitionObservation(
                    topic=owned.topic,
                    source=owned.source.text,
                    next_offset=owned.next_offset,
                    logged_offset=positions[owned.topic].get(owned.source, 0),
                    available_us=owned.available_us,
                    rejected=owned.counts["rejected"],
                    views={
                        view.view: ViewObservation(view.position, view.cursor.rows_total, view.cursor.clock)
                        for view in owned.views
                    },
                )
                for owned in self._owned.values()
            ],
        )
