"""What every test can ask for."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from headrace.app.local.services import LocalServices

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """A real Kafka and Valkey for the whole run; topics and namespaces of a test are its own: see `namespace`.

    A test that kills or restarts one of them leaves it running.
    """
    with LocalServices(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture
def namespace() -> str:
    """A prefix for topics, groups and keys that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"
