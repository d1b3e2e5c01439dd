"""`headrace doctor` on real Kafka and Redis: what would lose data is told, and the exit code says so."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis
from structlog.testing import capture_logs
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.doctor import redis as redis_doctor
from headrace.app.processes.worker import check_eviction, log_redis_warnings
from headrace.bus.topics import TopicPlan, ensure_topics, stream_config
from headrace.errors import OnlineStoreUnavailableError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from tests.support.redis_cluster import RedisCluster

pytestmark = pytest.mark.integration
PROJECT = """
from datetime import datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.aggregates import Count
class Ping(Event):
    at: datetime
    host: str
pings = Stream("{topic}", Ping, event_time="at")
view = FeatureView("pings", entity=Entity("host", str), source=pings, windows=["1h"], features={{"n": Count()}})
"""


@pytest.fixture
def topic(services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The topic of a project with one view, not deployed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    monkeypatch.setenv("HEADRACE_NAMESPACE", namespace)
    (tmp_path / "headrace.toml").write_text(f'[project]\nstreams = ["{namespace}"]\n')
    (tmp_path / f"{namespace}.py").write_text(PROJECT.format(topic=f"{namespace}.pings"))
    return f"{namespace}.pings"


@pytest.fixture
def evicting(services: LocalServices) -> Iterator[None]:
    """A Redis that evicts, for as long as the test lasts."""
    with Redis.from_url(services.redis_url) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        yield
        redis.config_set("maxmemory-policy", "noeviction")


def examined(*flags: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit code, and the findings by subject."""
    done = CliRunner().invoke(build(), ["doctor", "--json", *flags])
    by_subject: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout):
        by_subject.setdefault(finding["subject"].split()[0], []).append(finding)
    return done.exit_code, by_subject


def test_a_sound_deployment_passes(topic: str, services: LocalServices) -> None:
    ensure_topics(services.bootstrap_servers, [TopicPlan(topic, 2, stream_config(replay=False))])
    code, found = examined()
    assert code == 0
    assert {finding["severity"] for finding in found["redis"]} == {"ok"}
    assert [finding["found"] for finding in found["topic"] if topic in finding["subject"]] == ["2 partitions"]
    assert "nothing of it is in Redis" in found["view"][0]["found"]
    assert examined("--strict")[0] == 1  # the view is a warning
    assert topic in CliRunner().invoke(build(), ["doctor"]).stdout


@pytest.mark.usefixtures("evicting")
def test_a_redis_that_evicts_is_refused(topic: str) -> None:
    code, found = examined()
    assert code == 1
    assert "allkeys-lru" in next(each["found"] for each in found["redis"] if each["severity"] == "error"), topic


@pytest.mark.usefixtures("evicting")
def test_a_worker_says_at_its_start_that_redis_evicts(services: LocalServices) -> None:
    with capture_logs() as logs:
        log_redis_warnings(services.redis_url)
    assert [(entry["log_level"], "allkeys-lru" in entry["event"]) for entry in logs] == [("warning", True)]
    with capture_logs() as logs:
        log_redis_warnings("redis://127.0.0.1:1")  # not there yet: the worker waits for it
    assert logs == []


@pytest.mark.usefixtures("evicting")
def test_a_worker_does_not_start_on_a_redis_that_evicts_unless_one_insists(services: LocalServices) -> None:
    with pytest.raises(SettingsError, match=r"has allkeys-lru.*--allow-eviction"):
        check_eviction(services.redis_url)
    with pytest.raises(OnlineStoreUnavailableError):
        check_eviction("redis://127.0.0.1:1")


def test_a_redis_that_does_not_evict_is_taken(services: LocalServices, redis_cluster: RedisCluster) -> None:
    check_eviction(services.redis_url)
    check_eviction(redis_cluster.url)


def test_a_compacted_stream_topic_is_refused(topic: str, services: LocalServices) -> None:
    ensure_topics(services.bootstrap_servers, [TopicPlan(topic, 1, {"cleanup.policy": "compact"})])
    code, found = examined()
    assert code == 1
    severities = {each["severity"] for each in found["topic"] if topic in each["subject"]}
    assert {"error", "warning"} <= severities  # compacted, and stamped by its producers


def test_every_master_of_a_cluster_is_asked(redis_cluster: RedisCluster) -> None:
    found = [*redis_doctor.examine(redis_cluster.url, time.time())]
    assert [finding.severity for finding in found] == ["ok"] * 3
    assert len({finding.subject for finding in found}) == 3


@pytest.mark.parametrize(
    ("url", "severity", "word"),
    [
        ("redis+cluster://127.0.0.1:1", "error", "does not answer"),
        ("redis://:pa/ss@127.0.0.1:1", "error", "cannot be read"),
    ],
)
def test_a_redis_that_cannot_be_asked_is_a_finding_without_its_password(
    topic: str, monkeypatch: pytest.MonkeyPatch, url: str, severity: str, word: str
) -> None:
    monkeypatch.setenv("HEADRACE_REDIS_URL", url)
    code, found = examined()
    assert (code, found["redis"][0]["severity"], word in found["redis"][0]["found"]) == (1, severity, True), topic
    assert "ss@" not in str(found)


def test_a_cluster_that_is_away_is_waited_for_by_a_worker() -> None:
    with capture_logs() as logs:
        log_redis_warnings("redis+cluster://127.0.0.1:1")
    assert logs == []


@pytest.mark.usefixtures("topic")
def test_a_server_that_does_not_answer_is_a_finding_and_the_other_checks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_REDIS_URL", "redis://127.0.0.1:1")
    code, found = examined()
    assert code == 1
    assert found["redis"][0]["severity"] == "error"
    assert found["event"][0]["severity"] == "ok"


def test_definitions_that_do_not_load_are_a_finding(topic: str, namespace: str, tmp_path: Path) -> None:
    (tmp_path / f"{namespace}.py").write_text("raise RuntimeError('boom')")
    code, found = examined()
    assert (code, next(iter(found))) == (1, "project"), topic
    assert {"redis", "event"} <= found.keys()
    assert "boom" in found["project"][0]["found"]
