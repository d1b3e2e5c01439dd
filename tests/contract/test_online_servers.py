"""Redis alone: one node or a cluster, away, or of the wrong kind."""

from __future__ import annotations

import re
import traceback
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from headrace.errors import OnlineStoreUnavailableError, SettingsError
from headrace.features.online.redis.async_store import AsyncRedisOnlineStore
from headrace.features.online.redis.redis_store import RedisOnlineStore
from tests.support.online_stores import (
    FIRST,
    ME,
    VIEW,
    ZERO,
    send,
    take_over,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.app.local.services import LocalServices
    from headrace.features.online.store import OnlineStore
    from tests.support.redis_cluster import RedisCluster


@pytest.mark.integration
def test_namespaces_see_nothing_of_each_other(redis_store: RedisOnlineStore, redis_url: str, namespace: str) -> None:
    send(redis_store, FIRST)
    other = RedisOnlineStore(redis_url, f"{namespace}x")
    assert other.cursors([VIEW]) == [{}]
    assert other.read(VIEW, ZERO, [b"a"]) == [None]
    other.close()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis+cluster://127.0.0.1:1/0"])
def test_a_redis_that_does_not_answer_is_a_typed_error(url: str) -> None:
    nowhere = RedisOnlineStore(url, timeout="200ms", retry="50ms")
    calls: list[Callable[[], object]] = [
        lambda: nowhere.acquire(VIEW, ZERO, ME, 1),
        lambda: nowhere.write([FIRST]),
        lambda: nowhere.read(VIEW, ZERO, [b"a"]),
        lambda: nowhere.look_up([(VIEW, [b"a"])]),
        lambda: nowhere.cursors([VIEW]),
        lambda: nowhere.scavenge({VIEW: timedelta(1)}, 0),
        lambda: nowhere.put_document("x", {}),
        lambda: nowhere.get_document("x"),
    ]
    for call in calls:
        with pytest.raises(OnlineStoreUnavailableError, match=re.escape(url)):
            call()
    nowhere.close()


def test_removed_documents_are_gone(store: OnlineStore) -> None:
    for name in ("service:a", "service:b"):
        store.put_document(name, {"x": 1})
    store.remove_documents([])
    store.remove_documents(["service:a", "service:unknown"])
    assert (store.get_document("service:a"), store.get_document("service:b")) == (None, {"x": 1})


# -- one node or a cluster --------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_a_url_of_the_wrong_kind_says_which_is_right(services: LocalServices, redis_cluster: RedisCluster) -> None:
    """Else two clients of one cluster would look for an entity in two places."""
    for url, right in (
        (redis_cluster.url.replace("+cluster", ""), r"redis\+cluster://"),
        (services.redis_url.replace("redis:", "redis+cluster:"), r"say redis://"),
    ):
        store = RedisOnlineStore(url)
        for call in (partial(store.get_document, "x"), partial(store.scavenge, {VIEW: timedelta(1)}, 0)):
            with pytest.raises(SettingsError, match=right):
                call()
        store.close()


def test_the_password_of_a_url_is_never_shown() -> None:
    store = RedisOnlineStore("redis+cluster://me:secret@127.0.0.1:1", timeout="200ms", retry="0s")
    with pytest.raises(OnlineStoreUnavailableError, match=r"redis\+cluster://me:\*\*\*@127") as caught:
        store.get_document("x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:se/cret@h:1/0",
        "redis://:12/se@cret@h",
        "redis+cluster://u:12?secret@h",
        "rediss://u:12#secret@h",
        "redis://h:secret",
        "http://u:secret@h",
    ],
)
@pytest.mark.parametrize("store", [RedisOnlineStore, AsyncRedisOnlineStore])
def test_a_url_that_cannot_be_read_is_refused_and_not_shown(store: Callable[[str], object], url: str) -> None:
    with pytest.raises(SettingsError, match="%2F for /") as caught:
        store(url)
    shown = "".join(traceback.format_exception(caught.value, chain=False)) + str(caught.value.__cause__)
    assert "cret" not in shown
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("store", [RedisOnlineStore, AsyncRedisOnlineStore])
def test_a_url_that_asks_for_another_protocol_is_refused(store: Callable[[str], object]) -> None:
    store("redis://h:1/0?protocol=2")
    with pytest.raises(SettingsError, match=r"u:\*\*\*@h:1.*asks for protocol 3: leave it out"):
        store("redis://u:secret@h:1/0?protocol=3")


@pytest.mark.parametrize(
    "url", ["redis://h:1/0?password=a@b", "redis://u:se%2Fcret%40@h:1", "unix://u:p@/run/redis.sock"]
)
def test_a_url_with_explicit_options_is_accepted(url: str) -> None:
    RedisOnlineStore(url).close()


@pytest.mark.integration
@pytest.mark.parametrize("server", ["redis", "cluster"])
def test_a_node_that_lost_its_scripts_gets_them_again_at_once(
    services: LocalServices, redis_cluster: RedisCluster, namespace: str, server: str
) -> None:
    """Each master for itself: the others know them still. However slow the node was to say so."""
    nodes: list[Any] = [node.redis for node in redis_cluster.nodes]
    if server == "redis":
        nodes = [Redis.from_url(services.redis_url)]
    url = services.redis_url if server == "redis" else redis_cluster.url
    store = RedisOnlineStore(url, namespace, retry="0s")
    assert send(store, FIRST) == [True]
    for node in nodes:
        node.script_flush()
        assert take_over(store, ZERO, ME, 2) is not None
        node.script_flush()
        (answer,) = store.look_up([(VIEW, [b"a", b"b"])])
        assert [list(fields.values()) for fields in answer.fields] == [[b"A"], [b"B"]]
    store.close()
