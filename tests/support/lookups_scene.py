"""Sales of shops, folded into a store as workers do, and clients of both kinds to look them up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.base.times import epoch_us
from headrace.bus.event import Event, encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.features.definitions.aggregates import Count, Last, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.online.cursor import CursorState
from headrace.features.online.redis.async_store import AsyncRedisOnlineStore
from headrace.serving import AsyncFeatureClient, FeatureClient
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.features.online.store import FencedWrite, OnlineStore
    from headrace.serving.features import FeatureVectors

START = datetime(2020, 1, 1, tzinfo=UTC)
START_US = epoch_us(START)
MINUTE = 60_000_000


class Sale(Event):
    """A sale at a till of a shop."""

    shop: str
    till: int
    at: datetime
    amount: float | None


sales = Stream("sales", Sale, event_time="at", tolerance="5m")
shops = FeatureView("shop", Entity("shop", str), sales, ["10m"], {"n": Count(), "amount": Sum("amount")}, max_age="30m")
tills = FeatureView(
    "till",
    Entity("till", keys={"shop": str, "till": int}),
    sales,
    ["1h"],
    {"n": Count(), "last": Last("amount")},
    history="1h",
)
risk = FeatureService("risk", [shops, tills])
SOURCES = [SourcePartition(partition, bytes([3]) * 16) for partition in range(2)]


class Worker:
    """Folds sales into the store, as a worker does."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._judge = RecordJudge(sales)
        self.views = [[ViewPartition(view.spec, source, store) for view in (shops, tills)] for source in SOURCES]
        publish_definitions(store, [shops, tills], [risk])
        for partition in range(len(SOURCES)):
            self.acquire(partition, b"w" * 16)

    def acquire(self, partition: int, owner: bytes) -> None:
        for view in self.views[partition]:
            view.acquire(owner, len(SOURCES))

    def fold(self, partition: int, *events: Sale, state: CursorState = CursorState.LIVE) -> None:
        """A batch of one partition, recorded a second after each event."""
        for view in self.views[partition]:
            first = view.position
            times = np.array([epoch_us(event.at) + 1_000_000 for event in events], np.int64)
            records = PartitionRecords(
                first + np.arange(len(events)), times, [None] * len(events), [encode(e) for e in events]
            )
            rows = self._judge.rows(SOURCES[partition].topic_id, partition, records, NO_CLOCK)
            self._write(view, view.fold(LoggedRows.from_rows(rows, sales.event_time), first + len(events), state))
            self._write(view, view.level())

    def _write(self, view: ViewPartition, writes: Sequence[FencedWrite]) -> None:
        for write in writes:
            assert self._store.write([write]) == [True]
            view.applied(write)


def sale(shop: str, minute: float, amount: float | None = 1.0, till: int = 1) -> Sale:
    return Sale(shop, till, START + timedelta(minutes=minute), amount)


A1, A2, B1 = {"shop": "a", "till": 1}, {"shop": "a", "till": 2}, {"shop": "b", "till": 1}


def filled(store: OnlineStore) -> Worker:
    """Both partitions live: a sold for 1 and 2 at minutes 1 and 2, b for nothing known at minute 3."""
    worker = Worker(store)
    worker.fold(0, sale("a", 1, 1.0), sale("b", 3, None))
    worker.fold(1, sale("a", 2, 2.0, till=2))
    return worker


class Waiting:
    """A client that waits."""

    def __init__(self, store: OnlineStore, namespace: str, **options: Any) -> None:
        self._client = FeatureClient(store, **options)

    def get(self, *asked: Any, **more: Any) -> FeatureVectors:
        """See FeatureClient."""
        return self._client.get(*asked, **more)

    def get_views(self, *asked: Any, **more: Any) -> FeatureVectors:
        """See FeatureClient."""
        return self._client.get_views(*asked, **more)


class Awaited:
    """A client that is awaited, each time in an event loop of its own."""

    def __init__(self, store: OnlineStore, namespace: str, **options: Any) -> None:
        url = getattr(store, "_url", None)
        own: Any = _Awaitable(store) if url is None else AsyncRedisOnlineStore(url, namespace)
        self._client = AsyncFeatureClient(own, **options)

    def get(self, *asked: Any, **more: Any) -> FeatureVectors:
        """See FeatureClient."""
        return asyncio.run(self._client.get(*asked, **more))

    def get_views(self, *asked: Any, **more: Any) -> FeatureVectors:
        """See FeatureClient."""
        return asyncio.run(self._client.get_views(*asked, **more))


class _Awaitable:
    """The double, awaited."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*asked: Any) -> Any:
            await asyncio.sleep(0)
            return getattr(self._store, name)(*asked)

        return call


async def look_up_async(url: str, namespace: str) -> list[dict[str, Any]]:
    """The values of :data:`A1` by an asynchronous client."""
    store = AsyncRedisOnlineStore(url, namespace)
    try:
        return (await AsyncFeatureClient(store).get("risk", A1)).to_dicts()
    finally:
        await store.close()
