"""The answers of triggers to operators: each request gets one, whatever fails, is slow, or is started again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from structlog.testing import capture_logs

from headrace.errors import NotInLogYetError, OfflineStoreUnavailableError
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.trainers.process import trigger_consumer
from headrace.trainers.process.cancelled_runs import CancelledRuns
from headrace.trainers.process.heard_requests import HeardRequest, HeardRequests
from headrace.trainers.process.trigger_consumer import TriggerConsumer, TriggerOptions
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, decode
from headrace.trainers.runs.operator_requests import OperatorAction, OperatorRequest
from headrace.trainers.triggers.evidence import Evidence
from tests.support.control_topics import DECISIONS
from tests.support.orders_model import day, model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MINUTE = 60_000_000
AWAY = OfflineStoreUnavailableError("the disk is away")
BROKEN = ValueError("no such number")


class Log:
    """An event log with a namespace only, which nobody reads."""

    namespace = "headrace"

    def reader(self, *_: object) -> None:
        """None is needed."""


class Scene:
    """Triggers whose labels are counted as ``count`` says, with all that they write."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, patience_s: float = 5.0) -> None:
        self.count: Callable[[], object] = lambda: None
        self.records: list[DecisionRecord] = []
        self.requests: list[RetrainRequest] = []
        self.patience_s = patience_s
        self.heard: list[HeardRequest] = []
        scene = self

        class Counted:
            def __init__(self, *_: object) -> None:
                pass

            def evidence(self, t_us: int, *_: object) -> Evidence:
                scene.count()

                return Evidence(t_us, 1_000)

        monkeypatch.setattr(trigger_consumer, "ModelEvidence", Counted)
        monkeypatch.setattr(trigger_consumer, "short_identity", lambda *_: "")  # it reads the code of the project
        self.start_again()

    def start_again(self) -> None:
        """Another trainer takes over: it has the last record and hears all requests."""
        log: Any = Log()
        self.triggers = TriggerConsumer(
            [model], log, MemoryModelEventLog(), self._send, options=TriggerOptions(patience_s=self.patience_s)
        )
        self.triggers.restore(self.records[-1:], [])
        for each in self.heard:
            self.triggers.hear(each)

    def _send(self, topic: str, _key: bytes, value: bytes) -> None:
        if topic == DECISIONS:
            self.records.append(decode(value, DecisionRecord))
        else:
            self.requests.append(decode(value, RetrainRequest))

    def ask(self, action: OperatorAction = "train", **changes: Any) -> str:
        number = len(self.heard)
        request = OperatorRequest(
            id=f"w{number}", model=model.name, action=action, by="ann", reason="why", at_us=0, **changes
        )
        self.heard.append(HeardRequest(request, (1_000, number)))
        self.triggers.hear(self.heard[-1])
        return request.id

    def told(self, kind: str | None = None) -> list[tuple[str, str]]:
        """The answers to requests: id and reason; of ``kind`` error those that are not answered yet."""
        return [
            (each.operator.id, each.reason)
            for each in self.records
            if each.operator is not UNSET and (each.kind == "error") == (kind == "error")
        ]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_a_request_whose_labels_cannot_be_counted_is_refused_in_words_and_blocks_nothing(scene: Scene) -> None:
    scene.count = failing(BROKEN)
    for action in ("train", "reset", "train"):
        scene.ask(action)
    with capture_logs():  # the traceback that is logged takes seconds
        scene.triggers.answer(day(5))
    why = "asked by ann: why, but the labels cannot be counted: ValueError: no such number"
    assert scene.told() == [("w0", why), ("w1", "reset by ann: why"), ("w2", why)]
    assert scene.requests == []
    assert not scene.triggers.waits()


@pytest.mark.parametrize("error", [AWAY, NotInLogYetError("no column 'x' yet")])
def test_a_request_waits_for_a_log_that_is_away_and_a_reset_does_not(scene: Scene, error: Exception) -> None:
    scene.count = failing(error)
    scene.ask()
    scene.ask("reset")
    scene.ask()
    for minute in range(5):
        scene.triggers.answer(day(5) + minute * MINUTE)
    assert scene.told() == [("w1", "reset by ann: why")]
    assert scene.told("error") == [
        ("w0", f"asked by ann: why, but not yet: {error}"),
        ("w2", "asked by ann: why, but not yet: a request before it waits"),
    ]
    scene.start_again()
    scene.count = lambda: None
    scene.triggers.answer(day(6))
    assert [name for name, _ in scene.told()] == ["w1", "w0", "w2"]
    assert len(scene.requests) == 1


