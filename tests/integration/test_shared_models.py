"""Several trainers share the models of a namespace by the partitions of the retrain requests."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.app import operators
from headrace.bus.control_topics import ControlTopics
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer, ProducerRecord
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics, grow_topic, incarnations
from headrace.trainers.process.owned_partitions import OwnedPartitions, partition_of
from headrace.trainers.process.runner_loop import RunnerLoop
from headrace.trainers.process.trainer import SHARES, RegistryPlace, Trainer, TrainerConfig, make_topics
from headrace.trainers.runs.messages import RetrainRequest, RunEnded
from tests.support.orders_model import Shop, day, model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from confluent_kafka import Message

pytestmark = pytest.mark.integration
MODELS = [f"model-{number}" for number in range(40)]
OTHER = """
import sys
from headrace.trainers.process.runner_loop import RunnerLoop
RunnerLoop(sys.argv[1], sys.argv[2], dict, print).run()
"""


def until(done: Callable[[], bool], most_s: float = 60.0) -> float:
    """Wait until something has happened, and return the seconds that it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() < began + most_s, "it does not happen"
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_models_partition_is_the_one_that_the_client_chooses(services: Any, namespace: str) -> None:
    servers, places = services.bootstrap_servers, dict[str, int | None]()

    def note(name: str, message: Message) -> None:
        places[name] = message.partition()

    ensure_topics(servers, [TopicPlan(namespace, SHARES)])
    producer = EventProducer(servers)
    for name in MODELS:
        record = ProducerRecord(namespace, name.encode(), b"x", {}, partial(note, name))
        producer._accept(record)
    producer.flush()
    assert places == {name: partition_of(name, SHARES) for name in MODELS}


def test_the_topic_of_an_older_deployment_grows(services: Any, namespace: str) -> None:
    servers, topic = services.bootstrap_servers, ControlTopics(namespace).retrain_requests
    ensure_topics(servers, [TopicPlan(topic, 1, FOR_EVER)])
    for _ in range(2):
        make_topics(servers, ControlTopics(namespace))
    # a broker's metadata follow a moment later
    until(lambda: incarnations(admin(servers), [topic])[topic].partitions == SHARES, 30)
    grow_topic(servers, topic, 2)
    assert incarnations(admin(servers), [topic])[topic].partitions == SHARES


def test_a_model_that_comes_in_the_middle_of_a_tick_is_evaluated_after_its_decisions_were_read(
    services: Any, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers, topics = services.bootstrap_servers, ControlTopics(namespace)
    make_topics(servers, topics)
    Shop(tmp_path)
    place = RegistryPlace("sqlite:///none", tmp_path.as_uri())
    config = TrainerConfig(servers, str(tmp_path / "log"), place, str(tmp_path), namespace=namespace)
    trainer = Trainer(config, [model])
    take_over = trainer._take_over

    def assigned_just_after(heard: Any) -> None:
        take_over(heard)
        trainer.owned.assigned([0], 1)

    monkeypatch.setattr(trainer, "_take_over", assigned_just_after)
    trainer._tick(day(20))
    assert operators.history(servers, topics, model.name) == []
    trainer._tick(day(20) + 60_000_000)
    assert [record.kind for record in operators.history(servers, topics, model.name)] == ["evaluated"]


@pytest.mark.long
def test_a_trainer_takes_the_models_of_another_one_that_was_killed(services: Any, namespace: str) -> None:
    servers, said = services.bootstrap_servers, list[RunEnded]()
    make_topics(servers, ControlTopics(namespace))
    owned, known = OwnedPartitions(), dict[str, RunEnded]()

    def ended(request_id: str) -> RunEnded | None:
        return known.get(request_id)

    loop = RunnerLoop(servers, namespace, dict, said.append, ended=ended, owned=owned)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        until(lambda: all(map(owned.has, MODELS)))
        with subprocess.Popen([sys.executable, "-c", OTHER, servers, namespace]) as other:
            until(lambda: 0 < sum(map(owned.has, MODELS)) < len(MODELS))
            time.sleep(1)
            left = [name for name in MODELS if not owned.has(name)]
            other.send_signal(signal.SIGKILL)
        until(lambda: all(map(owned.has, left)))
        producer = EventProducer(servers)
        for name in left:
            known[name] = RunEnded(
                request_id=name, model=name, outcome="refused", reason="", rule="", t_us=1, matured_labels=1
            )
            asked = RetrainRequest(request_id=name, model=name, rule="", reason="", t_us=1, matured_labels=1)
            topic = ControlTopics(namespace).retrain_requests
            producer.put(topic, name.encode(), msgspec.json.encode(asked))
        producer.flush()
        until(lambda: sorted(run.model for run in said) == sorted(left))
    finally:
        loop.stop()
        thread.join(30)
