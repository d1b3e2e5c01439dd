"""The local services as a user has them: real servers, killed, restarted, orphaned."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from redis import Redis

from headrace.app.local.jars import has_kafka_jars, kafka_jars
from headrace.app.local.kafka import has_broker
from headrace.app.local.lock import FolderLock, running
from headrace.app.local.services import LocalServices, services_for
from headrace.app.local.valkey import LocalValkey
from headrace.app.project.settings import Settings
from headrace.errors import DataFolderInUseError, DownloadError, ServiceStartError
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def create_topic(bootstrap_servers: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(30)


def produce(bootstrap_servers: str, topic: str, value: bytes, timestamp_ms: int = 0) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers})
    producer.produce(topic, value, timestamp=timestamp_ms)
    assert producer.flush(30) == 0


def consume_one(bootstrap_servers: str, topic: str) -> bytes:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{topic}-{time.monotonic_ns()}",
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    try:
        messages = consumer.consume(1, 30)
        assert messages, "no message within 30 s"
        value = messages[0].value()
        assert isinstance(value, bytes)
        return value
    finally:
        consumer.close()


def test_a_message_goes_through_and_redis_answers(services: LocalServices, namespace: str) -> None:
    create_topic(services.bootstrap_servers, namespace)
    produce(services.bootstrap_servers, namespace, b"hello")
    assert consume_one(services.bootstrap_servers, namespace) == b"hello"
    with Redis.from_url(services.redis_url) as redis:
        assert redis.ping()
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_history_is_not_deleted_by_its_old_timestamps(services: LocalServices, namespace: str) -> None:
    create_topic(services.bootstrap_servers, namespace)
    produce(services.bootstrap_servers, namespace, b"of 2013", timestamp_ms=1_357_000_000_000)
    assert consume_one(services.bootstrap_servers, namespace) == b"of 2013"


@pytest.mark.long
def test_a_killed_kafka_comes_back_on_its_port_with_its_data(services: LocalServices, namespace: str) -> None:
    create_topic(services.bootstrap_servers, namespace)
    produce(services.bootstrap_servers, namespace, b"kept")
    before = services.bootstrap_servers
    services.kafka.kill()
    assert not has_broker(before, 0.2)
    with pytest.raises(ServiceStartError, match="kafka has ended"):
        services.check()
    services.kafka.restart()
    assert services.bootstrap_servers == before
    assert consume_one(before, namespace) == b"kept"


def test_valkey_keeps_its_data_at_a_stop_and_can_lose_it_at_a_crash(tmp_path: Path) -> None:
    valkey = LocalValkey(tmp_path)
    valkey.launch()
    try:
        with Redis.from_url(valkey.await_ready().url) as redis:
            redis.set("saved", 1)
            valkey.restart()
            assert redis.get("saved") == b"1"
            redis.set("unsaved", 1)
            valkey.restart(crash=True)
            assert (redis.get("saved"), redis.get("unsaved")) == (b"1", None)
    finally:
        valkey.stop()


def test_a_folder_is_used_once_and_its_services_are_found(services: LocalServices) -> None:
    with pytest.raises(DataFolderInUseError, match=rf"{services.data_dir} is in use: process {os.getpid()}"):
        LocalServices(services.data_dir).start()
    found = running(services.data_dir)
    assert found is not None
    assert (found.bootstrap_servers, found.redis_url) == (services.bootstrap_servers, services.redis_url)
    with services_for(Settings(data_dir=services.data_dir)) as addresses:
        assert addresses.redis_url == services.redis_url


def test_existing_servers_are_used_and_nothing_starts(tmp_path: Path) -> None:
    with LocalServices(tmp_path / "data", bootstrap_servers="kafka:9092", redis_url="redis://redis:6379/0") as given:
        assert (given.bootstrap_servers, given.redis_url) == ("kafka:9092", "redis://redis:6379/0")
    assert not (tmp_path / "data").exists()


def test_only_the_service_that_is_not_given_starts(tmp_path: Path) -> None:
    with LocalServices(tmp_path, bootstrap_servers="kafka:9092") as given:
        pid = given.valkey.pid
        with Redis.from_url(given.redis_url) as redis:
            assert redis.ping()
    assert pid is not None
    assert not alive(pid)
    assert running(tmp_path) is None


def test_a_released_folder_can_be_taken_again(tmp_path: Path) -> None:
    FolderLock(tmp_path).release()
    FolderLock(tmp_path).release()
    assert running(tmp_path) is None


PARENT = """
import json, os, sys, threading
from headrace.app.local.services import LocalServices

