"""Every client of headrace on a Kafka that lets in only whom it knows."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from headrace.bus import kafka_clients
from headrace.bus.kafka_servers import KafkaServers
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.errors import BusUnavailableError
from headrace.event_log.event_log import EventLog
from headrace.serving.features import FeatureClient
from tests.support.crash.project import project_scene
from tests.support.secured_kafka import MECHANISMS, SecuredKafka
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One broker for all tests of this file."""
    running = SecuredKafka(tmp_path_factory.mktemp("secured") / "kafka")
    running.start()
    yield running
    running.stop()


def goes_through(servers: KafkaServers, topic: str) -> None:
    """A record is produced and read."""
    ensure_topics(servers, [TopicPlan(topic, 1)])
    producer = EventProducer(servers)
    producer.put(topic, None, b"hello")
    producer.flush()
    with closing(TopicTail(servers, [topic], from_beginning=True)) as tail:
        assert [record.value() for record in tail.drain()] == [b"hello"]


@pytest.mark.parametrize("mechanism", MECHANISMS[:3])
def test_a_client_with_a_password_is_let_in(kafka: SecuredKafka, namespace: str, mechanism: str) -> None:
    goes_through(KafkaServers(kafka.sasl, kafka.by_password(mechanism)), namespace)


def test_a_client_with_a_certificate_is_let_in(kafka: SecuredKafka, namespace: str) -> None:
    goes_through(KafkaServers(kafka.mtls, kafka.by_certificate()), namespace)


def test_a_client_with_a_token_of_the_users_function_is_let_in(kafka: SecuredKafka, namespace: str) -> None:
    properties = {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": str(kafka.ca),
        "sasl.mechanism": "OAUTHBEARER",
        "oauth": "tests.support.secured_kafka:token",
    }
    goes_through(KafkaServers(kafka.sasl, properties), namespace)


def test_a_wrong_password_is_told_in_the_error(kafka: SecuredKafka, namespace: str) -> None:
    servers = KafkaServers(kafka.sasl, kafka.by_password(password="wrong"))
    with pytest.raises(BusUnavailableError, match="Authentication failed") as raised:
        ensure_topics(servers, [TopicPlan(namespace, 1)], timeout_s=3)
    assert "wrong" not in str(raised.value)


def test_a_client_without_a_certificate_is_told_so(kafka: SecuredKafka, namespace: str) -> None:
    servers = KafkaServers(kafka.mtls, {"security.protocol": "SSL", "ssl.ca.location": str(kafka.ca)})
    with pytest.raises(BusUnavailableError, match=r"(?i)ssl|certificate"):
        ensure_topics(servers, [TopicPlan(namespace, 1)], timeout_s=3)


def test_an_authority_that_is_not_known_is_told_so(kafka: SecuredKafka, namespace: str) -> None:
    properties = kafka.by_password()
    del properties["ssl.ca.location"]
    with pytest.raises(BusUnavailableError, match=r"(?i)certificate verify failed"):
        ensure_topics(KafkaServers(kafka.sasl, properties), [TopicPlan(namespace, 1)], timeout_s=3)


def test_an_open_client_is_told_that_the_listener_wants_more(kafka: SecuredKafka, namespace: str) -> None:
    with pytest.raises(BusUnavailableError, match=r"security\.protocol"):
        ensure_topics(kafka.sasl, [TopicPlan(namespace, 1)], timeout_s=15)


def test_a_refusal_is_known_for_a_minute(kafka: SecuredKafka) -> None:
    servers = KafkaServers(kafka.sasl, kafka.by_password(password="wrong"))
    client = kafka_clients.admin(servers)
    until(lambda: "Authentication failed" in kafka_clients.refusal_of(client), 30)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("listener", ["open", "password", "certificate"])
def test_killed_workers_count_each_event_once_on_every_listener(
    kafka: SecuredKafka, services: LocalServices, namespace: str, tmp_path: Path, listener: str
) -> None:
    servers = {
        "open": KafkaServers(kafka.bootstrap_servers),
        "password": KafkaServers(kafka.sasl, kafka.by_password()),
        "certificate": KafkaServers(kafka.mtls, kafka.by_certificate()),
    }[listener]
    users, kills, sent = [f"u{n}" for n in range(5)], 2, 0
    with project_scene(services, namespace, tmp_path) as scene:
        for killed in range(kills + 1):
            worker = scene.start("worker", "--partitions", "2", **variables(servers))
            sent += produce(servers, f"{namespace}.payments", users)
            if killed < kills:
                until(lambda: worker.metric("headrace_batch_records_count") > 0, 60, worker.output.read_text)  # noqa: B023
                worker.kill()
        log = EventLog(tmp_path / ".headrace" / "events")
        until(lambda: log.read(f"{namespace}.payments").height >= sent, 60, worker.output.read_text)
        with closing(FeatureClient.from_url(services.redis_url, namespace)) as client:
            until(lambda: counted(client, users) == [sent / len(users)] * len(users), 30)
        rows = log.read(f"{namespace}.payments").select("__partition", "__offset")
        assert rows.height == rows.unique().height == sent


def variables(servers: KafkaServers) -> dict[str, str]:
    """What a command has in its environment."""
    named = {f"HEADRACE_KAFKA__{name.upper().replace('.', '_')}": value for name, value in servers.properties.items()}
    return {"HEADRACE_BOOTSTRAP_SERVERS": str(servers), **named}


def produce(servers: KafkaServers, topic: str, users: list[str], each: int = 40) -> int:
    """Some payments of each user. Return how many."""
    producer = EventProducer(servers)
    for number in range(each * len(users)):
        user, at = users[number % len(users)], datetime.now(UTC).isoformat()
        producer.put(topic, user.encode(), json.dumps({"payment_id": 1, "user": user, "cents": 5, "at": at}).encode())
    producer.flush()
    return each * len(users)


def counted(client: FeatureClient, users: list[str]) -> list[float]:
    """How often each of them paid."""
    return [row["user__n_1h"] for row in client.get("risk", [{"user": user} for user in users]).to_dicts()]
