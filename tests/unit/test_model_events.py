from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from headrace.errors import CodecError
from headrace.models import manifest, model_events
from headrace.models.model_events import (
    Acknowledgement,
    ModelEvent,
    ModelEventRecord,
    OwnEventRef,
    decode,
    encode,
    format_of,
)
from headrace.models.prediction_task import PredictionTask
from tests.support.model_events import MANIFEST, SERVICE, promoted, published, retired, rolled_back

GOLDEN = ModelEventRecord(
    key=b"delay",
    headers={
        "ce_specversion": b"1.0",
        "ce_id": b"a",
        "ce_source": b"/headrace/models/delay",
        "ce_type": b"headrace.model.published",
        "ce_subject": b"1",
        "ce_time": b"2013-02-04T17:46:40Z",
        "content-type": b"application/json",
    },
    value=(
        b'{"format":1,"version":1,'
        b'"artifact":{"uri":"file:///models/1.skops","digest":"sha256:00","content_hash":"sha256:11"},'
        b'"service":{"name":"delay","hash":"5e1f",'
        b'"views":[{"name":"airport","spec_hash":"a1b2","keys":["origin"]}],'
        b'"columns":["airport__mean_delay_1h","airport__mean_delay_6h"],'
        b'"request_features":["hour","distance"],"key":"flight_id","at":"requested_at"},'
        b'"manifest":{"uri":"file:///models/1.json","hash":"sha256:22"},'
        b'"metrics":{"auc":0.74},"gate":{"gain_low":0.01,"verdict":"passed"},'
        b'"cause":{"rule":"first","reason":"20,000 of 20,000 matured labels for the first version","decision":"d-1"},'
        b'"request_id":"delay-1","trained_to_us":1360000000000000,"expects":null,"run":"run-1"}'
    ),
)
EVENT = published("a", 1, expects=None, request_id="delay-1")


def test_a_publication_is_these_bytes() -> None:
    assert encode(EVENT) == GOLDEN


def test_bytes_of_a_publication_decode_to_the_publication() -> None:
    assert decode(GOLDEN) == EVENT


def test_a_publication_with_on_demand_features_is_of_format_2() -> None:
    made = {"request": [], "features": [{"name": "twice", "kind": "int", "value": ["add", ["col", "n"], ["col", "n"]]}]}
    service = msgspec.structs.replace(SERVICE, columns=[*SERVICE.columns, "twice"], on_demand=made)
    event = published("a", 1, expects=None, request_id="delay-1", service=service, format=2)
    told = (
        b'"at":"requested_at","on_demand":{"features":[{"kind":"int","name":"twice",'
        b'"value":["add",["col","n"],["col","n"]]}],"request":[]}}'
    )
    golden = GOLDEN.value.replace(b'"format":1', b'"format":2').replace(b'"at":"requested_at"}', told)
    golden = golden.replace(b'mean_delay_6h"]', b'mean_delay_6h","twice"]')
    assert encode(event).value == golden
    assert decode(replace(GOLDEN, value=golden)) == event
    assert (format_of(SERVICE), format_of(service)) == (1, 2)


def test_a_publication_with_a_rule_for_the_own_event_is_of_format_3() -> None:
    rule = OwnEventRef(rule="excluded", topic="payments", views=["card"])
    service = msgspec.structs.replace(SERVICE, own_event=rule)
    event = published("a", 1, expects=None, request_id="delay-1", service=service, format=format_of(service))
    told = b'"at":"requested_at","own_event":{"rule":"excluded","topic":"payments","views":["card"]}}'
    golden = GOLDEN.value.replace(b'"format":1', b'"format":3').replace(b'"at":"requested_at"}', told)
    assert encode(event).value == golden
    assert decode(replace(GOLDEN, value=golden)) == event


def test_a_publication_that_waits_for_an_approval_is_of_format_4() -> None:
    event = published(
        "a", 1, expects="x", request_id="delay-1", format=format_of(SERVICE, needs_approval=True), approval="wanted",
        lifts="x",
    )  # fmt: skip
    golden = GOLDEN.value.replace(b'"format":1', b'"format":4').replace(b'"expects":null', b'"expects":"x"')
    golden = golden.replace(b'"run":"run-1"', b'"run":"run-1","lifts":"x","approval":"wanted"')
    assert encode(event).value == golden
    assert decode(replace(GOLDEN, value=golden)) == event


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (PredictionTask(name="regression"), b'{"name":"regression"}'),
        (PredictionTask(name="classes", classes=("good", "poor")), b'{"name":"classes","classes":["good","poor"]}'),
        (PredictionTask(name="classes", classes=(0, 1, 2)), b'{"name":"classes","classes":[0,1,2]}'),
        (PredictionTask(name="quantile", quantiles=(0.1, 0.9)), b'{"name":"quantile","quantiles":[0.1,0.9]}'),
    ],
)
def test_a_publication_of_another_task_is_of_format_5(task: PredictionTask, told: bytes) -> None:
    event = published("a", 1, expects=None, request_id="delay-1", format=format_of(SERVICE, task=task), task=task)
    golden = GOLDEN.value.replace(b'"format":1', b'"format":5')
    golden = golden.replace(b'"run":"run-1"', b'"run":"run-1","task":' + told)
    assert encode(event).value == golden
    assert decode(replace(GOLDEN, value=golden)) == event


