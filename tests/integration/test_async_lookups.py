"""The asynchronous client stands what tasks and event loops do to it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from redis import Redis

from headrace.base.times import utc_datetime
from headrace.features.online.redis.async_clients import async_client
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.features.online.redis.store_options import CallLimits
from headrace.features.online.redis.url import of_node
from headrace.serving import AsyncFeatureClient
from tests.support.lookups_scene import A1, B1, MINUTE, START_US, filled
from tests.support.online_stores import SERVERS, url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.redis_cluster import RedisCluster

AT_US = START_US + 4 * MINUTE


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    return url_of(request)


@pytest.fixture
def where(url: str, namespace: str) -> tuple[str, str]:
    store = RedisOnlineStore(url, namespace)
    filled(store)
    store.close()
    return url, namespace


@pytest.fixture
def masters(url: str, redis_cluster: RedisCluster) -> Iterator[list[Any]]:
    """A client of each node that has keys."""
    plain: Any = Redis.from_url(of_node(url))
    yield [plain] if of_node(url) == url else [node.redis for node in redis_cluster.nodes]
    plain.close()


def test_one_client_serves_many_tasks_of_one_loop_after_another(where: tuple[str, str]) -> None:
    client = AsyncFeatureClient.from_url(*where)

    async def many() -> list[Any]:
        try:
            rows = [A1 if task % 2 else B1 for task in range(40)]
            found = await asyncio.gather(*(client.get("risk", row, as_of=utc_datetime(AT_US)) for row in rows))
            return [one.to_lists()[0] for one in found]
        finally:
            await client.close()

    for _ in range(3):
        assert asyncio.run(many()) == [[1, 0.0, 1, None], [2, 3.0, 1, 1.0]] * 20


def run(client: AsyncFeatureClient) -> None:
    async def get() -> Any:
        return (await client.get("risk", A1, as_of=utc_datetime(AT_US))).to_lists()

    assert asyncio.run(get()) == [[2, 3.0, 1, 1.0]]


def run_and_leave(client: AsyncFeatureClient) -> None:
    """As asyncio.run without its tidying up."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.get("risk", A1, as_of=utc_datetime(AT_US)))
    loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("in_a_loop", "left"), [(run, 0), (run_and_leave, 1)])
def test_connections_end_with_their_loop(
    where: tuple[str, str], masters: list[Any], in_a_loop: Callable[[AsyncFeatureClient], None], left: int
) -> None:
    client = AsyncFeatureClient.from_url(*where)
    run(client)
    gc.collect()
    before = psutil.Process().num_fds()
    for _ in range(5):
        in_a_loop(client)
    if left:
        gc.collect()
    assert psutil.Process().num_fds() <= before + left * (1 + len(masters))
    run(client)  # what was left is garbage
    gc.collect()
    asyncio.run(client.close())


def test_a_task_that_is_cancelled_leaves_nobody_its_answer(where: tuple[str, str], masters: list[Any]) -> None:
    """Of none of the nodes that it asked."""
    some: list[dict[str, Any]] = [{"shop": f"s{n}", "till": n} for n in range(30)]

    async def cancel() -> list[Any]:
        async with AsyncFeatureClient.from_url(*where) as client:
            await client.get("risk", [A1, *some], as_of=utc_datetime(AT_US))
            for redis in masters:
                redis.execute_command("CLIENT", "PAUSE", "300", "ALL")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get("risk", [A1, *some], as_of=utc_datetime(AT_US))
            found = await asyncio.gather(
                *(client.get("risk", [*some, B1], as_of=utc_datetime(AT_US)) for _ in range(3))
            )
            return [one.to_lists() for one in found]

    assert asyncio.run(cancel()) == [[[0, 0.0, 0, None]] * 30 + [[1, 0.0, 1, None]]] * 3


def test_a_store_that_lost_its_scripts_gets_them_again(where: tuple[str, str], masters: list[Any]) -> None:
    async def flush() -> Any:
        async with AsyncFeatureClient.from_url(*where) as client:
            await client.get("risk", A1, as_of=utc_datetime(AT_US))
            for redis in masters:
                redis.script_flush()
            return await client.get("risk", A1, as_of=utc_datetime(AT_US))

    assert asyncio.run(flush()).to_lists() == [[2, 3.0, 1, 1.0]]


def test_a_connection_to_be_replaced_is_closed_when_returned(redis_cluster: RedisCluster) -> None:
    """redis-py marks those that are in use when it finds that the cluster has changed; their node may be gone."""

    async def given_back() -> tuple[bool, Any]:
        link: Any = async_client(redis_cluster.url, CallLimits())
        await link.run([(0, ("PING",))])
        lane = link._lane((await link._places()).node(0))
        connection = lane.take()
        connection.mark_for_reconnect()
        await lane.give(connection)
        try:
            return connection.is_connected, await link.run([(0, ("PING",))])
        finally:
            await link.close()

    assert asyncio.run(given_back()) == (False, [b"PONG"])
