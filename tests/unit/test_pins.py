"""A pin and the triggers: how long it holds, and which run may end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.models.model_events import ModelEvent, Promoted
from headrace.trainers.process.trigger_consumer import TriggerConsumer
from headrace.trainers.runs.messages import RunEnded
from tests.support.control_topics import RETRAIN_REQUESTS
from tests.support.model_events import published, rolled_back
from tests.support.orders_model import Shop, day, model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # a second and more for its scenes


class Loop:
    """A shop whose triggers are evaluated on some days."""

    def __init__(self, folder: Path) -> None:
        self.shop = Shop(folder)
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.consumer = TriggerConsumer([model], self.shop.log, self.shop.model_events, self.take)

    def take(self, topic: str, _: bytes, value: bytes) -> None:
        self.sent.append((topic, msgspec.json.decode(value)))

    def happens(self, event: ModelEvent) -> None:
        self.shop.model_events.append(msgspec.structs.replace(event, model=model.name))

    def rule(self, number: int) -> str:
        """The rule that decided on this day."""
        self.consumer.tick(day(number))
        return str(self.sent[-1][1]["decision"]["rule"])

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [message for topic, message in self.sent if topic == RETRAIN_REQUESTS]


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


def test_a_second_rollback_renews_the_pin_and_the_run_after_it_lifts_that_pin(loop: Loop) -> None:
    """150 labels a day; 2,000 new ones are enough."""
    loop.happens(published("a", 1, expects=None))
    loop.happens(rolled_back("first pin", 1))
    assert loop.rule(20) == loop.rule(32) == "pinned"
    loop.happens(rolled_back("second pin", 1))
    assert loop.rule(33) == loop.rule(45) == "pinned"  # the labels for the first pin have come by then
    assert loop.requests == []
    assert loop.rule(48) == "volume"
    assert [request["lifts"] for request in loop.requests] == ["second pin"]


def test_a_decision_about_the_live_version_ends_the_wait_of_a_postponed_run(loop: Loop) -> None:
    """When a run can be judged was worked out for the version that was live then."""
    loop.happens(published("a", 1, expects=None))
    loop.happens(published("b", 2, expects="a"))
    assert loop.rule(20) == "volume"
    (asked,) = loop.requests
    loop.consumer.run_ended(postponed(asked["request_id"], until=day(34), against="b"))
    assert loop.rule(21) == loop.rule(29) == "postponed"
    loop.happens(ModelEvent(id="p", model=model.name, at_us=day(30), data=Promoted(version=1, reason="better")))
    assert loop.rule(30) == "volume"
    assert len(loop.requests) == 2
    loop.consumer.run_ended(postponed(loop.requests[1]["request_id"], until=day(34), against="p"))
    assert loop.rule(31) == "postponed", "for the version that is live now"


def postponed(request_id: str, *, until: int, against: str) -> RunEnded:
    return RunEnded(
        request_id=request_id,
        model=model.name,
        outcome="postponed",
        reason="0 of 14 days",
        rule="volume",
        t_us=day(20),
        matured_labels=3_000,
        again_us=until,
        against=against,
    )


def test_a_request_without_a_pin_lifts_none(loop: Loop) -> None:
    loop.happens(published("a", 1, expects=None))
    loop.happens(rolled_back("x", 1))
    assert loop.rule(20) == "pinned"
    loop.happens(rolled_back("y", 1, pin=False))
    assert loop.rule(21) == "volume"
    assert "lifts" not in loop.requests[0]


def test_a_first_version_that_waits_for_its_approval_is_not_asked_for_again(loop: Loop) -> None:
    loop.happens(published("a", 1, expects=None, approval="wanted"))
    assert loop.rule(10) == "volume"
    assert loop.requests == []
    promoted = Promoted(version=1, reason="checked")
    loop.happens(ModelEvent(id="p", model=model.name, at_us=day(11), data=promoted))
    assert loop.rule(12) == "volume"
