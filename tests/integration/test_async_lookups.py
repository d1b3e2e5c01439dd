"""The asynchronous client says what the synchronous one says, and stands what tasks and event loops do to it."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from redis import Redis

from headrace.errors import EntityKeyError, FeaturesUnknownError, OnlineStoreUnavailableError
from headrace.features.redis_store import RedisOnlineStore
from headrace.serving import AsyncFeatureClient, FeatureClient
from tests.integration.test_lookups import A1, A2, B1, MINUTE, START_US, Worker, sale, tills

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
AT_US = START_US + 4 * MINUTE


@pytest.fixture
def worker(services: LocalServices, namespace: str) -> Iterator[Worker]:
    """a sold for 1 and 2 at minutes 1 and 2, b for nothing known at minute 3."""
    store = RedisOnlineStore(services.redis_url, namespace)
    worker = Worker(store)
    worker.fold(0, sale("a", 1, 1.0), sale("b", 3, None))
    worker.fold(1, sale("a", 2, 2.0, till=2))
    yield worker
    store.close()


@pytest.fixture
def where(services: LocalServices, namespace: str, worker: Worker) -> tuple[str, str]:
    return services.redis_url, namespace


def got(where: tuple[str, str], *arguments: Any, as_of_us: int | None = AT_US, **options: Any) -> Any:
    """What a client of its own loop answers."""

    async def get() -> Any:
        async with AsyncFeatureClient.from_url(*where, **options) as client:
            return await client.get(*arguments, as_of_us=as_of_us)

    return asyncio.run(get())


ROWS = [A1, B1, A2, A1, {"shop": "zz", "till": 1}, {"shop": None}]


@pytest.mark.parametrize("rows", [ROWS, A1, []])
@pytest.mark.parametrize("features", ["risk", [f"till@{tills.version}"]])
@pytest.mark.parametrize("options", [{}, {"heartbeat_bound_us": 0}])
def test_it_says_what_the_other_client_says(
    where: tuple[str, str], rows: Any, features: Any, options: dict[str, Any]
) -> None:
    time.sleep(0.002)
    found, wanted = got(where, features, rows, **options), FeatureClient.from_url(*where, **options).get(
        features, rows, as_of_us=AT_US
    )  # fmt: skip
    assert (found.rows, found.at_us, found.columns) == (wanted.rows, wanted.at_us, wanted.columns)
    assert found.to_lists() == wanted.to_lists()
    for row in range(found.rows):
        assert found.statuses(row) == wanted.statuses(row)
        assert found.ages_us(row) == wanted.ages_us(row)
        assert found.offsets(row) == wanted.offsets(row)


def test_the_clock_may_be_the_streams(where: tuple[str, str]) -> None:
    assert got(where, "risk", A1, as_of_us=None, clock="stream").at_us == START_US + 3 * MINUTE + 1_000_000


def test_errors_are_those_of_the_other_client(where: tuple[str, str]) -> None:
    with pytest.raises(FeaturesUnknownError, match="'nothing'"):
        got(where, "nothing", A1)
    with pytest.raises(FeaturesUnknownError, match="'shop@0'"):
        got(where, ["shop@0"], A1)
    with pytest.raises(EntityKeyError, match="wanted str"):
        got(where, "risk", {"shop": 7, "till": 1})
    with pytest.raises(OnlineStoreUnavailableError):
        got(("redis://127.0.0.1:1/0", "n"), "risk", A1)


def test_one_client_serves_many_tasks_of_one_loop_after_another(where: tuple[str, str]) -> None:
    client = AsyncFeatureClient.from_url(*where)

    async def many() -> list[Any]:
        try:
            rows = [A1 if task % 2 else B1 for task in range(40)]
            found = await asyncio.gather(*(client.get("risk", row, as_of_us=AT_US) for row in rows))
            return [one.to_lists()[0] for one in found]
        finally:
            await client.close()

    for _ in range(3):
        assert asyncio.run(many()) == [[1, 0.0, 1, None], [2, 3.0, 1, 1.0]] * 20


def run(client: AsyncFeatureClient) -> None:
    async def get() -> Any:
        return (await client.get("risk", A1, as_of_us=AT_US)).to_lists()

    assert asyncio.run(get()) == [[2, 3.0, 1, 1.0]]


def run_and_leave(client: AsyncFeatureClient) -> None:
    """As asyncio.run without its tidying up."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.get("risk", A1, as_of_us=AT_US))
    loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("in_a_loop", "left"), [(run, 0), (run_and_leave, 1)])
def test_connections_end_with_their_loop(
    where: tuple[str, str], in_a_loop: Callable[[AsyncFeatureClient], None], left: int
) -> None:
    client = AsyncFeatureClient.from_url(*where)
    run(client)
    gc.collect()
    before = psutil.Process().num_fds()
    for _ in range(5):
        in_a_loop(client)
    if left:
        gc.collect()
    assert psutil.Process().num_fds() <= before + left
    run(client)  # what was left is garbage
    gc.collect()
    asyncio.run(client.close())


def test_a_task_that_is_cancelled_leaves_nobody_its_answer(where: tuple[str, str]) -> None:
    redis: Any = Redis.from_url(where[0])

    async def cancel() -> list[Any]:
        async with AsyncFeatureClient.from_url(*where) as client:
            await client.get("risk", A1, as_of_us=AT_US)
            redis.execute_command("CLIENT", "PAUSE", "300", "ALL")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get("risk", A1, as_of_us=AT_US)
            found = await asyncio.gather(*(client.get("risk", B1, as_of_us=AT_US) for _ in range(3)))
            return [one.to_lists()[0] for one in found]

    assert asyncio.run(cancel()) == [[1, 0.0, 1, None]] * 3
    redis.close()


def test_a_store_that_forgot_its_scripts_is_told_them_again(where: tuple[str, str]) -> None:
    redis: Any = Redis.from_url(where[0])

    async def flush() -> Any:
        async with AsyncFeatureClient.from_url(*where) as client:
            await client.get("risk", A1, as_of_us=AT_US)
            redis.script_flush()
            return await client.get("risk", A1, as_of_us=AT_US)

    assert asyncio.run(flush()).to_lists() == [[2, 3.0, 1, 1.0]]
    redis.close()


def test_a_service_is_remembered_as_long_as_it_may_be(where: tuple[str, str], worker: Worker) -> None:
    now = [0.0]
    client = FeatureClient.from_url(*where, services_ms=500, monotonic=lambda: now[0])
    client.get("risk", A1)
    RedisOnlineStore(*where).put_document("service:risk", {"views": [["till", tills.version]]})
    now[0] = 0.499
    assert len(client.get("risk", A1).views) == 2
    now[0] = 0.501
    assert len(client.get("risk", A1).views) == 1
    fresh = FeatureClient.from_url(*where, monotonic=lambda: now[0])
    assert len(fresh.get("risk", A1).views) == 1
