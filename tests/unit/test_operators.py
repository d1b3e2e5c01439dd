"""What operators are told of the triggers of a model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from headrace.app import operators
from headrace.trainers.runs.messages import DecisionRecord
from headrace.trainers.runs.operator_requests import OperatorRequest, decode
from headrace.trainers.triggers.trigger_state import TriggerState
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
