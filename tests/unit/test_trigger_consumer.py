"""The consumer of triggers: what it asks for and writes, and one model's trouble that is not another's."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import msgspec
import pytest
from msgspec import UNSET

from headrace.errors import BusUnavailableError, TerminalError, UnavailableError
from headrace.models.model_event_log import FoldedEvents
from headrace.trainers.process.heard_requests import HeardRequest
from headrace.trainers.process.trigger_consumer import TriggerConsumer, TriggerOptions
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded, decode
from headrace.trainers.runs.operator_requests import OperatorAction, OperatorRequest
from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict
from headrace.trainers.triggers.trigger_specs import TriggerSpec
from headrace.trainers.triggers.trigger_state import Baseline, RunOutcome, TriggerState
from tests.support.control_topics import DECISIONS, RETRAIN_REQUESTS
from tests.support.model_events import published, rolled_back
from tests.support.orders_model import Shop, day, model
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.trainers.definitions import Model
    from headrace.trainers.triggers.evidence import Evidence

MINUTE = 60_000_000


@dataclass(frozen=True)
class Broken:
    """A rule that does what it is told when it measures."""

    act: Callable[[], None]
    name: str = "broken"

    def measure(self, evidence: Evidence) -> RuleInputs:
        del evidence
        self.act()
        return {}

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        del state, t_us, inputs
        return [RuleVerdict(rule=self.name, fired=False, reason="calm", progress=0.0)]

    @property
    def spec(self) -> TriggerSpec:
        return TriggerSpec()

    def labels(self) -> int | None:
        return None


class Sent:
    """The messages that a consumer sent."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []

    def __call__(self, topic: str, _key: bytes, value: bytes) -> None:
        self.messages.append((topic, value))

    def records(self, of: str | None = None) -> list[DecisionRecord]:
        found = [decode(value, DecisionRecord) for topic, value in self.messages if topic == DECISIONS]
        return [record for record in found if of in {None, record.model}]

    def requests(self) -> list[RetrainRequest]:
        return [decode(value, RetrainRequest) for topic, value in self.messages if topic == RETRAIN_REQUESTS]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(tmp_path_factory.mktemp("shop"))
    made.model_events.append(msgspec.structs.replace(published("live", 1, expects=None), model="a-first"))
    return made


def named(name: str, rule: Any = None) -> Model:
    return replace(model, name=name, triggers=rule or model.triggers)


def consumer(shop: Shop, *models: Model, **options: Any) -> tuple[TriggerConsumer, Sent]:
    sent = Sent()
    send = options.pop("send", sent)
    return TriggerConsumer(models, shop.log, shop.model_events, send, options=TriggerOptions(**options)), sent


def ended(name: str, on: float, labels: int, outcome: RunOutcome = "refused") -> RunEnded:
    return RunEnded(
        request_id=name,
        model=model.name,
        outcome=outcome,
        reason="no",
        rule="volume",
        t_us=day(on),
        matured_labels=labels,
    )


def tick_until(triggers: TriggerConsumer, done: Callable[[], bool], after: int = day(5)) -> None:
    """Tick each minute of event time until something has happened."""
    for minute in range(1_000):
        triggers.tick(after + minute * MINUTE)
        if done():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it does not happen")


def test_an_old_end_that_is_delivered_again_does_not_move_the_baseline_back(shop: Shop) -> None:
    triggers, sent = consumer(shop, model)
    first, second = ended("r1", 30, 3_000, "published"), ended("r2", 45, 6_000)
    for run in (first, second, first, second):
        triggers.run_ended(run)
    assert [record.run for record in sent.records()] == ["r1", "r2"]
    assert sent.records()[-1].state.baseline == Baseline(
        run="r2", outcome="refused", t_us=day(45), matured_labels=6_000
    )


def test_the_end_of_a_run_is_told_again_if_its_record_could_not_be_written(shop: Shop) -> None:
    sent, away = Sent(), [True]

    def send(topic: str, key: bytes, value: bytes) -> None:
        if away:
            raise BusUnavailableError(away.pop())
        sent(topic, key, value)

    triggers, _ = consumer(shop, model, send=send)
    with pytest.raises(BusUnavailableError):
        triggers.run_ended(ended("r1", 30, 3_000))
    triggers.run_ended(ended("r1", 30, 3_000))
    assert [record.run for record in sent.records()] == ["r1"]


