"""The barriers of a lockstep replay: time goes on only after every process has seen everything so far."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from headrace.bus.control import FlushRequest, Tick
from headrace.bus.control_topics import ControlTopics
from headrace.bus.event import encode
from headrace.bus.unreadable_records import readable
from headrace.errors import BarrierError
from headrace.models.model_events import decode_acknowledgement
from headrace.trainers.runs.messages import DecisionRecord, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deltalake import DeltaTable

    from headrace.bus.producer import EventProducer
    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.tail import TopicTail
    from headrace.event_log.event_log import EventLog
    from headrace.features.online.store import OnlineStore
    from headrace.models.model_events import Acknowledgement

T = TypeVar("T")
_FLUSH_AGAIN_S = 0.15
_TICK_AGAIN_S = 1.0
_FOLD_POLL_S = 0.001


@dataclass(frozen=True)
class ReplayedTopics:
    """The topics of a replay: for each its views as ``name@version``, and its source partitions."""

    views: Mapping[str, Sequence[str]]
    sources: Mapping[str, Sequence[SourcePartition]]


@dataclass(frozen=True)
class ControlTails:
    """The topics on which the trainer and the application answer."""

    decisions: TopicTail
    acknowledgements: TopicTail


@dataclass(frozen=True)
class BarrierWait:
    """The actions of a barrier while it waits.

    ``check`` raises if a process died, ``refresh`` draws the screen. Both are called twice a second. After
    ``most_s`` seconds the barrier gives up.
    """

    check: Callable[[], None]
    refresh: Callable[[], None]
    most_s: float = 600.0


class Barriers:
    """Waits for workers, event log and trainer, one barrier after the other."""

    def __init__(
        self,
        store: OnlineStore,
        log: EventLog,
        producer: EventProducer,
        *,
        tails: ControlTails,
        topics: ReplayedTopics,
        wait: BarrierWait,
    ) -> None:
        self._store, self._log, self._producer = store, log, producer
        self._control = ControlTopics(log.namespace).control
        self._tail, self._acks = tails.decisions, tails.acknowledgements
        self._views, self._sources = topics.views, topics.sources
        self._while_waiting = wait
        self._tables: dict[str, DeltaTable] = {}
        self._unread: deque[DecisionRecord] = deque()

    def wait_until_ready(self) -> None:
        """Wait until the workers have every partition: each view has all its cursors, and each topic its table."""
        names = [view for views in self._views.values() for view in views]
        counts = [len(self._sources[topic]) for topic, views in self._views.items() for _ in views]

        def taken() -> bool | None:
            have = [len(cursors) for cursors in self._store.cursors(names)]
            return True if have == counts and all(map(self._log.exists, self._sources)) else None

        self._wait("the workers to take their partitions", taken, poll_s=0.1)

    def wait_until_folded(self, produced: Counter[str], topics: Iterable[str]) -> None:
        """Wait until all cursors of the views of these topics have passed everything that was produced."""
        wanted = [(view, produced[topic]) for topic in topics for view in self._views.get(topic, ())]
        if wanted:
            names = [view for view, _ in wanted]
            self._wait("the workers to fold", lambda: self._behind(names, wanted), poll_s=_FOLD_POLL_S)

    def _behind(self, names: Sequence[str], wanted: Sequence[tuple[str, int]]) -> bool | None:
        found = self._store.cursors(names)
        reached = all(
            sum(cursor.next_offset for cursor in cursors.values()) >= count
            for cursors, (_, count) in zip(found, wanted, strict=True)
        )
        return True if reached else None

    def ends(self, topics: Sequence[str]) -> list[int]:
        """Return the number of records of each topic."""
        return [sum(self._tail.end(topic, source.partition) for source in self._sources[topic]) for topic in topics]

    def wait_until_logged(self, produced: Counter[str]) -> None:
        """Ask the workers to flush, again if needed, and wait until the event log has everything that was produced."""
        self._producer.put(self._control, None, encode(FlushRequest("barrier")))
        self._producer.flush()
        asked, behind = [time.monotonic()], list(produced)

        def complete() -> bool | None:
            if time.monotonic() - asked[0] > _FLUSH_AGAIN_S:
                asked[0] = time.monotonic()
                self._producer.put(self._control, None, encode(FlushRequest("barrier, again")))
                self._producer.flush()
            for topic in [topic for topic in behind if self._position(topic) >= produced[topic]]:
                behind.remove(topic)
            return None if behind else True

        self._wait("the event log", complete, poll_s=0.015)

    def _position(self, topic: str) -> int:
        """Return the number of records of a topic that the log has."""
        table = self._tables.get(topic)
        if table is None:
            table = self._tables[topic] = self._log.table(topic)
        else:
            table.update_incremental()
        return sum(table.transaction_version(source.text) or 0 for source in self._sources[topic])

    def wait_for_decision(self, t_us: int, model: str) -> DecisionRecord:
        """Send a tick at ``t_us`` and return the decision of the model."""
        self._tick(t_us)
        asked = [time.monotonic()]

        def decision() -> DecisionRecord | None:
            if time.monotonic() - asked[0] > _TICK_AGAIN_S:
                asked[0] = time.monotonic()
                self._tick(t_us)
            return self._next(
                lambda record: record.kind == "evaluated" and record.t_us == t_us and record.model == model
            )

        return self._wait("the trainer to decide", decision)

    def wait_for_run(self, request: str) -> DecisionRecord:
        """Wait for the end of a run and return its record."""
        return self._wait(f"run {request}", lambda: self._next(lambda r: r.kind == "finished" and r.run == request))

    def wait_for_acknowledgement(self, event_id: str) -> Acknowledgement:
        """Wait for the application's acknowledgement of a model event and return it."""

        def answer() -> Acknowledgement | None:
            found = readable(self._acks.poll(0.05), lambda record: decode_acknowledgement(record.value()))
            return next((one for one in found if one.event_id == event_id), None)

        return self._wait("the application to follow", answer)

    def _tick(self, t_us: int) -> None:
        self._producer.put(self._control, None, encode(Tick(t_us)))
        self._producer.flush()

    def _next(self, fits: Callable[[DecisionRecord], bool]) -> DecisionRecord | None:
        """Return the next record that fits, or None. Earlier records are dropped."""
        self._unread += readable(self._tail.poll(0.05), lambda record: decode(record.value(), DecisionRecord))
        while self._unread:
            record = self._unread.popleft()
            if fits(record):
                return record
        return None

    def _wait(self, what: str, attempt: Callable[[], T | None], *, poll_s: float = 0.0) -> T:
        """Call ``attempt`` until it returns a result. Raises BarrierError after a time."""
        started = checked = time.monotonic()
        while (result := attempt()) is None:
            now = time.monotonic()
            if now - checked > 0.5:  # noqa: PLR2004 - seconds between two looks at the processes
                self._while_waiting.check()
                self._while_waiting.refresh()
                checked = now
            if now - started > self._while_waiting.most_s:
                message = f"waited {self._while_waiting.most_s:.0f} s for {what}; see the logs in the data folder"
                raise BarrierError(message)
            time.sleep(poll_s)
        return result
