"""History from files beside a topic: a worker folds it, a new view gets it, an emptied store too, and an undo takes it.

Real Kafka and Valkey; the answers are compared with a plain loop over the rows of file and topic.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from confluent_kafka import Producer
from redis import Redis

from headrace import Count, Entity, Event, FeatureService, FeatureView, Lifetime, Max, Stream, Sum
from headrace.base.failpoints import arm
from headrace.base.times import epoch_us
from headrace.bus.event import encode
from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.online.cursor import imported, is_live
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient, Status
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.boundary import first_in_log, first_in_topic
from headrace.streams.imports.history_import import HistoryImport, ImportOptions, undo
from headrace.streams.imports.source_file import find_files
from headrace.streams.plane import imported_partitions
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.followed_views import FixedViews
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import publish_definitions
from tests.support.control_topics import OBSERVATIONS
from tests.support.naive import naive_values
from tests.support.processes import end_with_the_test_run
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.event_log.imports import ImportRecord

pytestmark = pytest.mark.integration
BEGINS = datetime(2024, 5, 1, tzinfo=UTC)
CARDS = [f"c{number}" for number in range(12)]
PARTITIONS = 2


class Spent(Event):
    card: str
    cents: int
    at: datetime


@dataclass
class Bench:
    """A topic of May, a file of April, and workers in threads."""

    services: LocalServices
    namespace: str
    folder: Path

    def __post_init__(self) -> None:
        self.stream = stream_of(self.namespace)
        self.log = EventLog(self.folder / "log")
        self.store = RedisOnlineStore(self.services.redis_url, self.namespace)
        self.client = FeatureClient(self.store, clock=lambda: epoch_us(BEGINS), heartbeat_bound="60s")
        self.rows: list[dict[str, Any]] = []
        topics = [(self.stream.topic, PARTITIONS), (dead_letter_topic(self.stream.topic), 1), (OBSERVATIONS, 1)]
        plans = [TopicPlan(name, count, {"retention.ms": "-1"}) for name, count in topics]
        ensure_topics(self.services.bootstrap_servers, plans)

    def view(self, name: str = "spending", **features: Any) -> FeatureView:
        return view_of(self.stream, name, **(features or {"n": Count(), "cents": Sum("cents")}))

    def events(self, first: datetime, count: int, seed: int) -> list[Spent]:
        random = np.random.default_rng(seed)
        times = np.sort(random.integers(0, 3 * 86_400, count)).tolist()
        return [
            Spent(CARDS[int(random.integers(len(CARDS)))], int(random.integers(1, 999)), first + timedelta(seconds=s))
            for s in times
        ]

    def produce(self, events: Sequence[Spent]) -> None:
        producer = Producer({"bootstrap.servers": self.services.bootstrap_servers, "log_level": 2})
        for number, event in enumerate(events):
            stamp = epoch_us(event.at) // 1_000
            producer.produce(self.stream.topic, encode(event), partition=number % PARTITIONS, timestamp=stamp)
        assert producer.flush(20) == 0
        self.count(events)

    def count(self, events: Sequence[Spent]) -> None:
        begin = len(self.rows)
        self.rows += [
            {
                "event": {"card": e.card, "cents": e.cents},
                "time_us": epoch_us(e.at),
                "partition": 0,
                "offset": begin + n,
            }
            for n, e in enumerate(events)
        ]

    def load(self, events: Sequence[Spent], until_us: int | None = None) -> ImportRecord:
        """Import a file, with its rows in any order, and with the times when they arrived."""
        self.folder.mkdir(exist_ok=True)
        file = self.folder / f"{len(self.rows)}.parquet"
        frame = pl.DataFrame([{"card": e.card, "cents": e.cents, "at": e.at} for e in events]).with_columns(
            pl.col("at").dt.convert_time_zone("UTC").alias("arrived")
        )
        frame.sample(fraction=1, shuffle=True, seed=3).write_parquet(file)
        options = ImportOptions(Availability.of(self.stream, "arrived"), until_us)
        run = HistoryImport(self.log, self.stream, self.folder / "spool", options, _silent)
        record = run.run(find_files([str(file)]), epoch_us(BEGINS)).record
        assert record is not None
        return record

    @contextmanager
    def worker(self, *views: FeatureView) -> Iterator[None]:
        plane = plane_of(self.services.bootstrap_servers, self.namespace, self.stream, views, self.store, self.log)
        thread = threading.Thread(target=plane.run)
        thread.start()
        try:
            yield
        finally:
            plane.stop()
            thread.join(30)

    def is_done(self, view: FeatureView, imports: int) -> bool:
        cursors = self.store.cursors([view.spec.versioned_name])[0]
        counted = sum(cursor.rows_total for cursor in cursors.values())
        is_folded = is_live(cursors) and len(imported(cursors)) == imports and counted == len(self.rows)
        return is_folded and self.log.read(self.stream.topic).height == len(self.rows)

    def check(self, view: FeatureView, at: datetime) -> None:
        """Look-ups are the plain loop's, and so is the event log at the V of each look-up."""
        entities = [{"card": card} for card in CARDS]
        found = self.client.get_views(view.name, entities, as_of=at)
        answers = [[*row.values()] for row in found.to_dicts()]
        wanted = [naive_values(view.spec, self.rows, (card,), epoch_us(at)) for card in CARDS]
        assert answers == wanted
        statuses = {status for row in range(found.rows) for status in found.statuses(row).values()}
        assert statuses <= {Status.PRESENT, Status.MISSING}
        history = FeatureHistory([view.spec], self.log)
        history.refresh()
        served = [json.dumps({view.name: dict(found.offsets(row)[view.name])}) for row in range(found.rows)]
        frame = history.features(pl.DataFrame({"card": CARDS}), np.full(len(CARDS), epoch_us(at)), served)
        assert [list(row) for row in frame.iter_rows()] == wanted