def test_two_trainers_with_other_rules_at_other_times_ask_for_one_run(shop: Shop) -> None:
    one, asked_by_one = consumer(shop, model)
    other, asked_by_other = consumer(shop, replace(model, first_after=1_000))
    one.tick(day(20))
    other.tick(day(20) + MINUTE)
    ids = [request.request_id for sent in (asked_by_one, asked_by_other) for request in sent.requests()]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_a_request_names_the_pin_that_held_until_there_were_enough_labels(tmp_path: Path) -> None:
    scene = Shop(tmp_path)
    first = msgspec.structs.replace(published("live", 1, expects=None), model=model.name)
    pin = msgspec.structs.replace(rolled_back("pin", 1), model=model.name)
    scene.model_events.append(first)
    scene.model_events.append(pin)
    triggers, sent = consumer(scene, model)
    for number in range(5, 30):
        triggers.tick(day(number))
    assert sent.requests()[0].lifts == "pin"
    pinned = sent.records()[0].state.pin
    assert pinned is not None
    assert sent.requests()[0].matured_labels - pinned.matured_labels >= 2_000


def wish(number: int, action: OperatorAction = "train", **changes: Any) -> HeardRequest:
    request = OperatorRequest(
        id=f"w{number}", model=model.name, action=action, by="ann@desk", reason="new prices", at_us=0, **changes
    )
    return HeardRequest(request, (1_000, number))


def test_an_operator_gets_a_run_at_once_above_cooldown_and_hold(shop: Shop) -> None:
    triggers, sent = consumer(shop, model)
    triggers.run_ended(ended("r1", 30, 3_000))
    triggers.tick(day(31))
    assert sent.requests() == []
    triggers.hear(wish(0))
    triggers.answer(day(31) + MINUTE)
    (asked,) = sent.requests()
    record = sent.records()[-1]
    assert (asked.rule, asked.reason) == ("operator", "asked by ann@desk: new prices")
    assert (record.kind, record.operator, record.state.request) == ("asked", wish(0).request, asked.request_id)
    triggers.hear(wish(1))
    triggers.answer(day(31) + 2 * MINUTE)
    assert len(sent.requests()) == 1
    assert sent.records()[-1].reason == (f"asked by ann@desk: new prices, but run {asked.request_id} is not finished")


def test_an_operator_that_does_not_lift_a_pin_gets_no_run(tmp_path: Path) -> None:
    scene = Shop(tmp_path)
    for event in (published("live", 1, expects=None), rolled_back("pin", 1)):
        scene.model_events.append(msgspec.structs.replace(event, model=model.name))
    triggers, sent = consumer(scene, model)
    triggers.hear(wish(0))
    triggers.hear(wish(1, lift_pin=True))
    triggers.answer(day(20))
    assert [(record.decision is not None and record.decision.fired) for record in sent.records()] == [False, True]
    assert [request.lifts for request in sent.requests()] == ["pin"]


def test_a_request_that_was_answered_is_not_answered_again_after_a_restart(shop: Shop) -> None:
    triggers, sent = consumer(shop, model)
    heard = [wish(0), wish(1, "reset"), wish(2)]
    for each in heard[:2]:
        triggers.hear(each)
    triggers.answer(day(20))
    again, after = consumer(shop, model)
    again.restore(sent.records(), [])
    for each in heard:
        again.hear(each)
    again.answer(day(21))
    assert [record.operator for record in after.records()] == [heard[2].request]


