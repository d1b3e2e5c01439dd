"""What operators are told of the triggers of a model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from headrace.app import operators
from headrace.app.commands.train import _told
from headrace.bus.control_topics import ControlTopics
from headrace.errors import BusUnavailableError, UnavailableError
from headrace.trainers.runs.messages import DecisionRecord
from headrace.trainers.runs.operator_requests import OperatorRequest, decode
from headrace.trainers.triggers.evidence import DAY_US, Evidence
from headrace.trainers.triggers.rules import any_of, schedule, volume
from headrace.trainers.triggers.trigger_policy import TriggerPolicy
from headrace.trainers.triggers.trigger_state import Baseline, RollbackPin, TriggerState
from tests.support.orders_model import model


@pytest.mark.parametrize(
    ("since_us", "said"), [(30_000_000, "fails since 1970-01-01T00:00:30Z: ValueError: no"), (UNSET, "ValueError: no")]
)
def test_triggers_that_fail_say_since_when_and_with_which_error(since_us: Any, said: str) -> None:
    record = DecisionRecord(
        model=model.name, kind="error", t_us=90_000_000, reason="ValueError: no", state=TriggerState(),
        since_us=since_us,
    )  # fmt: skip
    listed = operators.summarize_triggers(model, record)
    assert (listed["rule"], listed["reason"], listed["decided_at"]) == ("error", said, "1970-01-01T00:01:30Z")
    assert operators.explain(model, [record])["now"] == said


def test_a_long_reason_of_an_operator_is_shortened_when_it_is_read() -> None:
    said = OperatorRequest(
        id="w", model=model.name, action="train", by="y" * 1_000_000, reason="x" * 1_000_000, at_us=0
    )
    read = decode(msgspec.json.encode(said))
    assert (len(read.reason) < 2_100, len(read.by) < 300) == (True, True)
    assert "characters are left out" in read.reason


class Away:
    """The end of a topic, when Kafka has gone away."""

    def __init__(self, *_: object, **__: object) -> None:
        self.failure = None

    def drain(self) -> list[Any]:
        raise BusUnavailableError("nobody is there")

    def close(self) -> None:
        pass


def test_waiting_for_a_run_ends_when_kafka_goes_away_and_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.bus.tail.TopicTail", Away)
    monkeypatch.setattr(operators, "ANSWER_S", 0.5)
    with pytest.raises(BusUnavailableError, match=r"run r-1 goes on, .*`headrace runs show r-1` says it later: nobody"):
        operators.wait_for_end("nowhere:1", ControlTopics(), "r-1")


def test_a_request_that_the_trainer_cannot_answer_yet_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = OperatorRequest(id="w", model=model.name, action="train", by="ann", reason="x", at_us=0)
    record = DecisionRecord(
        model=model.name, kind="error", t_us=1, reason="asked by ann: x, but not yet: no disk", state=TriggerState(),
        operator=asked,
    )  # fmt: skip
    monkeypatch.setattr(Away, "drain", lambda _: [])
    monkeypatch.setattr("headrace.bus.tail.TopicTail", Away)
    monkeypatch.setattr("headrace.bus.topics.ensure_topics", lambda *_: None)
    monkeypatch.setattr(operators, "send", lambda *_: None)
    monkeypatch.setattr(operators, "_decoded", lambda _: [record])
    monkeypatch.setattr(operators, "ANSWER_S", 0.5)
    with pytest.raises(UnavailableError, match=r"request w is kept, and .* by itself: asked by ann: x, but not yet"):
        operators.answered("nowhere:1", ControlTopics(), asked)


def replayed(now: TriggerPolicy) -> dict[str, Any]:
    """The decisions of days 3, 9 and 10 after a run, with a cooldown of a week, judged again with another policy."""
    state = TriggerState(live=True, baseline=Baseline(run="r", outcome="published", t_us=0, matured_labels=0))
    then = TriggerPolicy(model.name, volume(labels=500), first_after=100, cooldown_us=7 * DAY_US)
    seen = [Evidence(day * DAY_US, day * 50, scores=None, outcomes=None) for day in (3, 9, 10)]  # type: ignore[arg-type]
    decisions = [then.evaluate(state, each) for each in seen]
    assert [each.rule for each in decisions] == ["cooldown", "volume", "volume"]
    records = [
        DecisionRecord(model=model.name, kind="evaluated", t_us=d.t_us, reason=d.reason, state=state, decision=d)
        for d in decisions
    ]
    return operators.replay(Rules(model.name, now), records)  # type: ignore[arg-type]


class Rules:
    """A model's name and policy."""

    def __init__(self, name: str, policy: TriggerPolicy) -> None:
        self.name, self.policy = name, policy


@pytest.mark.parametrize(
    ("rule", "cooldown", "unknown", "days"),
    [
        (volume(labels=500), 7, 0, []),
        (volume(labels=450), 7, 0, [10]),
        (volume(labels=500), 30, 0, [10, 11]),  # held, where it was measured
        (volume(labels=500), 1, 1, []),  # measured, where it was held
        (any_of(volume(labels=500), schedule(every="1d")), 7, 2, []),
    ],
)
def test_a_replay_judges_thresholds_and_holds_and_says_what_was_not_measured(
    rule: Any, cooldown: int, unknown: int, days: list[int]
) -> None:
    found = replayed(TriggerPolicy(model.name, rule, first_after=100, cooldown_us=cooldown * DAY_US))
    assert (found["decisions"], found["unknown"]) == (3, unknown)
    assert [each["decided_at"] for each in found["differences"]] == [f"1970-01-{day:02}T00:00:00Z" for day in days]


def test_a_refusal_that_has_nothing_to_do_with_a_pin_does_not_advise_to_lift_it() -> None:
    pinned = TriggerState(pin=RollbackPin(t_us=1, matured_labels=1))
    why = "asked by ann: x, but the labels cannot be counted: ValueError: no such number"
    answer = DecisionRecord(model=model.name, kind="asked", t_us=1, reason=why, state=pinned)
    assert _told(answer, None) == f"no run: {why}"


def test_a_request_that_was_sent_before_kafka_went_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = OperatorRequest(id="w", model=model.name, action="train", by="ann", reason="x", at_us=0)
    monkeypatch.setattr("headrace.bus.tail.TopicTail", Away)
    monkeypatch.setattr("headrace.bus.topics.ensure_topics", lambda *_: None)
    monkeypatch.setattr(operators, "send", lambda *_: None)
    monkeypatch.setattr(operators, "ANSWER_S", 0.5)
    with pytest.raises(BusUnavailableError, match="request w is kept, and a trainer answers it: nobody is there"):
        operators.answered("nowhere:1", ControlTopics(), asked)
