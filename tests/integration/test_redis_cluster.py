"""On a real Redis Cluster: slots move, a master is emptied or dies while events are folded and looked up."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from redis.cluster import ClusterNode as RedisNode

from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import Status
from tests.support.flowing_payments import SERVED, PaymentsBench, is_served
from tests.support.redis_cluster import RedisCluster, slot_of
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


@pytest.fixture
def bench(services: LocalServices, redis_cluster: RedisCluster, namespace: str, tmp_path: Path) -> PaymentsBench:
    return PaymentsBench(services, redis_cluster.url, namespace, tmp_path / "events")


def test_slots_that_move_key_by_key_are_nobodys_trouble(bench: PaymentsBench, redis_cluster: RedisCluster) -> None:
    """Half way their keys are on two nodes: whoever asks for both kinds has to wait."""
    with bench.running():
        for shard in (0, 3, 10):  # also the one with the definitions
            slot = slot_of(shard)
            to = (redis_cluster.owner(slot) + 1) % len(redis_cluster.nodes)
            assert redis_cluster.migrate(slot, to, pause_s=0.3) > 1
            assert redis_cluster.owner(slot) == to
    assert set(bench.seen) <= SERVED


def test_slots_that_move_at_once_are_nobodys_trouble(bench: PaymentsBench, redis_cluster: RedisCluster) -> None:
    with bench.running():
        own = [slot_of(shard) for shard in range(bench.store.shards) if redis_cluster.owner(slot_of(shard)) == 0]
        redis_cluster.migrate_at_once(own[:7], 2)
    assert set(bench.seen) <= SERVED


def test_a_master_that_is_emptied_is_noticed_and_its_shards_are_rebuilt(
    bench: PaymentsBench, redis_cluster: RedisCluster
) -> None:
    with bench.running():
        redis_cluster.nodes[redis_cluster.owner(slot_of(0))].redis.flushall()
        until(lambda: bench.seen[Status.REBUILDING] > 0, 5, lambda: bench.troubles)
        until(lambda: set(bench.look_up().views[0].statuses) <= SERVED, 30, lambda: bench.seen)


@pytest.mark.long
def test_writes_that_a_lagging_replica_of_a_master_did_not_get_are_made_again(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    cluster = RedisCluster(tmp_path / "cluster", has_replicas=True)
    try:
        cluster.start()
        bench = PaymentsBench(services, cluster.url, namespace, tmp_path / "events", may_be_away=True)
        number = cluster.owner(slot_of(0))
        with bench.running():
            cluster.hold_replica(number)
            bench.flow.send(500)
            bench.await_folded()
            cluster.fail_over(number)
            until(lambda: is_served(bench), 60, lambda: bench.seen)
    finally:
        cluster.stop()


def test_a_call_without_time_to_find_the_slots_leaves_it_to_the_next_call(
    redis_cluster: RedisCluster, namespace: str
) -> None:
    with closing(RedisOnlineStore(redis_cluster.url, namespace, retry="0s")) as store:
        assert store.get_document("nothing") is None
        of_redis: Any = RedisNode
        dark = of_redis("127.0.0.1", 1, server_type="primary")  # as a master whose host is gone
        slots = store._redis.nodes_manager.slots_cache
        slots |= {slot: [dark] for slot in slots}
        with pytest.raises(OnlineStoreUnavailableError):
            store.get_document("nothing")
        assert store.get_document("nothing") is None
