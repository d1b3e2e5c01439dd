"""`headrace serve` as a process: keys, workers, TLS, signals."""

from __future__ import annotations

import http.client
import json
import signal
import ssl
import threading
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from headrace.features.online.redis.redis_store import RedisOnlineStore
from tests.support.lookups_scene import Worker, sale
from tests.support.serve_process import await_ready, served
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from tests.support.http_scene import Answered

pytestmark = pytest.mark.integration
REQUEST = {"service": "risk", "entities": [{"shop": "a", "till": 1}], "as_of": "2020-01-01T00:04:00Z"}
KEY = "a-secret-key"


@pytest.fixture
def folded(services: LocalServices, namespace: str) -> Iterator[str]:
    """The namespace of a store in which a has sold for 1."""
    store = RedisOnlineStore(services.redis_url, namespace)
    worker = Worker(store)
    worker.fold(0, sale("a", 1, 1.0))
    worker.fold(1)
    yield namespace
    store.close()


def test_serve_answers_with_a_key_and_never_shows_the_key(services: LocalServices, folded: str, tmp_path: Path) -> None:
    with served(services, folded, tmp_path, HEADRACE_HTTP__API_KEY=KEY, HEADRACE_HTTP__SERVICES="risk") as it:
        assert it.ask("/features", REQUEST).problem == (401, "unauthorized")
        found = it.ask("/features", REQUEST, headers={"X-API-Key": KEY})
        assert found.json["rows"] == [[1, 1.0, 1, 1.0]]
        assert it.ask("/readyz").status == 200
        assert it.stop() == 0
        assert KEY not in it.log()


@pytest.mark.parametrize(("cache", "seen"), [("0s", 2), ("1h", 1)])
def test_serve_reuses_answers_of_redis_for_the_configured_time(
    services: LocalServices, namespace: str, tmp_path: Path, cache: str, seen: int
) -> None:
    with closing(RedisOnlineStore(services.redis_url, namespace)) as store:
        worker = Worker(store)
        worker.fold(0, sale("a", 1, 1.0))
        worker.fold(1)
        with served(services, namespace, tmp_path, HEADRACE_HTTP__CACHE=cache, HEADRACE_HTTP__POOL_SIZE="1") as it:
            assert it.ask("/features", REQUEST).json["rows"][0][0] == 1
            worker.fold(0, sale("a", 2, 1.0))
            assert it.ask("/features", REQUEST).json["rows"][0][0] == seen


def test_serve_answers_requests_in_flight_before_it_stops(services: LocalServices, folded: str, tmp_path: Path) -> None:
    redis: Any = Redis.from_url(services.redis_url)
    with served(services, folded, tmp_path) as it:
        assert it.ask("/features", REQUEST).status == 200
        redis.execute_command("CLIENT", "PAUSE", "1000", "ALL")
        answers: list[Answered] = []
        asking = threading.Thread(target=lambda: answers.append(it.ask("/features", REQUEST)))
        asking.start()
        time.sleep(0.3)
        assert it.stop() == 0
        asking.join()
        assert answers[0].json["rows"] == [[1, 1.0, 1, 1.0]]
        with pytest.raises(ConnectionError):
            it.ask("/livez")
    redis.close()


def test_serve_counts_all_processes_together_and_replaces_one_that_dies(
    services: LocalServices, folded: str, tmp_path: Path
) -> None:
    import psutil

    with served(services, folded, tmp_path, "--workers", "2") as it:
        for _ in range(20):
            assert it.ask("/features", REQUEST).status == 200
        line = 'headrace_http_requests_total{path="/features",status="200"} 20.0'
        until(lambda: line in it.ask("/metrics").body.decode().splitlines(), 20)  # counted after the answer went out
        workers = [child for child in psutil.Process(it.process.pid).children() if "spawn_main" in str(child.cmdline())]
        assert len(workers) == 2
        workers[0].kill()
        until(lambda: str(workers[0].pid) in it.log(), 30)
        await_ready(it)
        assert it.ask("/features", REQUEST).status == 200
        assert it.stop(signal.SIGINT) == 0


