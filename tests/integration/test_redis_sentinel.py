"""On a real Redis with a sentinel: a replica that lags becomes the primary while events are folded and looked up."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from headrace.app.doctor.redis import examine
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.redis.async_store import AsyncRedisOnlineStore
from headrace.features.online.redis.redis_store import RedisOnlineStore
from tests.support.flowing_payments import PaymentsBench, is_served
from tests.support.redis_sentinel import WatchedRedis
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[WatchedRedis]:
    running = WatchedRedis(tmp_path / "redis")
    try:
        running.start()
        yield running
    finally:
        running.stop()


def test_writes_that_a_lagging_replica_did_not_get_are_made_again(
    redis: WatchedRedis, services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    bench = PaymentsBench(services, redis.url, namespace, tmp_path / "events", may_be_away=True)
    with bench.running():
        redis.hold_replica()
        bench.flow.send(500)
        bench.await_folded()
        redis.lose_primary()
        until(lambda: is_served(bench), 60, lambda: bench.seen)


def test_both_clients_and_doctor_follow_the_sentinel(redis: WatchedRedis, namespace: str) -> None:
    with closing(RedisOnlineStore(redis.url, namespace)) as store:
        store.put_document("one", {"n": 1})
        assert store.get_document("one") == {"n": 1}
    asynchronous = AsyncRedisOnlineStore(redis.url, namespace)
    assert asyncio.run(asynchronous.get_documents(["one"])) == [{"n": 1}]
    assert "master" in next(examine(redis.url, 0.0)).found


def test_sentinels_that_do_not_answer_are_named(redis: WatchedRedis, namespace: str) -> None:
    redis.sentinel.stop()
    with (
        closing(RedisOnlineStore(redis.url, namespace, retry="0s")) as store,
        pytest.raises(OnlineStoreUnavailableError, match="sentinel"),
    ):
        store.get_document("one")