def test_after_a_reset_the_rules_ask_for_another_run_than_the_open_one(shop: Shop) -> None:
    triggers, sent = consumer(shop, model)
    triggers.tick(day(20))
    triggers.hear(wish(0, "reset"))
    triggers.tick(day(20) + MINUTE)
    assert [record.kind for record in sent.records()] == ["evaluated", "reset", "evaluated"]
    first, again = sent.requests()
    assert first.request_id != again.request_id
    triggers.run_ended(msgspec.structs.replace(ended(again.request_id, 20, 3_000), outcome="refused"))
    triggers.tick(day(21))
    assert sent.records()[-1].decision.rule == "cooldown"  # type: ignore[union-attr]
    triggers.hear(wish(1, "reset"))
    triggers.tick(day(21) + MINUTE)
    assert sent.records()[-1].decision.rule == "first"  # type: ignore[union-attr]
    assert sent.records()[-1].decision.fired  # type: ignore[union-attr]


def test_a_decision_on_a_wish_is_the_same_when_it_is_judged_again(shop: Shop) -> None:
    triggers, sent = consumer(shop, model)
    triggers.hear(wish(0))
    triggers.answer(day(20))
    found = sent.records()[-1].decision
    assert found is not None
    again = model.policy.judge(found.state, found.t_us, found.inputs)
    assert msgspec.structs.replace(again, after=found.after) == found


def test_a_rule_that_raises_holds_up_no_other_model_and_is_on_record(shop: Shop) -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    triggers, sent = consumer(shop, named("a-first", Broken(fail)), model)
    for at in range(8):
        triggers.tick(day(5) + at * MINUTE)
    assert [(record.kind, record.reason) for record in sent.records("a-first")] == [("error", "RuntimeError: boom")]
    assert [record.kind for record in sent.records(model.name)] == ["evaluated"]


def test_a_rule_that_works_again_is_evaluated_again(shop: Shop) -> None:
    broken = [True]

    def fail() -> None:
        if broken:
            raise RuntimeError("boom")

    triggers, sent = consumer(shop, named("a-first", Broken(fail)))
    triggers.tick(day(5))
    broken.clear()
    triggers.tick(day(5) + MINUTE)
    assert [record.kind for record in sent.records()] == ["error", "evaluated"]


def test_an_error_is_recorded_with_the_time_of_the_first_one_in_a_row_also_after_a_restart(shop: Shop) -> None:
    said = ["boom"]

    def fail() -> None:
        if said:
            raise RuntimeError(said[0])

    before, sent = consumer(shop, named("a-first", Broken(fail)))
    before.tick(day(5))
    said[0] = "bang"
    before.tick(day(5) + MINUTE)
    after, later = consumer(shop, named("a-first", Broken(fail)))
    after.restore(sent.records()[-1:], [])
    said[0] = "crash"
    after.tick(day(6))
    first = [(record.reason, record.since_us) for record in (*sent.records(), *later.records())]
    assert first == [(f"RuntimeError: {word}", day(5)) for word in ("boom", "bang", "crash")]
    said.clear()
    after.tick(day(6) + MINUTE)
    said.append("boom")
    after.tick(day(7))
    assert [(each.kind, each.since_us) for each in later.records()[1:]] == [("evaluated", UNSET), ("error", day(7))]


def test_the_baseline_of_a_cancelled_run_keeps_who_cancelled_it_and_not_the_code(shop: Shop) -> None:
    triggers, sent = consumer(shop, model)
    cancelled = msgspec.structs.replace(ended("r1", 30, 3_000, "failed"), reason="cancelled by ann", cancelled=True)
    triggers.run_ended(msgspec.structs.replace(cancelled, code="a"))
    baseline = sent.records()[-1].state.baseline
    assert baseline is not None
    assert (baseline.outcome, baseline.cancelled, baseline.code) == ("failed", "cancelled by ann", UNSET)


def test_a_store_that_does_not_answer_is_no_error_of_the_model(shop: Shop) -> None:
    def fail() -> None:
        raise UnavailableError("the log is away")

    triggers, sent = consumer(shop, named("a-first", Broken(fail)), model)
    triggers.tick(day(5))
    assert [record.model for record in sent.records()] == [model.name]


def test_a_slow_rule_holds_up_no_other_model(shop: Shop) -> None:
    goes_on = threading.Event()

    def wait() -> None:
        goes_on.wait(30)

    triggers, sent = consumer(shop, named("a-first", Broken(wait)), model, patience_s=0.05)
    tick_until(triggers, lambda: len(sent.records(model.name)) > 1)
    assert sent.records("a-first") == []
    goes_on.set()
    tick_until(triggers, lambda: bool(sent.records("a-first")), after=day(9))
    assert sent.records("a-first")[0].t_us == day(5)  # what it was asked at first


