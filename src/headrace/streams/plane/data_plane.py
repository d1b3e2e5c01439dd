"""The data plane: exactly once from Kafka to Redis and the event log.

docs/reference/exactly-once.md states the protocol. One thread reads, folds and writes; appends to the log run beside
it. The log is the truth: Kafka is read from the log's position D; a view whose cursor is behind D catches up from the
log, between the batches of the others; one that is ahead leaves out what it has.
"""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from headrace.base.times import Clock, wall_clock
from headrace.base.waiting import UntilAvailable
from headrace.bus.consumer import BatchConsumer
from headrace.bus.producer import EventProducer
from headrace.bus.topics import admin
from headrace.errors import OnlineStoreUnavailableError, TransientError
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.acquisition import Acquisition
from headrace.streams.plane.flusher import Flusher
from headrace.streams.plane.folding import Folding
from headrace.streams.plane.followed_views import FollowedViews
from headrace.streams.plane.partition import OwnedPartition, StoppedPartition, StoppedPartitions
from headrace.streams.plane.plane_metrics import PlaneMetrics
from headrace.streams.plane.rejected_copies import flush
from headrace.streams.plane.reporter import Reporter
from headrace.streams.plane.retries import Retries
from headrace.streams.plane.scavenger import Scavenger
from headrace.streams.plane.takeover import LogEnd, Takeover
from headrace.streams.views.view_memory import bound_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import Message

    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.features.online.store import OnlineStore

