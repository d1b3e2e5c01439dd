"""Every Python block of the README runs unchanged, on real Kafka and Valkey."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pytest

import headrace
from features import delay_features
from headrace import Run
from headrace.base.times import utc_datetime
from headrace.bus.control_topics import ControlTopics
from headrace.bus.tail import TopicTail
from headrace.features.definitions.spec import to_document
from headrace.models.kafka_model_event_log import KafkaModelEventLog
from headrace.models.model_events import ModelEvent, ServiceRef, ViewRef
from streams import arrivals, departures, scheduled
from streams.flights import Departure
from tests.support import model_events
from tests.support.documents import blocks
from tests.support.reference_project import ReferenceProject
from trainers.delay import delay, train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration

BLOCKS = [block.text for block in blocks("README.md", "python")]


def run(block: str) -> dict[str, Any]:
    """What the block leaves behind."""
    world: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec", dont_inherit=True), world)
    return world


def the_block(text: str) -> str:
    """The one block that says so."""
    (found,) = (block for block in BLOCKS if text in block)
    return found


@pytest.fixture
def online(services: LocalServices, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServices]:
    """Services where the topics are made and every view of the demo is there, as of a worker that saw no event."""
    with closing(ReferenceProject(services, namespace, monkeypatch)):
        yield services


def test_readme_has_five_blocks_and_each_has_a_test() -> None:
    texts = ("class Departure(Event)", "hr.producer(", "hr.features(", 'hr.predictor("delay")  #', "hr.model_events(")
    assert [the_block(text) for text in texts] == BLOCKS


def test_readme_program_runs() -> None:
    names = {name: getattr(headrace, name) for name in headrace.__all__ if name != "LocalServices"}
    world = names | {"scheduled": scheduled, "arrivals": arrivals, "train": train}
    program = "from datetime import datetime\n" + the_block("class Departure(Event)")
    exec(compile(program, "README.md", "exec", dont_inherit=True), world)
    assert world["delay"].name == "delay"


def test_readme_producer_produces_an_event(online: LocalServices) -> None:
    tail = TopicTail(online.bootstrap_servers, [departures.topic], from_beginning=False)
    run(the_block("hr.producer("))
    found: list[Departure] = []
    until = time.monotonic() + 20
    while not found and time.monotonic() < until:
        found = [msgspec.json.decode(message.value() or b"", type=Departure) for message in tail.poll(0.2)]
    assert [(event.flight_id, event.delay_minutes) for event in found] == [(7, 23.0)]


def test_readme_client_looks_features_up(online: LocalServices) -> None:
    world = run(the_block("hr.features("))
    found = world["found"]
    assert found.columns == delay_features.columns()
    assert found.to_dicts()[0]["airport__departures_1h"] == 0
    assert set(found.statuses()) == set(found.offsets()) == {view.name for view in delay_features.views}


def test_readme_predictor_predicts_and_follows_model_events(
    online: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_ARTIFACT_PLACES", str(tmp_path))
    KafkaModelEventLog(online.bootstrap_servers, ControlTopics(namespace).models).append(version_one(tmp_path))
    world = run(the_block('hr.predictor("delay")  #'))
    assert world["p"].version == world["live"].version == 1
    assert 0.0 < world["p"].value < 1.0
    assert set(world["p"].statuses) == {view.name for view in delay_features.views}
    (*_, last) = run(the_block("hr.model_events("))["seen"]
    assert last == (1, "a test", world["live"].published.artifact.uri)


def version_one(folder: Path) -> ModelEvent:
    """Version 1 of the demo's model, fitted by its own code on noise."""
    columns = [*delay_features.columns(), *delay.request_features]
    noise = np.random.default_rng(0)
    frame = pd.DataFrame(noise.random((200, len(columns))), columns=columns)
    described = Run("delay", "r", 0, utc_datetime(0), utc_datetime(0))
    estimator = train(frame, pd.Series(noise.random(200) > 0.5), described)
    reference = ServiceRef(
        name="delay",
        hash=delay_features.version,
        views=[ViewRef(name=v.name, spec_hash=v.version, keys=list(v.entity.join_keys)) for v in delay_features.views],
        columns=delay_features.columns(),
        request_features=list(delay.request_features),
        key=delay.request_key,
        at=delay.requested_at,
        on_demand=to_document(delay_features.spec)["on_demand"],
    )
    return model_events.version_one("delay", estimator, reference, folder)
