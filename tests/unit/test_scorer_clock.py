"""A scorer that is driven by a replay acknowledges versions on the clock of the replay."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from headrace.app.processes.scorer import Scorer, serve_in_lockstep
from headrace.base.times import SettableClock
from headrace.models.model_event_log import MemoryAcknowledgements, MemoryModelEventLog
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from tests.support.model_events import published

if TYPE_CHECKING:
    import pytest


def test_a_version_is_acknowledged_at_the_time_of_the_command_that_swaps_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    log, sent, clock = MemoryModelEventLog(), MemoryAcknowledgements(), SettableClock()
    log.append(published("first", 1, expects=None))
    subscriber = ModelSubscriber("delay", log, sent, LoadingPolicy([]), application="demo", clock=clock)
    commands = io.BytesIO(b'{"event": "first", "t_us": 1359244800000000}\n')
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=commands))
    answers = io.BytesIO()
    monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=answers))
    monkeypatch.setattr("headrace.models.artifact.prepare", lambda: None)
    serve_in_lockstep(Scorer(cast("Any", None), subscriber, clock, cast("Any", None)))
    assert [(each.event_id, each.at_us) for each in sent.sent] == [("first", 1_359_244_800_000_000)]
    assert [json.loads(line) for line in answers.getvalue().splitlines()] == [{"ready": True}, {"version": 0}]
