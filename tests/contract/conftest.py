"""One body on every online store: the double keeps the promises of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.online_stores import KINDS, SERVERS, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.features.online.store import OnlineStore


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    """Each one."""
    yield from opened(request)


@pytest.fixture(params=SERVERS)
def redis_store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    """Those in Redis."""
    yield from opened(request)
