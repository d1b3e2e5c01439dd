"""What every test can ask for."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from headrace.app.local.services import LocalServices
from tests.support.redis_cluster import RedisCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("soak", max_examples=1_000, deadline=None, print_blob=True)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """A real Kafka and Valkey for the whole run; topics and namespaces of a test are its own: see `namespace`.

    A test that kills or restarts one of them leaves it running.
    """
    with LocalServices(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A real cluster of three masters for the whole run. A test may move its slots."""
    running = RedisCluster(tmp_path_factory.mktemp("redis-cluster"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def namespace() -> str:
    """A prefix for topics, groups and keys that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"
