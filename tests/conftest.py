"""What every test can ask for, and in which order several processes share the tests."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import settings

from headrace.app.local.services import LocalServices
from tests.support.redis_cluster import RedisCluster
from tests.support.restored_logs import restored_logs  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent
settings.register_profile("untimed", max_examples=50, deadline=None)  # no test judges how long something takes
settings.load_profile("untimed")
settings.register_profile("soak", max_examples=1_000, deadline=None, print_blob=True)


FIRST = (
    "crash/test_kills.py",
    "integration/test_stopping.py",
    "acceptance/test_demo.py",
    "acceptance/test_demo_free_run.py",
    "acceptance/test_other_tasks.py",
    "crash/test_stores_that_fail.py",
    "crash/test_worker_kills.py",
    "integration/test_deployments.py",
    "integration/test_local_services.py",
    "integration/test_tutorial.py",
)
"""The files that take longest. The others follow folder by folder."""
FOLDERS = ("acceptance", "crash", "integration", "packaging", "contract", "property", "unit")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the tests where several processes share them, so that no process ends with a long file."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _place(item.path.relative_to(TESTS)))


def _place(file: Path) -> tuple[int, int]:
    first = FIRST.index(file.as_posix()) if file.as_posix() in FIRST else len(FIRST)
    return first, FOLDERS.index(file.parts[0])


@pytest.fixture(scope="session", autouse=True)
def uncached_loggers() -> Iterator[None]:
    """Let no command that a test runs in this process keep its loggers: a later test could not capture their lines."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            structlog, "configure", lambda **words: configure(**words | {"cache_logger_on_first_use": False})
        )
        yield


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """A real Kafka and Valkey for all tests of this process; topics and namespaces of a test are its own: `namespace`.

    Each process has servers of its own. A test that kills or restarts one of them leaves it running.
    """
    with LocalServices(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A real cluster of three masters for all tests of this process. A test may move its slots."""
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
