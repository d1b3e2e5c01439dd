"""Whatever bytes come, no reader of a topic ends: it leaves out what it cannot read, and the rest counts as ever."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from structlog.testing import capture_logs

from headrace.bus import check_report, heartbeats, worker_report
from headrace.bus.check_report import CheckReport
from headrace.bus.control import FlushRequest, Tick, decode_control
from headrace.bus.event_reader import EventReader
from headrace.bus.heartbeats import TrainerHeartbeat
from headrace.bus.unreadable_records import KafkaPlace, UnreadableRecords, readable
from headrace.bus.worker_report import PartitionReport, WorkerReport
from headrace.errors import CodecError
from headrace.models import manifest, model_events, training_manifest
from headrace.models.model_event_log import FoldedEvents, MemoryModelEventLog
from headrace.models.model_events import Acknowledgement, ModelEvent, ModelEventRecord
from headrace.models.model_state import ModelState, fold
from headrace.streams.dead_letters import replay
from headrace.streams.dead_letters.replay import DeadLettersReplayed
from headrace.streams.deployments import deployment
from headrace.streams.deployments.deployment import Deployed, Deployment, advance
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.trainers.data import exclusions
from headrace.trainers.data.exclusions import Excluded, Included
from headrace.trainers.runs import messages
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded
from headrace.trainers.triggers.trigger_state import Baseline, TriggerState
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.crash.definitions import payments
from tests.support.example_budget import examples
from tests.support.model_events import published, rolled_back
from tests.support.rollout_scene import NEW, OLD, TOPICS, Scene, service

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "hunter2-hunter2"
EVENT = published("a", 1, expects=None)
STATE = TriggerState(baseline=Baseline(run="r", outcome="refused", t_us=5, matured_labels=3))
DEPLOYED = Deployed(id="d", namespace="here", expects=None, views=[OLD.spec], services=[service(OLD)], at_us=7)
READERS: dict[str, tuple[Callable[[bytes | None], Any], bytes]] = {
    "control": (decode_control, msgspec.json.encode(Tick(5))),
    "flushes": (decode_control, msgspec.json.encode(FlushRequest("why"))),
    "observations": (
        worker_report.decode,
        WorkerReport("w", 5, [PartitionReport("t", "ab-0", 1, 1, 5, 0, {})]).encode(),
    ),
    "heartbeats": (
        heartbeats.decode,
        heartbeats.encode(
            TrainerHeartbeat(process="p", release="1", started_us=1, observed_us=5, every_us=5, models=["m"])
        ),
    ),
    "findings": (
        check_report.decode,
        check_report.encode(
            CheckReport(check="audit", subject="m", at_us=5, by="w", numbers={"checked": 7.0}, findings=[])
        ),
    ),
    "decisions": (
        lambda data: messages.decode(data, DecisionRecord),
        msgspec.json.encode(DecisionRecord(model="m", kind="finished", t_us=5, reason="no", state=STATE, run="r")),
    ),
    "retrain-requests": (
        lambda data: messages.decode(data, RetrainRequest),
        msgspec.json.encode(
            RetrainRequest(request_id="m-1", model="m", rule="volume", reason="enough", t_us=5, matured_labels=7)
        ),
    ),
    "runs": (
        lambda data: messages.decode(data, RunEnded),
        msgspec.json.encode(
            RunEnded(request_id="m", model="m", outcome="failed", reason="", rule="", t_us=5, matured_labels=7)
        ),
    ),
    "exclusions": (
        exclusions.decode,
        msgspec.json.encode(Excluded(id="x", model=None, from_us=1, to_us=2, reason="r", at_us=3)),
    ),
    "inclusions": (exclusions.decode, msgspec.json.encode(Included(id="x", reason="r", at_us=3))),
    "definitions": (deployment.decode, deployment.encode(DEPLOYED)),
    "replays": (replay.decode, msgspec.json.encode(DeadLettersReplayed(topic="t", letters=["ab-0-7"], at_us=5))),
    "model-acks": (
        model_events.decode_acknowledgement,
        msgspec.json.encode(Acknowledgement(application="web", model="m", version=2, event_id="b", ok=True, at_us=5)),
    ),
    "models": (
        lambda data: model_events.decode(ModelEventRecord(b"m", model_events.encode(EVENT).headers, data or b"")),
        model_events.encode(published("a", 1, expects=None)).value,
    ),
    "manifests": (lambda data: manifest.decode(data or b""), b'{"format":1}'),
    "training manifests": (lambda data: training_manifest.decode(data or b""), b'{"format":1}'),
    "a stream": (EventReader(payments("t")).read, b'{"user":"a","cents":1,"at":"2020-01-01T00:00:00Z"}'),
    "vectors": (EventReader(VECTORS).read, b'{"vector_id":"v"}'),
    "predictions": (EventReader(PREDICTIONS).read, b'{"prediction_id":"v"}'),
}
nested = st.builds(
    lambda before, depth, mark: before + mark * depth,
    st.sampled_from([b"", b'{"format":', b'{"id":"x","views":[', b'{"q":', b'{"gate":', b'{"at":']),
    st.sampled_from([1, 900, 1_100, 100_000]),
    st.sampled_from([b"[", b'{"a":', b'[{"a":']),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed(draw: st.DrawFn, good: bytes) -> bytes:
    """A message of which one part is another one, or whose bytes are damaged."""
    if draw(st.booleans()):
        at = draw(st.integers(0, len(good)))
        return good[:at] + draw(st.binary(max_size=4)) + good[at + draw(st.integers(0, 4)) :]
    plain = msgspec.json.decode(good)
    plain[draw(st.sampled_from([*plain, "type", "format"]))] = draw(json_values | st.just(SECRET))
    return msgspec.json.encode(plain)


def poison(good: bytes) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=40) | nested | json_values.map(msgspec.json.encode) | changed(good)


@dataclass(frozen=True)
class Record:
    data: bytes
    at: int

    def value(self) -> bytes:
        return self.data

    def topic(self) -> str:
        return "headrace.some"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_a_reader_gives_a_message_or_one_kind_of_error(name: str, data: st.DataObject) -> None:
    decode, good = READERS[name]
    raw = data.draw(st.none() | poison(good))
    try:
        found = decode(raw)
    except CodecError:
        return
    assert raw is not None
    assert isinstance(found, msgspec.Struct)


@pytest.mark.parametrize("name", [name for name in READERS if "manifest" not in name])
@settings(max_examples=examples(50), deadline=None)
@given(data=st.data())
def test_readable_records_come_in_order_and_the_rest_is_named_once_without_its_content(
    name: str, data: st.DataObject
) -> None:
    decode, good = READERS[name]
    raw = data.draw(st.lists(poison(good) | st.just(good), max_size=8))
    wanted, bad = [], []
    for offset, each in enumerate(raw):
        try:
            wanted.append(decode(each))
        except CodecError:
            bad.append(offset)
    unreadable, records = UnreadableRecords(), [Record(each, at) for at, each in enumerate(raw)]
    with capture_logs() as logs:
        for _ in range(3):
            assert list(readable(records, lambda record: decode(record.value()), unreadable)) == wanted
    assert [(entry["topic"], entry["partition"], entry["offset"]) for entry in logs] == [
        ("headrace.some", 0, offset) for offset in bad
    ]
    assert unreadable.counts() == ({"headrace.some": len(bad)} if bad else {})
    assert SECRET not in str(logs)
    assert all(0 < len(entry["reason"]) <= 201 for entry in logs)


def test_a_flood_is_counted_and_not_logged_line_by_line() -> None:
    unreadable, error = UnreadableRecords(), CodecError("no")
    with capture_logs() as logs:
        for offset in range(5_000):
            unreadable.skip(KafkaPlace("t", 0, offset), error)
    assert unreadable.counts() == {"t": 5_000}
    assert len(logs) == 20 + len([32, 64, 128, 256, 512, 1_024, 2_048, 4_096])


headers = st.dictionaries(
    st.sampled_from([*model_events.encode(EVENT).headers, "ce_data", "ce_", "traceparent"]) | st.text(max_size=8),
    st.binary(max_size=12) | st.sampled_from([*model_events.encode(EVENT).headers.values(), b"9999-12-31T23:59:59Z"]),
    max_size=9,
)


@settings(max_examples=examples(300), deadline=None)
@given(
    key=st.binary(max_size=5) | st.just(b"m"),
    more=headers,
    gone=st.sets(st.sampled_from([*model_events.encode(EVENT).headers])),
    value=poison(model_events.encode(EVENT).value) | st.just(model_events.encode(EVENT).value),
)
def test_any_key_headers_and_value_are_a_model_event_or_one_kind_of_error(
    key: bytes, more: dict[str, bytes], gone: set[str], value: bytes
) -> None:
    own = {name: text for name, text in model_events.encode(EVENT).headers.items() if name not in gone}
    try:
        found = model_events.decode(ModelEventRecord(key, own | more, value))
    except CodecError:
        return
    assert isinstance(found, ModelEvent)
    assert found.model.encode() == key


class Message:
    """A record whose headers confluent-kafka cannot turn into text, or that has none."""

    def __init__(self, named: Any) -> None:
        self._named = named

    def headers(self) -> Any:
        if isinstance(self._named, Exception):
            raise self._named
        return self._named

    def set_headers(self, headers: Any) -> None:
        self._named = headers

    def key(self) -> None: ...

    value = key


@pytest.mark.parametrize(
    "named",
    [None, [], [("ce_id", None)], UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), SystemError("no")],
)
def test_headers_that_cannot_be_had_are_an_error_of_the_record(named: Any) -> None:
    message: Any = Message(named)
    for _ in range(2):
        with pytest.raises(CodecError):
            model_events.decode_message(message)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.binary(max_size=30) | nested | json_values.map(msgspec.json.encode), min_size=1, max_size=12))
def test_a_worker_judges_any_bytes(values: list[bytes]) -> None:
    numbers = np.arange(len(values), dtype=np.int64)
    records = PartitionRecords(numbers, numbers, [b"\xff"] * len(values), values)
    rows = RecordJudge(VECTORS).rows(b"t" * 16, 0, records, 0)
    assert rows["__offset"].to_list() == list(range(len(values)))
    assert set(rows["__verdict"]) == {"rejected"}
    assert rows["__value"].to_list() == values


class Mixed(RuleBasedStateMachine):
    """One log of both control topics, with and without poison among the good messages: both lead to the same state."""

    def __init__(self) -> None:
        super().__init__()
        self.clean, self.mixed = Scene(), Scene()
        self.workers = [scene.worker(OLD) for scene in (self.clean, self.mixed)]
        self.models, self.events = MemoryModelEventLog(), list[ModelEvent]()
        self.folded, self.ids = FoldedEvents(self.models), itertools.count()
        self.changes, self.good = list[bytes](), list[bytes]()

    @rule(data=st.data(), topic=st.sampled_from([TOPICS.definitions, TOPICS.models]))
    def poison(self, data: st.DataObject, topic: str) -> None:
        good = deployment.encode(DEPLOYED) if topic == TOPICS.definitions else model_events.encode(EVENT).value
        raw = data.draw(poison(good))
        self.mixed.log.put(topic, data.draw(st.none() | st.binary(max_size=3)), raw, [("ce_id", b"\xff")])
        self.models.append_record(ModelEventRecord(b"m", {}, raw))
        self.changes.append(raw[:-1])

    @rule(view=st.sampled_from([OLD, NEW]), expects=st.sampled_from(["current", "another"]))
    def deploy(self, view: Any, expects: str) -> None:
        for scene, worker in zip((self.clean, self.mixed), self.workers, strict=True):
            scene.deploy(worker.deployment.id if expects == "current" else expects, view)

    @rule(version=st.integers(1, 3), back=st.booleans())
    def model_event(self, version: int, back: bool) -> None:
        id_ = f"e{next(self.ids)}"
        live = fold(self.events).live_id
        event = rolled_back(id_, version) if back else published(id_, version, expects=live, request_id=id_)
        self.events.append(event)
        self.models.append(event)
        for scene in (self.clean, self.mixed):
            scene.log.model_event(event)

    @rule(id_=st.sampled_from("abc"), back=st.booleans())
    def exclude(self, id_: str, back: bool) -> None:
        change: Any = Included(id=id_, reason="r", at_us=1)
        if not back:
            change = Excluded(id=id_, model=None, from_us=1, to_us=2, reason="r", at_us=1)
        self.changes.append(msgspec.json.encode(change))
        self.good.append(self.changes[-1])

    @invariant()
    def every_fold_is_that_of_the_good_messages(self) -> None:
        clean, mixed = ({spec.versioned_name for spec in worker.step()} for worker in self.workers)
        assert clean == mixed
        one, other = (worker.deployment for worker in self.workers)
        assert (one.number, one.id, one.retired) == (other.number, other.id, other.retired)
        assert self.workers[0]._models == self.workers[1]._models
        assert self.folded.state("delay") == fold(self.events)
        records = [Record(raw, at) for at, raw in enumerate(self.changes)]
        found = readable(records, lambda record: exclusions.decode(record.value()), UnreadableRecords())
        assert exclusions.fold(found) == exclusions.fold(map(exclusions.decode, self.good))


TestMixed = pytest.mark.filterwarnings("default")(Mixed.TestCase)
TestMixed.settings = settings(max_examples=examples(40), stateful_step_count=20, deadline=None)


def test_a_view_that_no_worker_could_fold_is_no_deployment() -> None:
    good = msgspec.json.decode(deployment.encode(DEPLOYED))
    assert advance(Deployment(), deployment.decode(msgspec.json.encode(good))).number == 1
    view, feature = good["views"][0], {"name": "n", "aggregate": "sum", "where": None}
    changes: list[dict[str, Any]] = [
        {"windows": []},
        {"windows": [{"name": "1h", "length_us": 60, "tile_us": 0}]},
        {"features": [feature | {"value": ["col", "nowhere"]}]},
        {"features": [feature | {"value": ["no such step"]}]},
        {"where": ["col", "nowhere"]},
        {"entity": {"name": "user", "keys": [["nobody", "str"]]}},
        {"source": view["source"] | {"event_time": "never"}},
    ]
    for change in changes:
        with pytest.raises(CodecError, match="view 'user' of a deployment cannot be folded"):
            deployment.decode(msgspec.json.encode(good | {"views": [view | change]}))


def test_a_time_that_no_clock_can_show_is_no_message() -> None:
    for t_us in (2**62, -(2**62), 2**64, 10**30):
        raw = msgspec.json.encode({"type": "tick", "t_us": 0}).replace(b":0", f":{t_us}".encode())
        with pytest.raises(CodecError):
            decode_control(raw)
    assert ModelState() == fold([])
