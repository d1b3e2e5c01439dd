"""What managed services do to a Redis: a password changes, idle connections are cut, commands are forbidden."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from headrace.app.processes.worker import check_eviction, log_redis_warnings
from headrace.errors import OnlineStoreUnavailableError, SettingsError
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.features.online.redis.url import check_url
from headrace.serving.features import FeatureClient
from tests.support.lookups_scene import A1, filled, look_up_async
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from tests.support.redis_cluster import RedisCluster

pytestmark = pytest.mark.integration


@pytest.fixture
def admin(services: LocalServices) -> Iterator[Any]:
    with closing(Redis.from_url(services.redis_url)) as redis:
        yield redis


@pytest.fixture
def user(admin: Any, namespace: str) -> Iterator[str]:
    admin.execute_command("ACL", "SETUSER", namespace, "on", ">first", "~*", "&*", "+@all", "-info", "-config")
    yield namespace
    admin.execute_command("ACL", "DELUSER", namespace)


def cut(admin: Any) -> None:
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def test_a_connection_that_was_cut_while_it_was_idle_is_made_again(
    services: LocalServices, admin: Any, namespace: str
) -> None:
    with (
        closing(RedisOnlineStore(services.redis_url, namespace)) as store,
        closing(FeatureClient.from_url(services.redis_url, namespace)) as client,
    ):
        filled(store)
        found = client.get("risk", A1).to_dicts()
        for _ in range(3):
            cut(admin)
            assert client.get("risk", A1).to_dicts() == found
            cut(admin)
            assert len(store.cursors(["user@x"])) == 1


def test_a_password_in_a_file_may_change_while_processes_run(
    services: LocalServices, admin: Any, user: str, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    url = services.redis_url.replace("redis://", f"redis://{user}@") + f"?password_file={secret}"
    check_url(url)
    with closing(RedisOnlineStore(url, user)) as store, closing(FeatureClient.from_url(url, user)) as client:
        filled(store)
        found = client.get("risk", A1).to_dicts()
        admin.execute_command("ACL", "SETUSER", user, "resetpass", ">second")
        cut(admin)
        with pytest.raises(OnlineStoreUnavailableError, match="does not let this user in") as raised:
            client.get("risk", A1)
        assert "first" not in str(raised.value)
        secret.write_text("second\n")
        until(lambda: answers(lambda: client.get("risk", A1).to_dicts() == found), 10)
        assert len(store.cursors(["user@x"])) == 1
        assert asyncio.run(look_up_async(url, user)) == found


def answers(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OnlineStoreUnavailableError:
        return False


def test_a_password_file_holds_for_a_cluster(redis_cluster: RedisCluster, namespace: str, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("any")
    with_password(redis_cluster, namespace)
    url = redis_cluster.url.replace("://", f"://{namespace}@") + f"?password_file={secret}"
    with closing(RedisOnlineStore(url, namespace)) as store, closing(FeatureClient.from_url(url, namespace)) as client:
        filled(store)
        assert client.get("risk", A1).to_dicts() == asyncio.run(look_up_async(url, namespace))


def with_password(cluster: RedisCluster, user: str) -> None:
    """Make a user on each node."""
    for each in cluster.nodes:
        client: Any = Redis(port=each.port)
        with closing(client) as node:
            node.execute_command("ACL", "SETUSER", user, "on", ">any", "~*", "&*", "+@all")


@pytest.mark.parametrize("query", ["password_file=", "password_file=a&password_file=b"])
def test_a_password_file_that_is_not_named_is_refused(query: str) -> None:
    with pytest.raises(SettingsError, match=r"password_file="):
        check_url(f"redis://app@127.0.0.1:6379/0?{query}")


def test_a_password_beside_its_file_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"password_file=") as raised:
        check_url("redis://app:hunter2@127.0.0.1:6379/0?password_file=/run/secrets/redis")
    assert "hunter2" not in str(raised.value)


def test_a_password_file_that_is_missing_is_named(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    url = services.redis_url.replace("redis://", "redis://app@") + f"?password_file={tmp_path / 'missing'}"
    with (
        closing(FeatureClient.from_url(url, namespace)) as client,
        pytest.raises(OnlineStoreUnavailableError, match=r"the password file .*missing cannot be read"),
    ):
        client.get("risk", A1)


def test_a_worker_that_may_not_ask_redis_for_its_settings_says_what_to_do(services: LocalServices, user: str) -> None:
    url = services.redis_url.replace("redis://", f"redis://{user}:first@")
    with pytest.raises(SettingsError, match=r"\+info.*--allow-eviction"):
        check_eviction(url)
    log_redis_warnings(url)
    with closing(RedisOnlineStore(url, user)) as store:
        filled(store)
