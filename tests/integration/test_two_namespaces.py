"""Two namespaces share Kafka, Redis and the project's streams. They see nothing of each other."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import headrace
from headrace.bus.control_topics import ControlTopics
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics
from headrace.bus.unreadable_records import readable
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.trainers.process.runner_loop import RunnerLoop
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded, decode
from tests.support.crash.project import ProjectScene, project_scene
from tests.support.model_events import published
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


@pytest.fixture
def two(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[tuple[ProjectScene, ProjectScene]]:
    """Two projects with the same streams, views and model, each with a namespace and an event log of its own."""
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    with (
        project_scene(services, f"{namespace}-a", folders[0], prefix=namespace) as one,
        project_scene(services, f"{namespace}-b", folders[1], prefix=namespace) as other,
    ):
        yield one, other


def told(scene: ProjectScene, *command: str) -> str:
    """What a command says, which ends well."""
    done = scene.run(*command)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def decided(servers: str, namespace: str) -> set[str]:
    """The models of which a namespace has decisions."""
    topic = ControlTopics(namespace).decisions
    if topic not in admin(servers).list_topics(timeout=10).topics:
        return set()
    with closing(TopicTail(servers, [topic], from_beginning=True)) as tail:
        return {each.model for each in readable(tail.drain(), lambda record: decode(record.value(), DecisionRecord))}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(600)
def test_decisions_deployments_and_exclusions_stay_in_their_namespace(
    two: tuple[ProjectScene, ProjectScene], services: LocalServices, namespace: str
) -> None:
    one, other = two
    for scene in two:
        scene.start("worker", "--partitions", "1")
    one.start("trainer")
    until(lambda: decided(services.bootstrap_servers, one.name) == {namespace}, 60)
    assert decided(services.bootstrap_servers, other.name) == set()  # its worker reports, and it has no trainer
    one.define(', "cents": Sum("cents")')
    told(one, "apply", "--yes")
    told(other, "plan")  # its own definitions hold: nothing has changed
    told(one, "data", "exclude", "2020-01-01", "2020-01-02", "--reason", "broken")
    assert "broken" in told(one, "data", "exclusions", "--json")
    assert "broken" not in told(other, "data", "exclusions", "--json")
    assert [name for name in told(other, "doctor").split() if name.startswith(f"{one.name}.")] == []


def test_model_events_stay_in_their_namespace(services: LocalServices, namespace: str) -> None:
    servers, names = services.bootstrap_servers, [f"{namespace}-{number}" for number in range(2)]
    for name in names:
        ensure_topic(servers, ControlTopics(name).models)
    with closing(KafkaModelEventLog(servers, ControlTopics(names[0]).models)) as log:
        log.append(published("first", 1, expects=None))
    seen: list[list[str]] = []
    for name in names:
        with headrace.connect(servers, redis_url=services.redis_url, namespace=name) as hr:
            seen.append([event.id for event in hr.model_events()])
    assert seen == [["first"], []]


class Runner:
    """Answers every request at once."""

    def run(self, request: RetrainRequest) -> RunEnded:
        return RunEnded(
            request_id=request.request_id, model=request.model, outcome="refused", reason="", rule="", t_us=0,
            matured_labels=0,
        )  # fmt: skip


def test_a_trainer_answers_the_requests_of_its_own_namespace(services: LocalServices, namespace: str) -> None:
    servers, names = services.bootstrap_servers, [f"{namespace}-{number}" for number in range(2)]
    topics = [ControlTopics(name).retrain_requests for name in names]
    ensure_topics(servers, [TopicPlan(topic, 1, FOR_EVER) for topic in topics])
    producer = EventProducer(servers)
    for name, topic in zip(names, topics, strict=True):
        request = RetrainRequest(request_id=name, model="m", rule="r", reason="", t_us=0, matured_labels=0)
        producer.put(topic, b"m", msgspec.json.encode(request))
    producer.flush()
    answers: list[RunEnded] = []
    runners: Any = lambda: {"m": Runner()}  # noqa: E731
    loop = RunnerLoop(servers, names[1], runners, answers.append)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        until(lambda: bool(answers), 30)
    finally:
        loop.stop()
        thread.join()
    assert [answer.request_id for answer in answers] == names[1:]
