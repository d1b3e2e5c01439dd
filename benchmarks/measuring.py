"""One measured run: from the first record taken until everything is durable in both stores, then checked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headrace import EventProducer, FeatureClient
from headrace.base.times import duration_us, utc_datetime
from headrace.bus.control import FlushRequest
from headrace.bus.control_topics import ControlTopics
from headrace.bus.event import encode
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.online.redis.redis_store import RedisOnlineStore

from .definitions import Shape, online_name, payments, spending
from .rig import PATIENCE_S, Child
from .worker import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .rig import Rig
    from .worker import Task
    from .workload import Totals, Workload

ENTITIES_A_LOOK_UP = 1_000


class Run(msgspec.Struct, frozen=True):
    """One run: wall seconds, events a second, and the CPU seconds of each process in that time.

    ``folded_s``: after how many of the seconds the last event could be looked up; what is left is the log's commit.
    """

    seconds: float
    events_per_s: float
    cpu: dict[str, float]
    folded_s: float | None = None
    peak_mib: int | None = None


def decode_once(rig: Rig, workload: Workload) -> Run:
    """Merely consume and decode the topic."""
    child = Child(rig.task("decode", workload))
    try:
        first = child.reached("first")
        before = rig.cpu()
        return run_of(workload.events, first, child.reached("last"), before, rig.cpu())
    finally:
        child.stop()


def ingest_once(rig: Rig, workload: Workload, shape: Shape | None = None, **options: Any) -> tuple[Run, Task]:
    """A worker from an empty store and an empty log to the end of the topic. RuntimeError unless all is exact.

    ``options`` are those of the task.
    """
    rig.reset()
    task = rig.task("ingest", workload, shape=shape or Shape(), **options)
    child = Child(task)
    try:
        first = child.reached("first")
        before = rig.cpu()
        await_folded(task, [child])
        folded_s = round(time.monotonic() - first.at, 3)
        await_durable(task)
        measured = run_of(workload.events, first, Moment(time.monotonic(), child.cpu()), before, rig.cpu())
        peak_mib = child.peak_mib()
    finally:
        child.stop()
    check(task, workload)
    return msgspec.structs.replace(measured, folded_s=folded_s, peak_mib=peak_mib), task


def run_of(events: int, first: Moment, last: Moment, before: Mapping[str, float], after: Mapping[str, float]) -> Run:
    """A run between two points of the measured process, with the services' CPU seconds at both."""
    seconds = last.at - first.at
    cpu = {"worker": last.cpu - first.cpu, **{name: after[name] - before[name] for name in after}}
    return Run(round(seconds, 3), round(events / seconds), {name: round(value, 2) for name, value in cpu.items()})


# -- waiting ---------------------------------------------------------------------------------------------


def await_folded(
    task: Task, children: Sequence[Child], seen: Callable[[int], None] = lambda _: None, *, every_s: float = 0.02
) -> None:
    """Wait until every view has folded every record; ``seen`` is told how many are folded each time it is looked."""
    views = [online_name(view) for view in spending(payments(task.topic), task.shape)]
    store, watch = RedisOnlineStore(task.redis_url, task.namespace), Watch()
    folded = -1
    while folded < task.events:
        folded = min(sum(cursor.next_offset for cursor in cursors.values()) for cursors in store.cursors(views))
        seen(folded)
        watch.moved_to(folded, f"events folded of {task.events:,}")
        for child in children:
            child.check()
        time.sleep(every_s)
    store.close()


def await_durable(task: Task) -> None:
    """Ask for a flush, and wait until the event log has every record."""
    producer = EventProducer(task.servers)
    producer.put(ControlTopics(task.namespace).control, None, encode(FlushRequest("benchmark")))
    producer.flush()
    store = RedisOnlineStore(task.redis_url, task.namespace)
    stream = payments(task.topic)
    sources = list(store.cursors([online_name(spending(stream, task.shape)[0])])[0])
    store.close()
    writer, watch, logged = LogWriter(EventLog(task.event_log), stream), Watch(), 0
    while logged < task.events:
        logged = sum(writer.position(source) or 0 for source in sources)
        watch.moved_to(logged, f"events in the log of {task.events:,}")
        time.sleep(0.002)
        writer.refresh()


class Watch:
    """Ends a wait for something that has not moved for long."""

    def __init__(self) -> None:
        self._at, self._moved = -1, time.monotonic()

    def moved_to(self, position: int, what: str) -> None:
        """RuntimeError if nothing has moved for two minutes."""
        if position != self._at:
            self._at, self._moved = position, time.monotonic()
        elif time.monotonic() - self._moved > PATIENCE_S:
            raise RuntimeError(f"{position:,} {what}, and no more for {PATIENCE_S:.0f} s")


# -- checking --------------------------------------------------------------------------------------------


def check(task: Task, workload: Workload) -> None:
    """Everything is in the log once, and every user's windows in the online store are exact. RuntimeError if not."""
    check_log(task, workload)
    check_online(task, workload)


def check_log(task: Task, workload: Workload) -> None:
    """Compare the log with the workload, user by user."""
    frame = EventLog(task.event_log).read(task.topic)
    distinct = frame.select("__partition", "__offset").n_unique()
    users = frame.get_column("user_id").str.slice(len("user-")).cast(int).to_numpy()
    _insist(frame.height == distinct == workload.events, f"{frame.height} rows, {distinct} distinct offsets in the log")
    counts = np.bincount(users, minlength=workload.users)
    sums = np.bincount(users, frame.get_column("amount").to_numpy(), minlength=workload.users)
    rows = workload.rows
    _insist(bool((counts == np.bincount(rows.users, minlength=workload.users)).all()), "counts by user in the log")
    _insist(_close(sums, np.bincount(rows.users, rows.amounts, minlength=workload.users)), "sums by user in the log")


def check_online(task: Task, workload: Workload) -> None:
    """Look every user up at the end of the workload and compare with plain counting."""
    client = FeatureClient.from_url(task.redis_url, task.namespace)
    views = spending(payments(task.topic), task.shape)
    wanted = [_window(workload, length, every) for length, every in task.shape.windows]
    for view in views:
        found = [
            client.get_views(online_name(view), users, as_of=utc_datetime(workload.end_us)).views[0].values
            for users in _in_pieces(workload.users)
        ]
        columns = [np.concatenate([piece[place][0] for piece in found]) for place in range(3 * len(wanted))]
        for place, totals in enumerate(wanted):
            counts, sums, largest = columns[place :: len(wanted)]
            some = totals.counts > 0
            exact = (counts == totals.counts).all() and (largest[some] == totals.largest[some]).all()
            _insist(bool(exact) and _close(sums, totals.sums), f"{view.name}, window {task.shape.windows[place]}")


def _window(workload: Workload, length: str, every: str) -> Totals:
    return workload.rows.window(workload.users, workload.end_us, duration_us(length), duration_us(every))


def _in_pieces(users: int) -> list[list[dict[str, Any]]]:
    everyone = [{"user_id": f"user-{user}"} for user in range(users)]
    return [everyone[start : start + ENTITIES_A_LOOK_UP] for start in range(0, users, ENTITIES_A_LOOK_UP)]


def _close(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal as sums are: within 1e-9 of the sum of magnitudes (all amounts are positive)."""
    return bool((np.abs(found - wanted) <= 1e-9 * wanted).all())


def _insist(exact: bool, what: str) -> None:  # noqa: FBT001 - what is insisted on
    if not exact:
        raise RuntimeError(f"not exact: {what}")