def test_a_publication_with_categories_or_lists_is_of_format_6() -> None:
    service = msgspec.structs.replace(SERVICE, categories=["shop"])
    event = published("a", 1, expects=None, request_id="delay-1", service=service, format=format_of(service))
    golden = GOLDEN.value.replace(b'"format":1', b'"format":6')
    golden = golden.replace(b'"at":"requested_at"}', b'"at":"requested_at","categories":["shop"]}')
    assert encode(event).value == golden
    assert decode(replace(GOLDEN, value=golden)) == event
    assert format_of(SERVICE, has_lists=True) == 6


@pytest.mark.parametrize(
    ("event", "golden"),
    [
        (rolled_back("b", 3), b'{"format":1,"version":3,"reason":"worse","pin":true}'),
        (
            rolled_back("b", 3, pin=False, lifts="a", by="ann@desk"),
            b'{"format":1,"version":3,"reason":"worse","pin":false,"lifts":"a","by":"ann@desk"}',
        ),
        (promoted("b", 3), b'{"format":1,"version":3,"reason":"better"}'),
        (promoted("b", 3, by="ann@desk"), b'{"format":1,"version":3,"reason":"better","by":"ann@desk"}'),
        (retired("b", 3), b'{"format":1,"version":3,"reason":"old"}'),
        (retired("b", 3, by="ann@desk"), b'{"format":1,"version":3,"reason":"old","by":"ann@desk"}'),
    ],
)
def test_an_intervention_is_these_bytes(event: ModelEvent, golden: bytes) -> None:
    """Without the fields that a later release added they are those of before."""
    assert encode(event).value == golden
    assert decode(encode(event)) == event


def test_a_field_that_a_later_release_added_is_ignored() -> None:
    later = json.loads(GOLDEN.value) | {"shadow": True}
    assert decode(replace(GOLDEN, value=json.dumps(later).encode())) == EVENT


@pytest.mark.parametrize(
    ("headers", "value", "said"),
    [
        ({"ce_type": b"com.example.other"}, None, "com.example.other"),
        ({"ce_specversion": b"0.3"}, None, "specversion"),
        ({"ce_id": b""}, None, "'id'"),
        ({"ce_time": b"yesterday"}, None, "Expected 4 digits|invalid literal"),
        ({"ce_type": b"\xff"}, None, "utf-8"),
        ({}, b"", "JSON|truncated"),
        ({}, b'{"version": "one"}', "int"),
        ({}, GOLDEN.value.replace(b'"format":1', b'"format":7'), "upgrade headrace"),
    ],
)
def test_a_message_of_another_kind_is_refused_with_its_reason(
    headers: dict[str, bytes], value: bytes | None, said: str
) -> None:
    record = ModelEventRecord(GOLDEN.key, GOLDEN.headers | headers, GOLDEN.value if value is None else value)
    with pytest.raises(CodecError, match=said):
        decode(record)


def test_an_event_without_a_time_is_not_given_one() -> None:
    headers = {name: value for name, value in GOLDEN.headers.items() if name != "ce_time"}
    with pytest.raises(CodecError, match="ce_time"):
        decode(replace(GOLDEN, headers=headers))


def test_an_acknowledgement_is_these_bytes() -> None:
    ack = Acknowledgement(
        application="web", model="delay", version=2, event_id="b", ok=False, reason="bad digest", at_us=5
    )
    golden = (
        b'{"format":1,"application":"web","model":"delay","version":2,"event_id":"b","ok":false,'
        b'"reason":"bad digest","at_us":5}'
    )
    assert model_events.encode_acknowledgement(ack) == golden
    assert model_events.decode_acknowledgement(golden) == ack
    with pytest.raises(CodecError, match="acknowledgement"):
        model_events.decode_acknowledgement(b"{}")


def test_a_manifest_is_these_bytes() -> None:
    golden = (
        b'{"format":1,"model":"delay","request_id":"delay-1",'
        b'"streams":[{"topic":"flights.departed","topic_id":"AAECAw","offsets":{"0":120,"1":98}}],'
        b'"rows":20000,"content_hash":"sha256:33","row_order":["requested_at","flight_id"],"service":"delay",'
        b'"spec_hashes":{"airport":"a1b2"},"feature_columns":["airport__mean_delay_1h"],"request_features":["hour"],'
        b'"label":{"topic":"flights.arrived","value":["gt",["col","delay_minutes"],15]},"seeds":{"fit":7},'
        b'"libraries":{"scikit-learn":"1.9.1"},"code":"git:0123abc","trained_from_us":1357000000000000,'
        b'"trained_to_us":1360000000000000,"excluded":[{"from_us":1,"to_us":2,"reason":"sensor broken"}],'
        b'"params":{"max_iter":200}}'
    )
    assert manifest.encode(MANIFEST) == golden
    assert manifest.decode(golden) == MANIFEST
    assert manifest.hash_of(MANIFEST) == "sha256:af379fd074ce9d423a2b7c5ebc21db86615ccf67c947c9c128aa6b887f87922f"


@pytest.mark.parametrize(("change", "said"), [(b'"format":9', "upgrade headrace"), (b'"format":"x"', "not a manifest")])
def test_a_manifest_of_another_kind_is_refused(change: bytes, said: str) -> None:
    with pytest.raises(CodecError, match=said):
        manifest.decode(manifest.encode(MANIFEST).replace(b'"format":1', change))
