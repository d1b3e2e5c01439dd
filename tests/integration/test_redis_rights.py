"""The users of Redis on the page about security have the rights that their processes need, and no more."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis, RedisError

from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from tests.support.documents import ROOT
from tests.support.lookups_scene import A1, filled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text("utf-8")
FORBIDDEN: list[list[str]] = [
    ["FLUSHALL"],
    ["CONFIG", "GET", "*"],
    ["KEYS", "*"],
    ["GET", "of-others"],
    ["ACL", "LIST"],
]


@pytest.fixture
def users(services: LocalServices, namespace: str) -> Iterator[dict[str, str]]:
    """The page's users, for this namespace: their URLs by name."""
    rules = dict(re.findall(r"ACL SETUSER (\w+) +on >\S+ (.+)", PAGE))
    made = {}
    admin: Any = Redis.from_url(services.redis_url)
    with closing(admin) as redis:
        for name, rule in rules.items():
            user = f"{namespace}-{name}"
            redis.execute_command("ACL", "SETUSER", user, "on", ">pw", *rule.replace("shop", namespace).split())
            made[name] = services.redis_url.replace("redis://", f"redis://{user}:pw@")
        yield made
        for name in rules:
            redis.execute_command("ACL", "DELUSER", f"{namespace}-{name}")


def test_a_worker_writes_and_an_application_reads(users: dict[str, str], namespace: str) -> None:
    assert users.keys() == {"worker", "app"}
    with closing(RedisOnlineStore(users["worker"], namespace)) as store:
        filled(store)
    with closing(FeatureClient.from_url(users["app"], namespace)) as client:
        assert client.get("risk", A1).rows == 1


def test_nobody_does_more(users: dict[str, str], namespace: str) -> None:
    own = f"hr:{{0}}:{namespace}:doc:x"
    script = ["EVAL", "return redis.call('SET', KEYS[1], '1')", "1", own]
    for name, more in {"worker": [], "app": [["SET", own, "1"], ["DEL", own], script]}.items():
        client: Any = Redis.from_url(users[name])
        with closing(client) as redis:
            for command in [*FORBIDDEN, *more]:
                with pytest.raises(RedisError, match=r"(?i)permission"):
                    redis.execute_command(*command)