def plane_of(servers: str, namespace: str, stream: Stream, views: Sequence[FeatureView], *stores: Any) -> DataPlane:
    """A worker's plane in small pieces. ``stores`` are the online store and the event log."""
    store, log = stores
    config = PlaneConfig(servers, group=namespace, flush_s=0.1, heartbeat_s=0.2, catch_up_rows=500)
    publish = lambda: publish_definitions(store, views, [FeatureService("risk", views)])  # noqa: E731
    return DataPlane(config, [stream], FixedViews([view.spec for view in views], publish), store, log)


def killed_worker(servers: str, redis_url: str, namespace: str, log: str, failpoint: str) -> None:
    """A worker in a process of its own, which dies there."""
    end_with_the_test_run()
    arm(failpoint)
    stream = stream_of(namespace)
    view = view_of(stream, "spending", n=Count(), cents=Sum("cents"))
    plane_of(servers, namespace, stream, [view], RedisOnlineStore(redis_url, namespace), EventLog(log)).run()


def stream_of(namespace: str) -> Stream:
    return Stream(f"{namespace}.spent", Spent, event_time="at", key="card")


def view_of(stream: Stream, name: str, **features: Any) -> FeatureView:
    return FeatureView(name, Entity("card", str), stream, ["6h", "30d", Lifetime()], features, history="40d")


@contextmanager
def _silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


@pytest.fixture
def bench(services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(imported_partitions, "LOOK_S", 0.2)
    found = Bench(services, namespace, tmp_path)
    yield found
    found.store.close()


def test_history_is_counted_beside_the_topic_by_every_view_and_after_a_lost_store(
    bench: Bench, services: LocalServices
) -> None:
    bench.produce(bench.events(BEGINS, 400, seed=1))
    first_us = first_in_topic(services.bootstrap_servers, bench.stream)
    assert first_us == bench.rows[0]["time_us"]
    view, later, end = bench.view(), bench.view("most", most=Max("cents")), BEGINS + timedelta(days=3)
    with bench.worker(view):
        until(lambda: bench.is_done(view, 0), 30)
        until(lambda: first_in_log(bench.log, bench.stream.topic) == first_us, 10)
        april = bench.events(BEGINS - timedelta(days=20), 3_000, seed=2)
        bench.count(april)
        overlap = bench.events(BEGINS + timedelta(hours=1), 50, seed=3)
        assert bench.load([*april, *overlap], first_us).left_out == 50
        until(lambda: bench.is_done(view, 1), 30)
        for days in (0, -3, -17, -25):
            bench.check(view, end + timedelta(days=days))
        bench.produce(bench.events(BEGINS + timedelta(days=3), 100, seed=4))
        until(lambda: bench.is_done(view, 1), 30)
        Redis.from_url(services.redis_url).flushdb()
        until(lambda: bench.is_done(view, 1), 60)
        bench.check(view, end)
    with bench.worker(view, later):
        until(lambda: bench.is_done(later, 1), 30)
        bench.check(later, end)
        bench.check(view, end)


def test_an_undone_import_leaves_log_and_store_as_they_were_without_it(bench: Bench) -> None:
    bench.produce(bench.events(BEGINS, 200, seed=1))
    view, end = bench.view(), BEGINS + timedelta(days=3)
    first = bench.load(april := bench.events(BEGINS - timedelta(days=5), 500, seed=2))
    bench.count(april)
    with bench.worker(view):
        until(lambda: bench.is_done(view, 1), 30)
        bench.check(view, end)
        undo(bench.log, bench.stream.topic, first.id, 1)
        del bench.rows[200:]
        until(lambda: bench.is_done(view, 0), 30, lambda: bench.store.cursors([view.spec.versioned_name]))
        bench.check(view, end)
        again = bench.load(april)
        bench.count(april)
        assert again.id != first.id
        until(lambda: bench.is_done(view, 1), 30)
        bench.check(view, end)
    undo(bench.log, bench.stream.topic, again.id, 2)
    del bench.rows[200:]
    with bench.worker(view):
        until(lambda: bench.is_done(view, 0), 30)
        bench.check(view, end)


@pytest.mark.slow
@pytest.mark.long
def test_workers_that_are_killed_while_they_fold_history_count_it_once(bench: Bench, services: LocalServices) -> None:
    bench.produce(bench.events(BEGINS, 200, seed=1))
    bench.load(april := bench.events(BEGINS - timedelta(days=9), 2_500, seed=2))
    bench.count(april)
    for failpoint in ("before-catch-up:2", "after-catch-up:3"):
        process = multiprocessing.get_context("forkserver").Process(
            target=killed_worker,
            args=(services.bootstrap_servers, services.redis_url, bench.namespace, bench.log.url, failpoint),
            daemon=True,
        )
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    view = bench.view()
    with bench.worker(view):
        until(lambda: bench.is_done(view, 1), 60, lambda: bench.store.cursors([view.spec.versioned_name]))
        bench.check(view, BEGINS + timedelta(days=3))
