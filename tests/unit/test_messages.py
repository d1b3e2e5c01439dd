"""The bytes of control-plane messages, and what their readers make of a later release's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from headrace.bus.control import Tick, decode_control
from headrace.errors import CodecError, NewerFormatError
from headrace.models import manifest, model_events
from headrace.models.model_events import Acknowledgement
from headrace.streams import log_claims
from headrace.streams.dead_letters import replay
from headrace.streams.dead_letters.replay import DeadLettersReplayed
from headrace.streams.log_claims import LogClaimed
from headrace.trainers.runs import operator_requests
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded, decode
from headrace.trainers.runs.operator_requests import OperatorRequest
from headrace.trainers.triggers.trigger_policy import WatchReport
from headrace.trainers.triggers.trigger_rule import RuleVerdict
from headrace.trainers.triggers.trigger_state import RollbackPin, TriggerState
from headrace.trainers.triggers.watched_inputs import WatchedInput
from tests.support.model_events import MANIFEST, published

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD = model_events.encode(published("a", 1, expects=None))
MESSAGES: dict[str, tuple[object, bytes, Callable[[bytes], object]]] = {
    "decision": (
        DecisionRecord(model="m", kind="finished", t_us=5, reason="refused: …", state=TriggerState(), run="r"),
        '{"model":"m","kind":"finished","t_us":5,"reason":"refused: …","state":{"baseline":null,"request":null,'
        '"pin":null,"live":false,"disarmed":[],"asked_day":0,"asked_count":0},"decision":null,"run":"r","format":1}'.encode(),
        lambda data: decode(data, DecisionRecord),
    ),
    "request": (
        RetrainRequest(request_id="m-1", model="m", rule="volume", reason="enough", t_us=5, matured_labels=7),
        b'{"request_id":"m-1","model":"m","rule":"volume","reason":"enough","t_us":5,"matured_labels":7,"format":1}',
        lambda data: decode(data, RetrainRequest),
    ),
    "request that lifts a pin": (
        RetrainRequest(request_id="m-1", model="m", rule="r", reason="w", t_us=5, matured_labels=7, lifts="e"),
        b'{"request_id":"m-1","model":"m","rule":"r","reason":"w","t_us":5,"matured_labels":7,"format":1,"lifts":"e"}',
        lambda data: decode(data, RetrainRequest),
    ),
    "decision while pinned": (
        DecisionRecord(
            model="m",
            kind="finished",
            t_us=5,
            reason="no",
            run="r",
            state=TriggerState(pin=RollbackPin(t_us=1, matured_labels=2)),
        ),
        (
            b'{"model":"m","kind":"finished","t_us":5,"reason":"no","state":{"baseline":null,"request":null,'
            b'"pin":{"t_us":1,"matured_labels":2},"live":false,"disarmed":[],"asked_day":0,"asked_count":0},'
            b'"decision":null,"run":"r","format":1}'
        ),
        lambda data: decode(data, DecisionRecord),
    ),
    "decision that is an error": (
        DecisionRecord(model="m", kind="error", t_us=5, reason="E: no", state=TriggerState(), since_us=3),
        (
            b'{"model":"m","kind":"error","t_us":5,"reason":"E: no","state":{"baseline":null,"request":null,'
            b'"pin":null,"live":false,"disarmed":[],"asked_day":0,"asked_count":0},"decision":null,"run":null,'
            b'"since_us":3,"format":1}'
        ),
        lambda data: decode(data, DecisionRecord),
    ),
    "decision with watched inputs": (
        DecisionRecord(
            model="m",
            kind="evaluated",
            t_us=5,
            reason="r",
            state=TriggerState(),
            watched=WatchReport(
                inputs=[
                    WatchedInput(input="a", what="nulls", days=3, lately=0.5),
                    WatchedInput(
                        input="b", what="rate", days=90, lately=0.5, before=0.25, low=0.0, high=0.375, out=True
                    ),
                ],
                rules=[RuleVerdict(rule="volume", fired=False, reason="no", progress=0.5)],
            ),
        ),
        (
            b'{"model":"m","kind":"evaluated","t_us":5,"reason":"r","state":{"baseline":null,"request":null,"pin":null,'
            b'"live":false,"disarmed":[],"asked_day":0,"asked_count":0},"decision":null,"run":null,"watched":{"inputs":['
            b'{"input":"a","what":"nulls","days":3,"lately":0.5},{"input":"b","what":"rate","days":90,"lately":0.5,'
            b'"before":0.25,"low":0.0,"high":0.375,"out":true}],"rules":[{"rule":"volume","fired":false,"reason":"no",'
            b'"progress":0.5}]},"format":1}'
        ),
        lambda data: decode(data, DecisionRecord),
    ),
    "operator's request": (
        OperatorRequest(id="o", model="m", action="train", by="ann@desk", reason="prices", at_us=5),
        b'{"id":"o","model":"m","action":"train","by":"ann@desk","reason":"prices","at_us":5,"lift_pin":false,"format":1}',
        operator_requests.decode,
    ),
    "run": (
        RunEnded(request_id="m-1", model="m", outcome="failed", reason="no", rule="first", t_us=5, matured_labels=7),
        (
            b'{"request_id":"m-1","model":"m","outcome":"failed","reason":"no","rule":"first","t_us":5,'
            b'"matured_labels":7,"version":null,"event_id":null,"gate":null,"rows":0,"holdout_days":null,"seconds":{},'
            b'"format":1}'
        ),
        lambda data: decode(data, RunEnded),
    ),
    "run that looked at hours": (
        RunEnded(
            request_id="m-1",
            model="m",
            outcome="refused",
            reason="no",
            rule="first",
            t_us=5,
            matured_labels=7,
            holdout_days=(0, 2),
            holdout_us=(3_600_000_000, 90_000_000_000),
        ),
        (
            b'{"request_id":"m-1","model":"m","outcome":"refused","reason":"no","rule":"first","t_us":5,'
            b'"matured_labels":7,"version":null,"event_id":null,"gate":null,"rows":0,"holdout_days":[0,2],"seconds":{},'
            b'"holdout_us":[3600000000,90000000000],"format":1}'
        ),
        lambda data: decode(data, RunEnded),
    ),
    "run that can be judged later": (
        RunEnded(
            request_id="m-1",
            model="m",
            outcome="postponed",
            reason="no",
            rule="first",
            t_us=5,
            matured_labels=7,
            again_us=3_600_000_000,
        ),
        (
            b'{"request_id":"m-1","model":"m","outcome":"postponed","reason":"no","rule":"first","t_us":5,'
            b'"matured_labels":7,"version":null,"event_id":null,"gate":null,"rows":0,"holdout_days":null,"seconds":{},'
            b'"again_us":3600000000,"format":1}'
        ),
        lambda data: decode(data, RunEnded),
    ),
    "run that can be judged later by the same version": (
        RunEnded(
            request_id="m-1",
            model="m",
            outcome="postponed",
            reason="no",
            rule="first",
            t_us=5,
            matured_labels=7,
            again_us=3_600_000_000,
            against="e1",
        ),
        (
            b'{"request_id":"m-1","model":"m","outcome":"postponed","reason":"no","rule":"first","t_us":5,'
            b'"matured_labels":7,"version":null,"event_id":null,"gate":null,"rows":0,"holdout_days":null,"seconds":{},'
            b'"again_us":3600000000,"against":"e1","format":1}'
        ),
        lambda data: decode(data, RunEnded),
    ),
    "run that was cancelled": (
        RunEnded(
            request_id="m-1",
            model="m",
            outcome="failed",
            reason="cancelled by ann",
            rule="r",
            t_us=5,
            matured_labels=7,
            cancelled=True,
        ),
        (
            b'{"request_id":"m-1","model":"m","outcome":"failed","reason":"cancelled by ann","rule":"r","t_us":5,'
            b'"matured_labels":7,"version":null,"event_id":null,"gate":null,"rows":0,"holdout_days":null,"seconds":{},'
            b'"cancelled":true,"format":1}'
        ),
        lambda data: decode(data, RunEnded),
    ),
    "replay": (
        DeadLettersReplayed(topic="t", letters=["ab-0-7"], at_us=5),
        b'{"topic":"t","letters":["ab-0-7"],"at_us":5,"format":1}',
        replay.decode,
    ),
    "claim": (
        LogClaimed(namespace="n", log="ab", place="/data/events on host", at_us=5),
        b'{"namespace":"n","log":"ab","place":"/data/events on host","at_us":5,"adopted":null,"format":1}',
        log_claims.decode,
    ),
    "tick": (Tick(5), b'{"type":"tick","t_us":5,"format":1}', decode_control),
    "acknowledgement": (
        Acknowledgement(application="web", model="m", version=2, event_id="b", ok=True, at_us=5),
        b'{"format":1,"application":"web","model":"m","version":2,"event_id":"b","ok":true,"reason":"","at_us":5}',
        model_events.decode_acknowledgement,
    ),
    "manifest": (MANIFEST, manifest.encode(MANIFEST), manifest.decode),
    "model event": (
        published("a", 1, expects=None).data,
        RECORD.value,
        lambda data: model_events.decode(replace(RECORD, value=data)).data,
    ),
}


@pytest.fixture(params=MESSAGES)
def message(request: pytest.FixtureRequest) -> tuple[object, bytes, Callable[[bytes], object]]:
    return MESSAGES[request.param]


def test_a_message_has_these_bytes(message: tuple[object, bytes, Callable[[bytes], object]]) -> None:
    value, golden, read = message
    assert msgspec.json.encode(value) == golden or msgspec.json.encode(value, order="deterministic") == golden
    assert read(golden) == value


def test_readers_ignore_what_a_later_release_added(message: tuple[object, bytes, Callable[[bytes], object]]) -> None:
    value, golden, read = message
    assert read(golden[:-1] + b',"later":1}') == value


@pytest.mark.parametrize("rest", [b"", b',"model":["changed"]'])
def test_readers_refuse_a_newer_format(message: tuple[object, bytes, Callable[[bytes], object]], rest: bytes) -> None:
    """Also where they could not have read it."""
    _, golden, read = message
    with pytest.raises(
        NewerFormatError, match=r"has format 9, this release reads formats up to [1-6]: upgrade headrace"
    ):
        read(golden.replace(b'"format":1', b'"format":9' + rest))


@pytest.mark.parametrize("kind", [DecisionRecord, RetrainRequest, RunEnded])
@pytest.mark.parametrize("data", [None, b"?", b"{}"])
def test_an_unreadable_message_is_refused_by_its_name(kind: type[RunEnded], data: bytes | None) -> None:
    with pytest.raises(CodecError, match=r"these bytes are not (a|the) (decision|retrain|end of)"):
        decode(data, kind)
