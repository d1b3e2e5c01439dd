"""Every aggregate over every kind of window, from records to a look-up, through a real store and changing owners."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from headrace.base.times import utc_datetime
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.every_aggregate import SOURCES, Sale, build, recent, sales, view, wrong
from tests.support.naive import naive_answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.features.definitions.view import FeatureView
    from headrace.features.online.store import OnlineStore

KEYS = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


@pytest.fixture(
    params=[pytest.param("memory", marks=pytest.mark.long), pytest.param("redis", marks=pytest.mark.integration)]
)
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    if request.param == "memory":
        yield MemoryOnlineStore()
        return
    redis = RedisOnlineStore(request.getfixturevalue("services").redis_url, request.getfixturevalue("namespace"))
    yield redis
    redis.close()


def made_up(count: int) -> list[dict[str, Any]]:
    """Rows of two partitions, late and out of order, as the naive loop wants them."""
    chance = random.Random(7)
    buyers = [None, "", "ann", "béa"]
    return build(
        [
            (chance.randrange(2), chance.randint(-200, 10), chance.randint(0, 9), *chance.choice(KEYS),
             chance.choice([None, round(chance.gauss(20, 30), 2)]), chance.randint(-1, 3), chance.random() < 0.5,
             chance.choice(buyers))
            for _ in range(count)
        ]
    )  # fmt: skip


def fold(store: OnlineStore, of: FeatureView, partition: int, rows: list[dict[str, Any]]) -> None:
    """A worker that owns the partition for one batch: all it knows of the past is what the store has."""
    owned = ViewPartition(of.spec, SOURCES[partition], store)
    owned.acquire(bytes([rows[0]["offset"] % 256]) * 16, len(SOURCES))
    records = PartitionRecords(
        np.array([row["offset"] for row in rows]),
        np.array([row["record_us"] for row in rows]),
        [None] * len(rows),
        [encode(Sale(**row["event"])) for row in rows],
    )
    judged = RecordJudge(sales).rows(SOURCES[partition].topic_id, partition, records, NO_CLOCK)
    writes = owned.fold(LoggedRows.from_rows(judged, sales.event_time), rows[-1]["offset"] + 1)
    assert all(store.write(writes))


@pytest.mark.parametrize("of", [view, recent], ids=["windows of time", "windows of rows"])
def test_a_look_up_of_every_aggregate_answers_as_a_naive_loop(store: OnlineStore, of: FeatureView) -> None:
    publish_definitions(store, [of], [])
    rows = made_up(400 if of is view else 120)
    for begin in range(0, len(rows), 50):
        for partition in range(2):
            batch = [row for row in rows[begin : begin + 50] if row["partition"] == partition]
            fold(store, of, partition, batch)
    for later in (0, 7, 90, 3_000):
        at_us = rows[-1]["record_us"] + later * 60_000_000
        found = FeatureClient(store).get_views(
            of.spec.versioned_name,
            [{"shop": shop, "till": till} for shop, till in KEYS],
            as_of=utc_datetime(at_us),
        )
        for key, values in zip(KEYS, found.to_lists(), strict=True):
            assert not wrong(values, naive_answers(of.spec, rows, key, at_us), of.spec.columns), key