def start():
    services = LocalServices(sys.argv[1]).start()
    print(json.dumps([services.kafka.pid, services.valkey.pid]), flush=True)

starter = threading.Thread(target=start)   # the services must not be tied to the thread that started them
starter.start(); starter.join()
if os.fork() == 0:                         # nor be kept alive by a fork that inherited our pipes
    import time
    time.sleep(30)
    os._exit(0)
input()
"""


@pytest.mark.crash
@pytest.mark.long
def test_after_kill_9_of_the_parent_nothing_runs_and_the_folder_is_free(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        assert all(map(alive, pids))
        os.kill(parent.pid, signal.SIGKILL)
        until(lambda: not any(map(alive, pids)), 20)
        os.killpg(parent.pid, signal.SIGKILL)  # the fork
    until(lambda: running(tmp_path) is None, 20)
    with LocalServices(tmp_path) as again:
        assert has_broker(again.bootstrap_servers)


@pytest.mark.long
def test_services_run_again_in_a_folder_of_any_script_with_a_comma(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    folder = tmp_path / "Maß, 日本 (100% neu) 'é'"
    with LocalServices(folder) as first:
        create_topic(first.bootstrap_servers, "kept")
        addresses = first.bootstrap_servers, first.redis_url
    assert (folder / "local" / "kafka" / "log" / "meta.properties").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name], "nothing is elsewhere"
    with LocalServices(folder) as again:
        assert (again.bootstrap_servers, again.redis_url) == addresses
        produce(again.bootstrap_servers, "kept", b"hello")


@pytest.mark.long
def test_a_process_begins_again_when_its_servers_have_moved(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headrace", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with LocalServices(tmp_path / "data", bootstrap_servers="127.0.0.1:1") as services:
        port = services.valkey.port
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        said = (tmp_path / "log").read_text
        until(lambda: said().count("serving") == 1, 60, said)
    try:
        with (
            socket.create_server(("127.0.0.1", port)),
            LocalServices(tmp_path / "data", bootstrap_servers="127.0.0.1:1") as moved,
        ):
            assert moved.valkey.port != port
            until(lambda: said().count("serving") == 2, 60, said)
            assert server.poll() is None, "the same process"
            server.send_signal(signal.SIGTERM)
            assert server.wait(10) in {0, 143}  # 143: it says "serving" a moment before it can be stopped in order
    finally:
        server.kill()
        server.wait()


@pytest.mark.long
def test_up_prints_the_addresses_and_stops_at_ctrl_c(tmp_path: Path) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "headrace", "up", "--json", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with up:
        assert up.stdout is not None
        addresses = json.loads(up.stdout.readline())
        assert has_broker(addresses["bootstrap_servers"], 5)
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0
    assert not has_broker(addresses["bootstrap_servers"], 0.2)


def test_a_download_that_is_impossible_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Offline:
        @staticmethod
        def build(_endpoint: str) -> object:
            raise OSError("Network is unreachable")

    monkeypatch.setitem(sys.modules, "jgo", Offline)
    with pytest.raises(DownloadError, match=r"Network is unreachable.*HEADRACE_BOOTSTRAP_SERVERS"):
        kafka_jars(tmp_path)


def test_jars_are_known_without_asking_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = kafka_jars()
    (tmp_path / "kafka-4.3.1.json").write_text(json.dumps([str(jar) for jar in known]))
    monkeypatch.setitem(sys.modules, "jgo", None)
    assert kafka_jars(tmp_path) == known
    assert (has_kafka_jars(tmp_path), has_kafka_jars(tmp_path / "none")) == (True, False)


def test_a_service_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    valkey = LocalValkey(tmp_path, save="not a schedule")
    valkey.launch()
    with pytest.raises(ServiceStartError, match=r"valkey has ended by itself; the end of .*valkey\.log:\n(.|\n)*save"):
        valkey.await_ready()
    valkey.stop()