def test_a_request_that_waits_is_tried_less_and_less_often_and_a_new_one_at_once(scene: Scene) -> None:
    tried = []

    def fail() -> None:
        tried.append(True)
        raise AWAY

    scene.count = fail
    scene.ask()
    for second in range(16):
        scene.triggers.answer(day(5) + second)
    assert len(tried) == 5  # at 0, 1, 3, 7 and 15
    scene.ask()
    scene.triggers.answer(day(6))
    assert len(tried) == 6


def test_a_rule_that_never_ends_holds_no_operator_up(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, begins, goes_on = Scene(monkeypatch, patience_s=0.05), threading.Event(), threading.Event()

    def evaluate(*_: object) -> None:
        begins.set()
        goes_on.wait(30)

    scene.ask()
    scene.triggers.answer(day(4))
    asked = scene.requests[0].request_id
    monkeypatch.setattr(type(model.policy), "evaluate", evaluate)
    scene.triggers.tick(day(5))
    assert begins.wait(30)
    scene.ask("reset")
    scene.ask()
    scene.triggers.answer(day(5) + MINUTE)
    goes_on.set()
    assert [name for name, _ in scene.told()] == ["w0", "w1", "w2"]
    assert [each.t_us for each in scene.requests] == [day(4), day(5) + MINUTE]
    assert scene.requests[1].request_id != asked  # the run before the reset was open: this is another one


@pytest.mark.slow
@settings(deadline=None)
@given(steps=st.lists(st.sampled_from(["train", "reset", "away", "broken", "well", "answer", "tick", "restart"])))
def test_every_request_is_answered_once_in_the_order_of_its_kind(steps: Sequence[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch, capture_logs():
        scene = Scene(patch)
        for number, step in enumerate([*steps, "well", *["answer"] * 65, "restart", "answer"]):
            if step in {"train", "reset"}:
                scene.ask(step)
            elif step in {"away", "broken"}:
                scene.count = failing(AWAY if step == "away" else BROKEN)
            elif step == "well":
                scene.count = lambda: None
            elif step == "restart":
                scene.start_again()
            else:
                getattr(scene.triggers, step)(day(5) + number * MINUTE)
    answered = [name for name, _ in scene.told()]
    for action in ("train", "reset"):
        asked = [each.request.id for each in scene.heard if each.request.action == action]
        assert [name for name in answered if name in asked] == asked
    assert len(answered) == len(scene.heard)


class Record:
    """A record of the topic of operators' requests."""

    def __init__(self, request: OperatorRequest, sent_ms: int, offset: int) -> None:
        self._request, self._sent_ms, self._offset = request, sent_ms, offset

    def topic(self) -> str:
        return "headrace.operator-requests"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 0, self._sent_ms

    def value(self) -> bytes:
        return msgspec.json.encode(self._request)


class Records(list[Record]):
    """Records that come one after the other."""

    def drain(self) -> Any:
        found = [*self]
        self.clear()
        return found


def test_a_request_from_a_machine_whose_clock_is_behind_is_answered(scene: Scene) -> None:
    records = Records()
    heard = HeardRequests(records)
    for number, sent_ms in enumerate((5_000, 3_000, 4_000, 9_000)):
        request = OperatorRequest(id=f"w{number}", model=model.name, action="reset", by="a", reason="b", at_us=0)
        records += [Record(request, sent_ms, number), Record(request, sent_ms, number)]
        for each in heard.known()[number:]:
            scene.triggers.hear(each)
        scene.triggers.answer(day(5) + number)
    assert [name for name, _ in scene.told()] == ["w0", "w1", "w2", "w3"]
    places = [each.place for each in heard.known()]
    assert places == sorted(set(places))


def test_a_cancel_is_heard_when_it_is_asked_for() -> None:
    records = Records()
    cancelled = CancelledRuns(HeardRequests(records).known)
    assert cancelled.why("r") is None
    request = OperatorRequest(
        id="c", model=model.name, action="cancel", by="ann", reason="bad day", at_us=0, request_id="r"
    )
    records.append(Record(request, 1, 0))
    assert cancelled.why("r") == "cancelled by ann: bad day"
    assert cancelled.why("r") == "cancelled by ann: bad day"
