"""`headrace doctor` on a real Kafka: runs that have not ended, and applications without the version they want."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from headrace.app.doctor import learning
from headrace.base.times import wall_clock
from headrace.bus.control_topics import ControlTopics
from headrace.bus.producer import EventProducer
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics
from headrace.models.kafka_model_event_log import KafkaAcknowledgements
from headrace.models.model_events import Acknowledgement
from headrace.trainers.process.runner_loop import RunnerLoop
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded
from headrace.trainers.triggers.trigger_state import TriggerState
from tests.support.waiting import until

if TYPE_CHECKING:
    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration


class Waiting:
    """A runner whose run lasts until it is told to end."""

    def __init__(self) -> None:
        self.began, self.ends = threading.Event(), threading.Event()

    def run(self, request: RetrainRequest) -> RunEnded:
        self.began.set()
        self.ends.wait(60)
        return RunEnded(request_id=request.request_id, model=request.model, outcome="refused", reason="", rule="",
                        t_us=0, matured_labels=0)  # fmt: skip


def ask(servers: str, topics: ControlTopics, model: str) -> None:
    """Ask for a run of a model."""
    request = RetrainRequest(request_id=f"{model}-1", model=model, rule="r", reason="", t_us=0, matured_labels=0)
    producer = EventProducer(servers)
    producer.put(topics.retrain_requests, model.encode(), msgspec.json.encode(request))
    producer.flush()


def test_an_open_run_is_named_with_the_trainer_that_has_it(services: LocalServices, namespace: str) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    names = (topics.retrain_requests, topics.runs)
    ensure_topics(servers, [TopicPlan(name, 3, FOR_EVER) for name in names])

    def found() -> list[tuple[str, str]]:
        each = list(learning.examine(servers, topics, {"left", "m"}, wall_clock()))
        return [(finding.severity.value, finding.found) for finding in each]

    assert found() == []
    for model in ("gone", "left", "m"):
        ask(servers, topics, model)
    assert [(severity, "no trainer takes requests" in text) for severity, text in found()] == [("warning", True)] * 2
    runner, producer = Waiting(), EventProducer(servers)

    def answer(ended: RunEnded) -> None:
        producer.put(topics.runs, b"m", msgspec.json.encode(ended))
        producer.flush()

    loop = RunnerLoop(servers, namespace, lambda: cast("Any", {"m": runner}), answer)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        assert runner.began.wait(30)
        until(lambda: [severity for severity, _ in found()] == ["warning", "ok"], 30, found)
        (_, left), (_, running) = found()
        assert "a trainer left it out" in left
        assert f"it is with trainer {namespace}-trainer-{socket.gethostname()}-{os.getpid()} at 127.0.0.1" in running
        runner.ends.set()
        until(lambda: len(found()) == 1, 30, found)
    finally:
        runner.ends.set()
        loop.stop()
        thread.join()


def test_an_application_that_could_not_load_a_version_is_named(services: LocalServices, namespace: str) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    ensure_topics(servers, [TopicPlan(topics.model_acks, 1, FOR_EVER)])
    answer = Acknowledgement(
        application="web", model="m", version=3, event_id="e", ok=False, reason="no such file", at_us=5
    )
    KafkaAcknowledgements(servers, topics.model_acks).send(answer)
    (found,) = learning.examine(servers, topics, None, wall_clock())
    assert (found.subject, "version 3 of model m" in found.found) == ("application web", True)
    assert list(learning.examine(servers, topics, {"other"}, wall_clock())) == []


def test_a_model_whose_last_decision_is_an_error_is_named(services: LocalServices, namespace: str) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    ensure_topics(servers, [TopicPlan(topics.decisions, 1, FOR_EVER)])
    producer = EventProducer(servers)
    for name, kind in (("m", "error"), ("n", "error"), ("n", "reset"), ("other", "error")):
        record = DecisionRecord(
            model=name, kind=cast("Any", kind), t_us=9, reason="ValueError: no", state=TriggerState()
        )
        producer.put(topics.decisions, name.encode(), msgspec.json.encode(record))
    producer.flush()
    (found,) = learning.examine(servers, topics, {"m", "n"}, wall_clock())
    assert (found.subject, found.severity.value, "ValueError: no" in found.found) == ("model m", "error", True)