def test_serve_with_a_certificate_is_https(services: LocalServices, folded: str, tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make_certificate(certificate, key)
    (tmp_path / "headrace.toml").write_text('[http]\ntls_certificate = "c.pem"\ntls_key = "k.pem"\n')
    context = ssl.create_default_context(cafile=str(certificate))
    with served(services, folded, tmp_path, context=context) as it:
        assert it.ask("/features", REQUEST).json["rows"] == [[1, 1.0, 1, 1.0]]


def make_certificate(certificate: Path, key: Path) -> None:
    """Signed by itself, for this machine."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    own = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(own, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8
    key.write_bytes(own.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"HEADRACE_HTTP__TLS_KEY": "k.pem"}, "needs both"),
        ({"HEADRACE_HTTP__TLS_KEY": "k.pem", "HEADRACE_HTTP__TLS_CERTIFICATE": "c.pem"}, "http.tls_certificate"),
        ({"HEADRACE_HTTP__API_KEY_FILE": "none"}, "cannot be read"),
        ({"HEADRACE_HTTP__API_KEY_FILE": "empty"}, "has no key"),
        ({"HEADRACE_HTTP__HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1"),
    ],
)
def test_serve_refuses_wrong_settings_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, str], says: str
) -> None:
    from typer.testing import CliRunner

    from headrace.app.cli import build
    from headrace.errors import SettingsError

    (tmp_path / "empty").write_text("# none yet\n")
    monkeypatch.chdir(tmp_path)
    for name, value in {"HEADRACE_REDIS_URL": "redis://127.0.0.1:1/0", **settings}.items():
        monkeypatch.setenv(name, value)
    error = CliRunner().invoke(build(), ["serve"]).exception
    assert isinstance(error, SettingsError)
    assert says in str(error)


@pytest.mark.long
def test_a_reload_fails_no_request(services: LocalServices, folded: str, tmp_path: Path) -> None:
    import psutil

    with served(services, folded, tmp_path, "--workers", "2") as it:
        stop, failures, answered = threading.Event(), list[str](), [0]

        def ask_on_and_on(pause_s: float) -> None:
            """Ask on one connection for as long as the server keeps it."""
            connection = http.client.HTTPConnection(it.url.removeprefix("http://"), timeout=30)
            while not stop.wait(pause_s):
                try:
                    connection.request("POST", "/features", json.dumps(REQUEST))
                    response = connection.getresponse()
                    response.read()
                    assert response.status == 200
                    answered[0] += 1
                except Exception as error:  # noqa: BLE001 - the test counts them
                    failures.append(repr(error))
                    connection.close()
            connection.close()

        def workers() -> set[int]:
            found = set()
            for child in psutil.Process(it.process.pid).children():
                with suppress(psutil.Error):  # it has ended meanwhile
                    found |= {child.pid} if "spawn_main" in str(child.cmdline()) else set()
            return found

        pauses = (0.0, 0.001, 0.01, 0.3)
        clients = [threading.Thread(target=ask_on_and_on, args=(pause_s,), daemon=True) for pause_s in pauses]
        before = workers()
        for client in clients:
            client.start()
        it.process.send_signal(signal.SIGHUP)
        try:
            until(lambda: len(workers()) == 2 and not workers() & before, 90)
        finally:
            stop.set()
        for client in clients:
            client.join()
        assert failures == []
        assert answered[0] > 100
        assert it.stop() == 0


def test_workers_end_when_their_parent_was_killed(services: LocalServices, folded: str, tmp_path: Path) -> None:
    import psutil

    with served(services, folded, tmp_path, "--workers", "2") as it:
        children = psutil.Process(it.process.pid).children(recursive=True)
        assert len(children) >= 2
        it.process.kill()
        until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children), 30)
