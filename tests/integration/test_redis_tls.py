"""Workers and applications on a Redis with TLS and client certificates."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from headrace.app.doctor.finding import Severity
from headrace.app.doctor.redis import examine
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from tests.support.lookups_scene import A1, filled, look_up_async
from tests.support.tls_redis import SERVER, TlsRedis

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(SERVER is None, reason="Debian's package redis-server is not installed"),
]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    running = TlsRedis(tmp_path_factory.mktemp("tls") / "redis")
    running.launch()
    running.await_ready()
    yield running
    running.stop()


@pytest.fixture
def url(redis: TlsRedis) -> str:
    return redis.secured(ssl_ca_certs=redis.ca, ssl_certfile=redis.certificate, ssl_keyfile=redis.key)


def test_a_worker_writes_and_both_clients_read_over_tls(url: str, namespace: str) -> None:
    with closing(RedisOnlineStore(url, namespace)) as store, closing(FeatureClient.from_url(url, namespace)) as client:
        filled(store)
        found = client.get("risk", A1).to_dicts()
    assert found == asyncio.run(look_up_async(url, namespace))


def test_the_doctor_looks_at_it_over_tls(url: str) -> None:
    assert {found.severity for found in examine(url, 0.0)} <= {Severity.OK, Severity.WARNING}


def test_an_authority_that_is_not_known_is_named(redis: TlsRedis, namespace: str) -> None:
    url = redis.secured(ssl_certfile=redis.certificate, ssl_keyfile=redis.key)
    refused(url, namespace, "certificate verify failed")


def test_a_client_without_a_certificate_is_refused(redis: TlsRedis, namespace: str) -> None:
    refused(redis.secured(ssl_ca_certs=redis.ca), namespace, "does not answer")  # TLS tells it while it writes or reads


def test_a_client_without_tls_is_refused(redis: TlsRedis, namespace: str) -> None:
    refused(f"redis://127.0.0.1:{redis.tls_port}/0", namespace, "does not answer")


def refused(url: str, namespace: str, why: str) -> None:
    with (
        closing(FeatureClient.from_url(url, namespace)) as client,
        pytest.raises(OnlineStoreUnavailableError, match=why),
    ):
        client.get("risk", A1)