def test_a_slow_rule_is_recorded_when_it_has_ended_without_another_tick(shop: Shop) -> None:
    goes_on = threading.Event()

    def wait() -> None:
        goes_on.wait(30)

    triggers, sent = consumer(shop, named("a-first", Broken(wait)), patience_s=0.05)
    triggers.tick(day(5))
    assert not triggers.has_ended()
    goes_on.set()
    until(triggers.has_ended, 30)
    triggers.finish(day(5))
    assert [(record.model, record.t_us) for record in sent.records()] == [("a-first", day(5))]
    assert not triggers.has_ended()


def test_a_decision_that_began_before_a_run_ended_is_made_anew(shop: Shop) -> None:
    goes_on = threading.Event()

    def wait() -> None:
        goes_on.wait(30)

    slow = named("a-first", Broken(wait))
    triggers, sent = consumer(shop, slow, patience_s=0.05)
    triggers.tick(day(5))
    triggers.run_ended(msgspec.structs.replace(ended("r1", 4, 100), model="a-first"))
    goes_on.set()
    tick_until(triggers, lambda: len(sent.records()) > 1, after=day(6))
    assert sent.records()[1].t_us > day(5)
    assert all(record.state.baseline is not None for record in sent.records())


def test_a_decision_is_written_when_it_says_something_new_and_once_an_hour(shop: Shop) -> None:
    seen: list[int] = []
    triggers, sent = consumer(shop, model, report=lambda record: seen.append(record.t_us))
    ticks = [day(3) + minute * MINUTE for minute in range(8 * 60)]
    for t_us in ticks:
        triggers.tick(t_us)
    assert seen == ticks  # the metrics see each one
    times = [record.t_us for record in sent.records()]
    assert times[0] == ticks[0]
    assert all(later - earlier <= 60 * MINUTE for earlier, later in pairwise(times))
    steps = Counter(int(record.decision.progress * 20) for record in sent.records() if record.decision is not None)
    assert len(times) <= 8 + len(steps)


def test_the_last_record_is_the_state_after_a_restart(shop: Shop) -> None:
    triggers, sent = consumer(shop, model)
    for hour in range(0, 24 * 20, 4):
        triggers.tick(day(1) + hour * 60 * MINUTE)
    assert len(sent.requests()) == 1
    again, after = consumer(shop, model)
    again.restore(sent.records(), [])
    again.tick(day(21) + MINUTE)
    assert after.requests() == []
    assert after.records()[0].state == sent.records()[-1].state


def test_a_restart_writes_nothing_that_was_written(shop: Shop) -> None:
    triggers, sent = consumer(shop, model)
    triggers.tick(day(3))
    again, after = consumer(shop, model)
    again.restore(sent.records(), [])
    again.tick(day(3) + MINUTE)
    assert after.records() == []


def test_a_decision_that_cannot_be_sent_holds_up_no_other_model(shop: Shop) -> None:
    sent = Sent()

    def send(topic: str, key: bytes, value: bytes) -> None:
        if b"new prices" in value and b'"kind":"asked"' in value:
            raise TerminalError("a message of 1,300,937 bytes cannot be produced")
        sent(topic, key, value)

    triggers, _ = consumer(shop, model, named("other"), send=send)
    triggers.hear(wish(0))
    for at in range(3):
        triggers.tick(day(31) + at * MINUTE)
    assert "cannot be produced" in sent.records(model.name)[0].reason
    assert {record.kind for record in sent.records("other")} == {"evaluated"}


def test_a_tick_reads_the_model_events_once_for_all_models(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    triggers, sent = consumer(shop, model, named("b"), named("c"))
    log = Mock(wraps=shop.model_events)
    monkeypatch.setattr(triggers, "_events", FoldedEvents(log))
    triggers.tick(day(5))
    assert log.read.call_count == 1
    assert {record.model for record in sent.records()} == {model.name, "b", "c"}