_ON_ITS_WAY_S, _ALONE_AFTER_S = 0.01, 1.0
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
    memory_bytes: int = 1 << 30


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
        follow: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
        meter: PlaneMetrics | None = None,
    ) -> None:
        """``follow`` tells, each second, which views there are by then (None: always those of ``view_specs``).

        ``publish`` puts the definitions into the store: first, and at each acquisition, as a store may lose them.

        ``chance`` gives numbers in [0, 1), for the jitter of retries.
        """
        self._config = config
        self._streams = {stream.topic: stream for stream in streams}
        self._views = FollowedViews(view_specs, follow)
        self._store, self._log = store, log
        self._monotonic, self._publish = monotonic, publish
        self._observer, self._meter = Reporter(config.worker, clock), meter or PlaneMetrics()
        self._scavenger = Scavenger(store, view_specs)
        self._flushers: dict[str, Flusher] = {}
        self._owned: dict[tuple[str, int], OwnedPartition] = {}
        self._failed: dict[tuple[str, int], str] = {}
        self._stop, self._flush_now = threading.Event(), threading.Event()
        self._patiently = UntilAvailable(self._stop)
        retries = partial(Retries, config.reacquire_s, config.reacquire_most_s, monotonic=monotonic, chance=chance)
        self._stopped = StoppedPartitions(retries())
        self._acquisition = Acquisition(
            store,
            log,
            self._flushers,
            retries(),
            new_owner=new_owner,
            publish=publish,
            catch_up_rows=config.catch_up_rows,
        )
        self._folding = Folding(
            self._streams,
            store,
            self._owned,
            self._flushers,
            self._acquisition,
            send=lambda letter: letter.send(self._producer),
            patiently=self._patiently,
            monotonic=monotonic,
            meter=self._meter,
        )
        self._next_flush = self._next_beat = self._last_read = 0.0
        self._catching_up = False

    # -- life -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Consume until stopped. Leaves everything flushed, or raises what made that impossible."""
        config = self._config
        self._producer = EventProducer(config.bootstrap_servers)
        self._patiently(self._publish)
        ends = {topic: self._patiently(partial(self._end_of_log, topic)) for topic in self._streams}
        self._flushers |= {topic: end.flusher for topic, end in ends.items()}
        self._takeover = Takeover(admin(config.bootstrap_servers), self._store, self._log, self._views.by_topic, ends)
        self._consumer = BatchConsumer(config.bootstrap_servers, config.group, list(self._streams), self)
        with ExitStack() as closing:  # each, whatever the others raise; the consumer first
            for flusher in self._flushers.values():
                closing.callback(flusher.shutdown)
            closing.callback(self._acquisition.close)
            closing.callback(self._folding.close)
            closing.callback(self._consumer.close)
            while not self._stop.is_set():
                self.step()

    def _end_of_log(self, topic: str) -> LogEnd:
        writer = LogWriter(self._log, self._streams[topic])
        return LogEnd(writer, Flusher(writer, partial(self._on_fenced, topic), partial(self._meter.flushed, topic)))

    def stop(self) -> None:
        """Ask the loop to end; from any thread."""
        self._stop.set()

    def leads(self, topic: str) -> bool:
        """Whether it reads the topic's partition 0, as one worker does; safe from any thread."""
        return (topic, 0) in self._owned

    def flush_soon(self) -> None:
        """Ask for a commit of everything buffered; from any thread."""
        self._flush_now.set()

    def step(self) -> None:
        """One turn: read, fold, write, buffer; now and then flush and beat; then for as long what is behind."""
        began = self._monotonic()
        messages = self._poll(0.0 if self._catching_up else self._config.poll_s)
        self._flush_if_due()  # by now the last batch's write has been answered, mostly
        self._beat_if_due()
        self._take(messages)
        if self._flush_now.is_set():
            self._flush_now.clear()
            self._take(self._poll(_ON_ITS_WAY_S))  # what was sent before the request
            self._flush(wait=True)
        self._stop_failed()
        self._acquire_again()
        self._try_stopped()
        self._catching_up = self._catch_up(self._monotonic() - began)

    def _catch_up(self, for_s: float) -> bool:
        """Whether there is more to do at once."""
        until = self._monotonic() + for_s
        while self._acquisition.advance(alone=self._monotonic() - self._last_read > _ALONE_AFTER_S):
            self._bound_memory()
            if self._monotonic() >= until:
                return True
        return False

    def _poll(self, timeout_s: float) -> Sequence[Message]:
        return self._consumer.poll(self._config.batch_rows, timeout_s)

    def _take(self, messages: Sequence[Message]) -> None:
        if messages:
            self._last_read = self._monotonic()
            self._folding.take(messages)
            self._bound_memory()
        else:
            self._folding.level()

    # -- partitions come and go (called by the consumer) -----------------------------------------------------------

    def assigned(self, topic: str, partition: int) -> int | None:
        """Open the log, take the views' cursors, and begin to bring them up to the log's position D."""
        return self._patiently(lambda: self._take_over(topic, partition))

    def _take_over(self, topic: str, partition: int) -> int | None:
        taken = self._takeover.take(topic, partition)
        if isinstance(taken, StoppedPartition):
            self._keep_stopped(taken)
            return None
        self._acquisition.acquire(taken)
        self._owned[taken.place] = taken
        for other in self._owned.values():
            if other.source.topic_id == taken.source.topic_id and other.partitions != taken.partitions:
                other.count(taken.partitions)  # the topic was extended
        self._stopped.read_again(taken.place)
        logger.info("partition taken", topic=topic, partition=partition, position=taken.next_offset)
        return taken.reads_from

    def _keep_stopped(self, stopped: StoppedPartition) -> None:
        if stopped.owned is not None and not self._stopped.knows(stopped):
            self._acquisition.suspend(stopped.owned, take=True)
        self._stopped.add(stopped)

    def revoked(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Flush, then forget. They are fenced no more from here on: what the log has of them is the next owner's."""
        self._forget_stopped(partitions)
        with suppress(OnlineStoreUnavailableError):  # they stand right where they are: the next owner has more to do
            self._folding.level(wait=False)
        leaving = [self._owned.pop(place) for place in partitions if place in self._owned]
        self._patiently(partial(flush, self._producer))
        for topic in {owned.topic for owned in leaving}:
            self._patiently(self._flushers[topic].flush)
        self._forget(leaving)

    def lost(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Forget."""
        self._forget_stopped(partitions)
        self._forget([self._owned.pop(place) for place in partitions if place in self._owned])

    def _forget(self, leaving: Sequence[OwnedPartition]) -> None:
        for owned in leaving:
            self._acquisition.forget(owned.place)
            for view in owned.views:
                view.memory.drop(view.source)
            self._patiently(partial(self._flushers[owned.topic].close, owned.source))

    def _forget_stopped(self, partitions: Sequence[tuple[str, int]]) -> None:
        for place in partitions:
            self._stopped.forget(place)

    def failed(self, topic: str, partition: int, error: str) -> None:
        """Stop it, after what came before the error is taken in."""
        self._failed[topic, partition] = error

    def _stop_failed(self) -> None:
        """What was read goes into the log, cursors say *rebuilding*; the next try tells whether there is a gap."""
        failed, self._failed = self._failed, {}
        if failed:
            self._folding.level()
        for place in failed.keys() & self._owned.keys():
            owned = self._owned[place]
            self._consumer.release(*place)
            self._patiently(partial(flush, self._producer))
            self._patiently(self._flushers[owned.topic].flush)
            self._patiently(partial(self._acquisition.suspend, self._owned.pop(place)))
            self._forget([owned])
            self._stopped.add(StoppedPartition(*place, failed[place]))

    def _try_stopped(self) -> None:
        for place in self._stopped.due():
            try:
                offset = self._take_over(*place)
            except TransientError as error:
                logger.warning("a stopped partition has to wait", place=place, error=str(error))
                self._stopped.later(place)
                continue
            if offset is not None:
                self._consumer.resume(*place, offset)

    # -- again ------------------------------------------------------------------------------------------------------

    def _acquire_again(self) -> None:
        due = self._acquisition.due()
        if due:
            self._folding.settle()
        for place in due:
            owned = self._owned[place]
            if owned.rewind and not self._consumer.seek(*place, owned.next_offset):
                self._acquisition.later(owned)
                continue
            owned.rewind = False
            self._deploy()  # a view that was retired is not taken again
            logger.info("acquiring again", topic=owned.topic, partition=owned.source.partition)
            self._patiently(partial(self._acquisition.acquire, owned))

    def _on_fenced(self, topic: str, source: SourcePartition) -> None:
        """The log went on without us: read again from where it stands, once the next polls have left it with us."""
        owned = self._owned.get((topic, source.partition))
        if owned is None:
            return
        owned.rewind = True  # first: nothing more is taken, whatever fails below
        self._acquisition.later(owned)
        owned.next_offset, owned.available_us = self._patiently(lambda: self._end_as_logged(topic, source))
        logger.warning("fenced by the event log", topic=topic, partition=source.partition, position=owned.next_offset)

    def _end_as_logged(self, topic: str, source: SourcePartition) -> tuple[int, int]:
        """Where the log stands, with the clock there."""
        position = self._flushers[topic].positions()[source]
        return position, self._takeover.available(topic, source, position)

    def _bound_memory(self) -> None:
        memories = {view.memory for owned in self._owned.values() for view in owned.views}
        bound_memory(memories, self._config.memory_bytes)

    def _deploy(self) -> None:
        """Views come and go."""
        if self._patiently(self._views.update):
            self._scavenger.follow(self._views.specs)
            for owned in self._owned.values():
                self._acquisition.follow(owned, self._takeover.views(owned))

    # -- now and then -------------------------------------------------------------------------------------------------

    def _flush_if_due(self) -> None:
        pending = max((flusher.pending for flusher in self._flushers.values()), default=0)
        if self._monotonic() >= self._next_flush or pending >= self._config.flush_rows:
            self._flush(wait=pending >= self._config.most_pending)
        else:
            self._patiently(lambda: [flusher.collect() for flusher in self._flushers.values()])

    def _flush(self, *, wait: bool) -> None:
        self._next_flush = self._monotonic() + self._config.flush_s
        self._patiently(partial(self._start_flushes, wait=wait))

    def _start_flushes(self, *, wait: bool) -> None:
        self._folding.level()  # D never passes a cursor: who takes over has nothing to catch up with
        flush(self._producer)
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
        self._deploy()
        beating = self._folding.beat()
        self._patiently(self._scavenger.step)
        for owned in beating:
            self._acquisition.held(owned)
            self._stopped.held(owned.place)
        seen = self._observer.observe(self._owned.values(), self._flushers, self._stopped)
        self._observer.send(self._producer, seen)
        self._meter.observed(seen, self._consumer.ends())
