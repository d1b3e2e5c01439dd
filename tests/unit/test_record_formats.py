"""The formats of records that need no registry: plain JSON, CloudEvents, Debezium's envelopes."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from headrace import CloudEvents, Debezium, Json, Stream
from headrace.bus.event_reader import EventReader
from headrace.bus.producer import ProducerRecord, _record
from headrace.errors import CodecError, DefinitionError
from headrace.features.definitions.spec import spec_hash
from tests.support.payments_stream import NOON, PAYMENT, ROW, Payment, judged, payments

if TYPE_CHECKING:
    from headrace.bus.formats.record_format import Headers, RecordFormat

BINARY: list[tuple[str, bytes | None]] = [
    ("content-type", b"application/json"), ("ce_specversion", b"1.0"), ("ce_id", b"1"),
]  # fmt: skip
STRUCTURED: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "payment", "data": ROW}
encoded = msgspec.json.encode


def read(written: RecordFormat, value: Any, headers: Headers = ()) -> Any:
    return EventReader(payments(written)).read(value if isinstance(value, bytes) else encoded(value), headers)


def produced(written: RecordFormat) -> tuple[ProducerRecord, dict[str, bytes]]:
    record = _record(payments(written), PAYMENT, None)
    return record, dict(record.more.get("headers", ()))


# -- plain JSON -------------------------------------------------------------------------------------------------------


def test_a_stream_without_a_format_is_json_and_has_the_spec_that_it_had() -> None:
    plain = Stream("payments", Payment, event_time="at", key="card")
    assert plain == payments(Json())
    assert b"format" not in encoded(plain.spec)
    assert spec_hash(plain.spec) == spec_hash(payments(Json()).spec)
    assert _record(plain, PAYMENT, None) == ProducerRecord("payments", b"c7", encoded(PAYMENT), {})


def test_another_format_is_in_the_spec() -> None:
    hashes = {spec_hash(payments(each).spec) for each in (Json(), CloudEvents(), Debezium())}
    assert len(hashes) == 3
    assert payments(CloudEvents(source="/shop", mode="structured")).spec == payments(CloudEvents()).spec


def test_something_else_is_no_format() -> None:
    with pytest.raises(DefinitionError, match=r"format='json' is a str; write a format, such as CloudEvents\(\)"):
        payments("json")  # type: ignore[arg-type]


# -- CloudEvents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (ROW, BINARY),
        (ROW, [("ce_specversion", b"1.0")]),
        (ROW, [("Content-Type", b"application/vnd.shop+json;charset=utf-8"), ("ce_specversion", b"1.0")]),
        (EVENT, STRUCTURED),
        (EVENT, [("content-type", b"Application/cloudevents+json".lower())]),
        ({**EVENT, "datacontenttype": "application/json"}, STRUCTURED),
        ({**EVENT, "data": ..., "data_base64": b64encode(encoded(ROW)).decode()}, STRUCTURED),
    ],
)
def test_both_modes_of_a_cloud_event_give_the_event_in_its_data(value: Any, headers: Headers) -> None:
    assert read(CloudEvents(), {name: found for name, found in value.items() if found is not ...}, headers) == PAYMENT


@pytest.mark.parametrize(
    ("value", "headers", "says"),
    [
        (ROW, [], "no CloudEvent: it has neither a header `ce_specversion`.*nor a `content-type`"),
        (ROW, None, "headers are gone, or the name of one is not UTF-8"),
        (ROW, [("ce_specversion", b"0.3")], "version '0.3'; 1.0 is read"),
        (ROW, [("ce_specversion", None)], "version ''"),
        (ROW, [*BINARY[1:], ("content-type", b"application/avro")], "data of the CloudEvent is 'application/avro'"),
        ({"card": "c7"}, BINARY, "missing required field `amount`"),
        (EVENT, BINARY, "missing required field `card`"),
        (ROW, STRUCTURED, "missing required field `specversion`"),
        ({**EVENT, "specversion": "2.0"}, STRUCTURED, "version '2.0'"),
        ({"specversion": "1.0", "id": "1"}, STRUCTURED, "no member `data`"),
        (
            {**EVENT, "data": {**ROW, "amount": "much"}},
            STRUCTURED,
            r"Expected `float`, got `str` - at `\$.data.amount`",
        ),
        ({**EVENT, "datacontenttype": "text/xml"}, STRUCTURED, "data of the CloudEvent is 'text/xml'"),
        ({"specversion": "1.0", "data_base64": "?"}, STRUCTURED, "base64"),
        (b"[]", [("content-type", b"application/cloudevents-batch+json")], "one event a record"),
        (b"{", STRUCTURED, "truncated"),
    ],
)
def test_another_shape_is_told_in_words(value: Any, headers: Headers, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        read(CloudEvents(), value, headers)


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_a_cloud_event_that_is_produced_is_one_to_the_library_of_cloud_events_and_to_the_stream(mode: Any) -> None:
    written = CloudEvents(source="/shop", event_type="shop.payment", mode=mode)
    record, headers = produced(written)
    decode = kafka.from_binary if mode == "binary" else kafka.from_structured
    found = decode(kafka.KafkaMessage(headers, None, record.value or b""), JSONFormat(), CloudEvent)
    assert (found.get_source(), found.get_type(), found.get_time()) == ("/shop", "shop.payment", NOON)
    assert found.get_data() == ROW
    assert read(CloudEvents(), record.value, list(headers.items())) == PAYMENT
    again, others = produced(written)
    assert (again.value, others) != (record.value, headers), "each event has an id of its own"


def test_source_and_type_are_the_topic_and_the_class_if_nothing_is_said() -> None:
    _, headers = produced(CloudEvents())
    assert (headers["ce_source"], headers["ce_type"], headers["ce_time"]) == (
        b"/payments", b"Payment", b"2023-11-14T12:00:00+00:00",
    )  # fmt: skip


@pytest.mark.parametrize("encode", [kafka.to_binary, kafka.to_structured])
def test_events_of_the_library_of_cloud_events_are_read(encode: Any) -> None:
    attributes = {"id": "1", "source": "/shop", "type": "payment", "datacontenttype": "application/json"}
    message = encode(CloudEvent({**attributes, "specversion": "1.0"}, ROW), JSONFormat())
    assert read(CloudEvents(), message.value, list(message.headers.items())) == PAYMENT


def test_a_mode_of_another_name_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"'batch'.*give 'binary' or 'structured'"):
        CloudEvents(mode="batch")  # type: ignore[arg-type]


# -- Debezium ---------------------------------------------------------------------------------------------------------

SOURCE = {"version": "3.0.0.Final", "connector": "postgresql", "name": "db", "ts_ms": 1_699_963_200_000}


def change(operation: str, *, before: Any = None, after: Any = None) -> dict[str, Any]:
    return {"before": before, "after": after, "source": SOURCE, "op": operation, "ts_ms": 1_699_963_200_123}


def wrapped(payload: Any) -> dict[str, Any]:
    return {"schema": {"type": "struct", "fields": [], "name": "db.public.payments.Envelope"}, "payload": payload}


@pytest.mark.parametrize("wrap", [wrapped, lambda payload: payload])
@pytest.mark.parametrize("operation", ["c", "u", "r"])
def test_a_change_gives_the_row_after_it_with_and_without_the_schema(wrap: Any, operation: str) -> None:
    assert read(Debezium(), wrap(change(operation, before={**ROW, "amount": 1.0}, after=ROW))) == PAYMENT


@pytest.mark.parametrize("wrap", [wrapped, lambda payload: payload])
@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (change("d", before=ROW), r"a delete \(op `d`\)"),
        (change("t"), r"a truncate \(op `t`\)"),
        (change("x", after=ROW), "unknown op 'x'"),
        (change("u", before=ROW), "op `u`, and no row `after` it"),
        ({**ROW}, "no Debezium envelope with `op`.*ExtractNewRecordState"),
        (change("c", after={"card": "c7"}), "missing required field `amount`"),
    ],
)
def test_a_change_without_a_row_is_told_in_words(wrap: Any, payload: Any, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        read(Debezium(), wrap(payload))


def test_a_tombstone_is_a_dead_letter_in_each_format() -> None:
    for each in (Json(), CloudEvents(), Debezium()):
        rows = judged(payments(each), [None], [BINARY])
        assert rows.get_column("__error").to_list() == ["the record has no value (a tombstone)"]


@pytest.mark.parametrize(
    ("written", "value", "headers"),
    [
        (Debezium(), {"op": "\u00ad" * 400_000}, ()),
        (CloudEvents(), ROW, [("ce_specversion", b"\0" * 400_000)]),
    ],
)
def test_an_error_is_short_enough_for_the_headers_of_a_dead_letter(
    written: RecordFormat, value: Any, headers: Headers
) -> None:
    (error,) = judged(payments(written), [encoded(value)], [headers]).get_column("__error")
    assert 1_000 < len(error) < 3_000


def test_a_producer_does_not_write_the_changes_of_a_database() -> None:
    with pytest.raises(DefinitionError, match="a Debezium connector writes this topic"):
        produced(Debezium())


# -- all of them ------------------------------------------------------------------------------------------------------

records = st.tuples(
    st.sampled_from(
        [None, b"", b"{", b"null", b"\xff", *map(encoded, (ROW, EVENT, change("c", after=ROW), change("d")))]
    ),
    st.sampled_from([(), None, BINARY, STRUCTURED, [("ce_specversion", b"\xff")]]),
)


@given(st.sampled_from([Json(), CloudEvents(), Debezium()]), st.lists(records, min_size=1, max_size=6))
def test_a_verdict_depends_on_the_record_alone(written: RecordFormat, found: list[tuple[Any, Headers]]) -> None:
    stream = payments(written)
    values, headers = [value for value, _ in found], [own for _, own in found]
    together = judged(stream, values, headers)
    for place, (value, own) in enumerate(found):
        alone = judged(stream, [value], [own])
        assert_frame_equal(together.slice(place, 1).drop("__offset"), alone.drop("__offset"))
