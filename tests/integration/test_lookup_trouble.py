"""Both clients while the store is away: what fails for now is tried again, as long as it may be."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from headrace.base.times import utc_datetime
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.features.online.redis.url import of_node
from headrace.serving import AsyncFeatureClient, FeatureClient
from tests.support.lookups_scene import A1, MINUTE, START_US, filled
from tests.support.online_stores import SERVERS, url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.serving.features import FeatureVectors
    from tests.support.redis_cluster import RedisCluster

AT_US = START_US + 4 * MINUTE
FOUND = [[2, 3.0, 1, 1.0]]


class Loop:
    """An asynchronous client in one event loop of its own."""

    def __init__(self, *where: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = AsyncFeatureClient.from_url(*where, **options)

    def get(self, *asked: Any, **more: Any) -> FeatureVectors:
        return asyncio.run_coroutine_threadsafe(self._client.get(*asked, **more), self._loop).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    return url_of(request)


@pytest.fixture(params=[FeatureClient.from_url, Loop])
def client(request: pytest.FixtureRequest, url: str, namespace: str) -> Iterator[Callable[..., Any]]:
    """Makes a client at the URL, or at another."""
    store = RedisOnlineStore(url, namespace)
    filled(store)
    store.close()
    made = []

    def make(at: str = url, **options: Any) -> Any:
        made.append(request.param(at, namespace, **options))
        return made[-1]

    yield make
    for one in made:
        if isinstance(one, Loop):
            one.close()


@pytest.fixture
def masters(url: str, request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """A client of each node that has keys."""
    if of_node(url) != url:
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        yield [node.redis for node in cluster.nodes]
        return
    plain: Any = Redis.from_url(url)
    yield [plain]
    plain.close()


def get(client: Any) -> list[list[Any]]:
    found: list[list[Any]] = client.get("risk", A1, as_of=utc_datetime(AT_US)).to_lists()
    return found


def cut(masters: list[Any]) -> None:
    """End all connections but those that say so."""
    for redis in masters:
        redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


@contextmanager
def no_more_clients(masters: list[Any]) -> Iterator[None]:
    for redis in masters:
        redis.config_set("maxclients", 1)
    try:
        yield
    finally:
        for redis in masters:
            redis.config_set("maxclients", 10_000)


def test_connections_that_were_cut_are_nobodys_trouble(client: Callable[..., Any], masters: list[Any]) -> None:
    own = client()
    for _ in range(3):
        assert get(own) == FOUND
        cut(masters)


def test_a_store_that_is_away_for_a_moment_is_waited_for(client: Callable[..., Any], masters: list[Any]) -> None:
    own = client(retry="5s")
    assert get(own) == FOUND
    with ThreadPoolExecutor(1) as other, no_more_clients(masters):  # which ends first
        cut(masters)
        found = other.submit(get, own)
        time.sleep(0.3)
        assert not found.done()
    assert found.result() == FOUND


def test_no_look_up_takes_longer_than_it_may(client: Callable[..., Any], masters: list[Any]) -> None:
    own = client(timeout="200ms", retry="100ms")
    assert get(own) == FOUND
    for redis in masters:
        redis.execute_command("CLIENT", "PAUSE", "1500", "ALL")
    started = time.monotonic()
    with pytest.raises(OnlineStoreUnavailableError, match="does not answer"):
        get(own)
    assert 0.19 < time.monotonic() - started < 1.2
    for redis in masters:
        redis.execute_command("CLIENT", "UNPAUSE")
    assert get(own) == FOUND


def test_no_call_is_retried_when_retries_are_off(client: Callable[..., Any], url: str) -> None:
    nowhere = url.split("://", 1)[0] + "://127.0.0.1:1"
    started = time.monotonic()
    with pytest.raises(OnlineStoreUnavailableError):
        get(client(nowhere, retry="0s"))
    once_s = time.monotonic() - started
    with pytest.raises(OnlineStoreUnavailableError):
        get(client(nowhere, retry="400ms"))
    assert time.monotonic() - started - once_s > 0.3
    assert once_s < 0.3


def test_more_look_ups_than_connections_wait_for_one_another(client: Callable[..., Any], masters: list[Any]) -> None:
    own = client(pool_size=2, retry="5s")
    assert get(own) == FOUND
    before = [redis.info("clients")["connected_clients"] for redis in masters]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda _: get(own), range(24))) == [FOUND] * 24
    after = [redis.info("clients")["connected_clients"] for redis in masters]
    assert all(now <= then + 1 for now, then in zip(after, before, strict=True))
