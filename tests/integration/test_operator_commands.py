"""`headrace train`, `triggers` and `runs` on real Kafka, with a trainer that answers."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from confluent_kafka import Producer
from msgspec import UNSET
from typer.testing import CliRunner

from headrace.app import operators
from headrace.app.cli import build
from headrace.bus.control_topics import ControlTopics
from headrace.bus.producer import EventProducer
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics
from headrace.bus.worker_report import PartitionReport, WorkerReport
from headrace.errors import HeadraceError, TerminalError, UnavailableError
from headrace.trainers.process.last_decisions import last_decisions
from headrace.trainers.process.trainer import RegistryPlace, Trainer, TrainerConfig, make_topics
from headrace.trainers.runs.messages import DecisionRecord, RunEnded
from headrace.trainers.runs.operator_requests import OperatorRequest
from headrace.trainers.triggers.trigger_state import TriggerState
from tests.support.orders_model import TOML, Shop, day, model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration
run = CliRunner()


@pytest.fixture
def servers(services: Any, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kafka's address, which the commands find in their environment, with the project of the model."""
    (tmp_path / "headrace.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    monkeypatch.setenv("HEADRACE_NAMESPACE", namespace)
    make_topics(services.bootstrap_servers, ControlTopics(namespace))
    return str(services.bootstrap_servers)


@pytest.fixture
def trainer(servers: str, namespace: str, tmp_path: Path) -> Iterator[Trainer]:
    """The deciding half of a trainer. It answers operators every moment, as of day 40."""
    Shop(tmp_path)
    place = RegistryPlace("sqlite:///none", tmp_path.as_uri())
    config = TrainerConfig(servers, str(tmp_path / "log"), place, str(tmp_path), namespace=namespace)
    found, stopping = Trainer(config, [model]), threading.Event()
    found.owned.assigned([0], 1)

    def answer() -> None:
        number = 0
        while not stopping.wait(0.1):
            number += 1
            found._tick(day(20) + number * 60_000_000)

    thread = threading.Thread(target=answer)
    thread.start()
    yield found
    stopping.set()
    thread.join(30)


def said(*arguments: str, code: int = 0) -> Any:
    found = run.invoke(build(), [*arguments, "--json"])
    assert found.exit_code == code, found.output
    printed = re.search(r"^[\[{]\n.*^[\]}]$", found.stdout, re.DOTALL | re.MULTILINE)  # the trainer's log is there too
    assert printed is not None, found.output
    return json.loads(printed[0])


def test_an_operator_asks_looks_and_resets(trainer: Trainer, servers: str, namespace: str) -> None:
    refused = said("train", model.name, "--reason", "new prices", "--by", "ann", code=1)  # the first run is asked for
    assert refused["reason"].startswith("asked by ann: new prices, but run returns-")
    (listed,) = said("runs", "list")
    assert (listed["cause"], listed["outcome"]) == ("first", "not ended")
    ended = RunEnded(
        request_id=listed["id"],
        model=model.name,
        outcome="refused",
        reason="no",
        rule="first",
        t_us=day(20),
        matured_labels=2_900,
    )
    producer = EventProducer(servers)
    producer.put(ControlTopics(namespace).runs, model.name.encode(), msgspec.json.encode(ended))
    producer.flush()
    assert said("runs", "show", listed["id"])["result"] == "no"
    asked = said("train", model.name, "--reason", "new prices", "--by", "ann")
    assert asked["request"] != listed["id"]
    found = said("triggers", "explain", model.name)
    assert found["state"]["open_run"] == asked["request"]
    (row,) = said("triggers", "list")
    assert row["model"] == model.name
    assert said("triggers", "reset", model.name, "--reason", "again")["reason"].endswith(": again")
    replayed = said("triggers", "replay", model.name)
    assert replayed["decisions"] >= 3
    assert replayed["differences"] == []
    assert run.invoke(build(), ["runs", "list"]).stdout.count(model.name) >= 2
    assert trainer is not None


def test_a_request_that_no_trainer_answers_is_kept(servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.app.operators.ANSWER_S", 0.5)
    with pytest.raises(UnavailableError, match="it is kept, and the next trainer answers it"):
        run.invoke(build(), ["train", model.name, "--reason", "x"], catch_exceptions=False)
    with pytest.raises(TerminalError, match="--reason is empty"):
        run.invoke(build(), ["train", model.name, "--reason", " "], catch_exceptions=False)
    with pytest.raises(TerminalError, match="has no model 'other'"):
        run.invoke(build(), ["train", "other", "--reason", "x"], catch_exceptions=False)
    with pytest.raises(TerminalError, match="no run has the id 'x'"):
        run.invoke(build(), ["runs", "cancel", "x", "--reason", "x"], catch_exceptions=False)


def test_the_last_decision_of_each_model_is_read_from_the_end(services: Any, namespace: str) -> None:
    servers, topic = services.bootstrap_servers, f"{namespace}.decisions"
    ensure_topics(servers, [TopicPlan(topic, 1, FOR_EVER)])
    assert last_decisions(servers, topic, ["a"]) == {}
    producer = EventProducer(servers)
    for number in range(30_000):
        name = "rare" if number == 500 else "bad" if number == 7_000 else f"m{number % 7}"
        record = DecisionRecord(model=name, kind="finished", t_us=number, reason="", state=TriggerState())
        producer.put(topic, name.encode(), b"?" if name == "bad" else msgspec.json.encode(record))
    producer.flush()
    wanted = ["m0", "m6", "rare", "new"]
    found = last_decisions(servers, topic, wanted, [])
    assert found == last_decisions(servers, topic, wanted)
    assert {name: record.t_us for name, record in found.items()} == {"m0": 29_995, "m6": 29_994, "rare": 500}


def test_a_request_is_not_answered_again_by_the_next_trainer_however_old_its_answer_is(
    servers: str, namespace: str, tmp_path: Path
) -> None:
    Shop(tmp_path)
    topics, now_ms, day_ms = ControlTopics(namespace), int(time.time() * 1e3), 86_400_000
    producer = Producer({"bootstrap.servers": servers})

    def put(topic: str, message: Any, days: int) -> None:
        producer.produce(topic, msgspec.json.encode(message), b"", timestamp=now_ms - days * day_ms)

    asked = OperatorRequest(
        id="old", model=model.name, action="train", by="ann", reason="new prices", at_us=0, lift_pin=True
    )
    put(topics.operator_requests, asked, 9)
    heard = TriggerState(heard=(now_ms - 9 * day_ms, 0))
    answer = DecisionRecord(model=model.name, kind="asked", t_us=day(1), reason="", state=heard, operator=asked)
    put(topics.decisions, answer, 9)
    other = DecisionRecord(model="other", kind="finished", t_us=day(1), reason="", state=TriggerState())
    for days in range(8, -1, -1):
        for _ in range(200):
            put(topics.decisions, other, days)
    assert producer.flush(30) == 0
    assert last_decisions(servers, topics.decisions, [model.name], []) == {}
    place = RegistryPlace("sqlite:///none", tmp_path.as_uri())
    config = TrainerConfig(servers, str(tmp_path / "log"), place, str(tmp_path), namespace=namespace)
    for _ in range(2):  # at the start, and after a handover
        trainer = Trainer(config, [model])
        trainer.owned.assigned([0], 1)
        trainer._tick(day(3))
    assert [each.kind for each in operators.history(servers, topics, model.name)] == ["asked", "evaluated"]


def test_a_cancel_is_heard_by_a_trainer_that_has_not_ticked_yet(servers: str, namespace: str, tmp_path: Path) -> None:
    Shop(tmp_path)
    asked = OperatorRequest(
        id="c", model=model.name, action="cancel", by="ann", reason="bad day", at_us=0, request_id="r-1"
    )
    operators.send(servers, ControlTopics(namespace), asked)
    place = RegistryPlace("sqlite:///none", tmp_path.as_uri())
    config = TrainerConfig(servers, str(tmp_path / "log"), place, str(tmp_path), namespace=namespace)
    assert Trainer(config, [model])._cancelled.why("r-1") == "cancelled by ann: bad day"


def test_a_model_that_nobody_knows_is_named(servers: str) -> None:
    for command in (["runs", "list"], ["predictions", "list"], ["models", "list"], ["audit"], ["skew"]):
        arguments = [*command, "--model", "retruns"]
        if command[0] in {"audit", "skew", "predictions"}:
            arguments += ["--data-dir", "."]
        with pytest.raises(HeadraceError, match="'retruns'"):
            run.invoke(build(), arguments, catch_exceptions=False)
    assert run.invoke(build(), ["runs", "list", "--model", model.name]).stdout.strip() == "no run was asked for yet"
    assert servers


def test_a_request_that_waits_for_the_log_is_answered_at_the_heartbeat_after_it_is_there(
    servers: str, namespace: str, tmp_path: Path
) -> None:
    topics, place = ControlTopics(namespace), RegistryPlace("sqlite:///none", tmp_path.as_uri())
    config = TrainerConfig(
        servers, str(tmp_path / "log"), place, str(tmp_path), namespace=namespace, tick_us=3_600_000_000
    )
    trainer = Trainer(config, [model], clock=lambda: day(20))
    trainer.owned.assigned([0], 1)
    heartbeat = WorkerReport(worker="w", observed_us=day(20), partitions=[])
    asyncio.run(trainer.on_heartbeat(heartbeat))  # a tick; the next one is in an hour
    asked = operators.new_request(model.name, "train", "ann", "new prices")
    operators.send(servers, topics, asked)
    asyncio.run(trainer.on_operator(asked))
    waits = operators.history(servers, topics, model.name)
    assert [(each.kind, each.operator is UNSET) for each in waits] == [("error", True), ("error", False)]
    assert waits[1].reason.startswith("asked by ann: new prices, but not yet: the event log has no table of 'orders'")
    Shop(tmp_path)
    for _ in range(2):  # after the first failure one heartbeat is left out
        asyncio.run(trainer.on_heartbeat(heartbeat))
    assert [each.kind for each in operators.history(servers, topics, model.name)] == ["error", "error", "asked"]
    assert list(operators.requested_runs(servers, topics)) == [
        operators.history(servers, topics, model.name)[-1].state.request
    ]


def test_a_stream_that_stands_still_keeps_no_decision_back(servers: str, namespace: str, tmp_path: Path) -> None:
    topics, place = ControlTopics(namespace), RegistryPlace("sqlite:///none", tmp_path.as_uri())
    config = TrainerConfig(
        servers, str(tmp_path / "log"), place, str(tmp_path), namespace=namespace, tick_us=60_000_000, stream_clock=True
    )
    wall = [day(900)]
    trainer = Trainer(config, [model], clock=lambda: wall[0])
    trainer.owned.assigned([0], 1)
    stands = PartitionReport("orders", "orders-0", 10, 10, day(20), 0, {})
    heartbeat = WorkerReport(worker="w", observed_us=day(900), partitions=[stands])

    def kinds() -> list[str]:
        return [each.kind for each in operators.history(servers, topics, model.name)]

    asyncio.run(trainer.on_heartbeat(heartbeat))
    assert kinds() == ["error"]  # the event log has no table yet
    Shop(tmp_path)
    asyncio.run(trainer.on_heartbeat(heartbeat))
    assert kinds() == ["error"]
    for _ in range(3):
        wall[0] += config.tick_us
        asyncio.run(trainer.on_heartbeat(heartbeat))
    assert kinds() == ["error", "evaluated"]
