"""One body on every online store: the double keeps the promises of Redis."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from headrace.features.online.redis.redis_store import RedisOnlineStore
from tests.support.online_stores import KINDS, SERVERS, opened, url_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.features.online.store import OnlineStore


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    """Each one."""
    yield from opened(request)


@pytest.fixture(params=SERVERS)
def redis_url(request: pytest.FixtureRequest) -> str:
    """The address of each kind of server."""
    return url_of(request)


@pytest.fixture
def redis_store(redis_url: str, namespace: str) -> Iterator[RedisOnlineStore]:
    """Those in Redis."""
    with closing(RedisOnlineStore(redis_url, namespace)) as store:
        yield store
