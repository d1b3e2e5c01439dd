"""Tables: their definitions, what becomes of their records, and the newest rows that views over them have."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal  # noqa: TC003 - the event types read it
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from uuid import UUID

import fastavro
import msgspec
import numpy as np
import polars as pl
import pytest
from confluent_kafka import Message

from headrace import (
    Avro,
    CloudEvents,
    Count,
    Debezium,
    Entity,
    Event,
    EventProducer,
    FeatureView,
    Label,
    Places,
    Stream,
    Table,
    after,
    col,
    load_settings,
)
from headrace.app.data_profile import _of_project
from headrace.app.doctor import kafka
from headrace.base.times import epoch_us
from headrace.bus.producer import _record
from headrace.bus.schemas.schema_store import SchemaStore
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream_spec import StreamSpec
from headrace.bus.topics import STAMPED, TopicIncarnation
from headrace.errors import DefinitionError
from headrace.event_log.columns import log_schema
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.definitions.spec import read_spec, spec_hash, to_document
from headrace.features.definitions.view_spec import ViewSpec
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory
from headrace.streams.deployments.deployment import Deployed, decode, encode
from headrace.streams.deployments.spec_diff import changes
from headrace.streams.plane.record_judge import PartitionRecords
from headrace.streams.plane.table_judge import judge_of
from headrace.trainers.definition_checks import check_is_no_table
from tests.support.schema_registries import MemorySchemaRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START = datetime(2026, 1, 1, tzinfo=UTC)
START_US = epoch_us(START)
TOPIC_ID = b"t" * 16


class Customer(Event):
    """A row of the table of customers."""

    customer_id: int
    plan: str
    credit_limit: float | None
    active: bool = True


customers = Table("shop.public.customers", Customer, key="customer_id", format=Debezium())
upserts = Table("customers", Customer, key="customer_id")
customer = Entity("customer", keys={"customer_id": int})


def view(source: Stream = upserts, **more: Any) -> FeatureView:
    given: dict[str, Any] = {"features": ["credit_limit", "active"], **more}
    return FeatureView("customer", customer, source, **given)


Rows: TypeAlias = "Sequence[tuple[bytes | None, bytes | None]]"
"""Key and value of each record."""


def judged(table: Stream, records: Rows, seconds: list[int] | None = None, partition: int = 0) -> Any:
    times = list(range(len(records))) if seconds is None else seconds
    stamps = np.array([START_US + second * 1_000_000 for second in times], np.int64)
    keys, values = [key for key, _ in records], [value for _, value in records]
    given = PartitionRecords(np.arange(len(records)), stamps, keys, values, [()] * len(records))
    return judge_of(table).rows(TOPIC_ID, partition, given, NO_CLOCK)


def newest(of: FeatureView, rows: Any, key: Any, below: int | None = None) -> list[Any]:
    """The values of one key after the rows below an offset."""
    history = ViewHistory(of.spec, rows)
    name = of.spec.key_names[0]
    ends = np.array([[rows.height if below is None else below] * len(history.sources)])
    keys = pl.DataFrame({name: pl.Series([key], dtype=rows.schema[name])})
    queries = PointInTimeQueries(keys, np.array([START_US + 3_600_000_000]), ends, history.sources)
    return [values[0].item() if there[0] else None for values, there in history.values(queries)]


def row(customer_id: int, limit: float | None, *, plan: str = "gold", active: bool = True) -> bytes:
    return json.dumps({"customer_id": customer_id, "plan": plan, "credit_limit": limit, "active": active}).encode()


def change(op: str, before: bytes | None, after_: bytes | None, *, wrapped: bool = False) -> bytes:
    envelope = {
        "op": op,
        "before": None if before is None else json.loads(before),
        "after": None if after_ is None else json.loads(after_),
        "source": {"ts_ms": 1_700_000_000_000, "table": "customers"},
        "ts_ms": 1_700_000_000_500,
    }
    return json.dumps({"schema": {}, "payload": envelope} if wrapped else envelope).encode()


# -- definitions ----------------------------------------------------------------------------------------------------


def test_a_table_is_a_stream_with_a_mark_of_its_own() -> None:
    assert isinstance(upserts, Stream)
    assert (upserts.spec.table, upserts.spec.event_time) == (True, "__available_at")
    assert upserts.spec.kinds["__op"] == "str"
    stream = Stream("clicks", Changed, event_time="changed_at")
    assert "table" not in to_document(stream.spec)
    assert "__op" not in stream.spec.kinds
    assert list(log_schema(upserts))[-5:] == ["__op", "customer_id", "plan", "credit_limit", "active"]


class Changed(Event):
    """A row that says when it was changed."""

    id: str
    amount: float
    changed_at: datetime
    since: date | None = None


class Keyed(Event):
    """Keys that no record key can have."""

    amount: float
    at: datetime
    inner: Changed


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Table("t", Customer), "has no key"),
        (lambda: Table("t", Customer, key=["plan", "plan"]), "names one twice"),
        (lambda: Table("t", Customer, key="customer_id", unique="plan", within="1d"), "a table has no duplicates"),
        (lambda: Table("t", Customer, key="nobody"), "has no field 'nobody'"),
        (lambda: Table("t", Keyed, key="amount"), "no plain field of the kind str or int"),
        (lambda: Table("t", Keyed, key="inner.id"), "no plain field"),
        (lambda: Table("t", Customer, key="customer_id", format=CloudEvents()), r"from Json\(\) or Debezium\(…\)"),
        (lambda: Table("t", Customer, key="customer_id", format=Avro()), r"from Json\(\) or Debezium\(…\)"),
        (lambda: Table("t", Changed, key="id", event_time="changed_at", format=Debezium()), "Leave it out"),
        (lambda: Table("t", Changed, key="id", event_time="amount"), "is not a required datetime field"),
        (lambda: Table("t", Changed, key="id", available_at="amount"), "is not a required datetime field"),
        (lambda: Table("t", Changed, key="id", available_at=after("5m")), "needs an event_time"),
        (lambda: Table("t", Keyed, key="amount", event_time="inner.changed_at"), "nested field"),
    ],
)
def test_a_table_that_cannot_work_is_refused(made: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        made()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: view(windows=["1h"]), "a table has the newest rows, and no windows"),
        (lambda: view(features=[]), "needs at least one feature"),
        (lambda: view(features={"n": Count()}), "a table has no aggregates"),
        (lambda: view(features=Count()), "over a table write names of columns"),
        (lambda: view(features=[["credit_limit"]]), r"features has \['credit_limit'\]; over a table write names"),
        (lambda: view(features="credit_limit"), "over a table write names of columns"),
        (lambda: view(features=["nothing"]), "no column 'nothing'|has no field 'nothing'|nothing"),
        (lambda: view(where=col("credit_limit")), "a filter is bool"),
        (
            lambda: FeatureView("plans", Entity("plan"), upserts, features=["active"]),
            r"has the join keys \['plan'\], the table 'customers' the key \['customer_id'\]",
        ),
        (
            lambda: FeatureView("t", Entity("id"), Stream("s", Changed, "changed_at"), ["1h"], {"amount": "amount"}),
            "write an aggregate",
        ),
        (
            lambda: FeatureView("t", Entity("id"), Stream("s", Changed, "changed_at"), ["1h"], ["amount"]),
            "write a dict",
        ),
    ],
)
def test_a_view_that_cannot_work_is_refused(made: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        made()


def test_the_columns_of_a_view_over_a_table_have_no_window() -> None:
    made = view(features={"limit": "credit_limit", "is_gold": col("plan") == "gold"})
    assert made.spec.columns == ["customer__limit", "customer__is_gold"]
    assert made.spec.column_kinds == {"customer__limit": "float", "customer__is_gold": "bool"}
    again = read_spec(to_document(made.spec), ViewSpec, "the view")
    assert again.version == made.version != view(upserts).version != view(customers).version


def test_the_specs_and_their_hashes_never_change() -> None:
    source = (
        b'{"topic":"shop.public.customers","event":"Customer","fields":[{"name":"customer_id","kind":"int","many":fals'
        b'e,"nullable":false},{"name":"plan","kind":"str","many":false,"nullable":false},{"name":"credit_limit","kind"'
        b':"float","many":false,"nullable":true},{"name":"active","kind":"bool","many":false,"nullable":false}],"event'
        b'_time":"__available_at","key":["customer_id"],"lateness_us":3600000000,"tolerance_us":300000000,"available_a'
        b't":"record","format":"debezium","table":true}'
    )
    features = (
        b'"features":[{"aggregate":"row_value","name":"credit_limit","value":["col","credit_limit"],"where":["ne",["co'
        b'l","__op"],["lit","delete"]]},{"aggregate":"row_value","name":"active","value":["col","active"],"where":["ne'
        b'",["col","__op"],["lit","delete"]]}]'
    )
    assert msgspec.json.encode(customers.spec) == source
    assert features in msgspec.json.encode(view(customers).spec)
    assert (view(customers).version, spec_hash(customers.spec)) == ("0d07af5aa72fbe07", "e78e0d2b15141d58")


def test_a_tile_has_these_bytes() -> None:
    """docs/reference/online-format.md: time, offset, whether there is a value, and the value of each feature."""
    rows = with_time(judged(upserts, [(b"1", row(1, 2.5)), (b"1", row(1, None)), (b"1", None)]), "__available_at")
    lifted = kernel(view().spec).lift(rows)
    assert [tuple(each)[1:] for each in lifted.tolist()] == [
        (START_US, 0, 1, 2.5, START_US, 0, 1, 1),
        (START_US + 1_000_000, 1, 0, 0.0, START_US + 1_000_000, 1, 1, 1),
        (START_US + 2_000_000, 2, 0, 0.0, START_US + 2_000_000, 2, 0, 0),
    ]


def test_an_older_reader_refuses_a_table_by_name() -> None:
    document = to_document(upserts.spec)
    assert document["table"] is True
    with pytest.raises(DefinitionError, match="`other`"):
        read_spec(document | {"other": 1}, StreamSpec, "the stream")


# -- upserts and tombstones -----------------------------------------------------------------------------------------


def test_the_last_row_counts_and_a_tombstone_takes_it_away() -> None:
    rows = judged(upserts, [(b"1", row(1, 100.0)), (b"1", row(1, None)), (b"1", None), (b"1", row(1, 5.0))])
    assert rows["__verdict"].to_list() == ["accepted"] * 4
    assert rows["__op"].to_list() == ["upsert", "upsert", "delete", "upsert"]
    assert rows["customer_id"].to_list() == [1, 1, 1, 1]
    assert [newest(view(), rows, 1, below) for below in range(5)] == [
        [None, None], [100.0, True], [None, True], [None, None], [5.0, True],
    ]  # fmt: skip


def test_a_delete_of_an_unknown_key_changes_nothing_and_an_update_before_the_insert_is_the_row() -> None:
    rows = judged(upserts, [(b"2", None), (b"1", row(1, 7.0)), (b"3", None)])
    assert rows["__verdict"].to_list() == ["accepted"] * 3
    assert newest(view(), rows, 2) == [None, None]
    assert newest(view(), rows, 1) == [7.0, True]


def test_a_tombstone_in_a_stream_is_still_a_dead_letter() -> None:
    rows = judged(Stream("s", Changed, event_time="changed_at"), [(b"1", None)])
    assert rows["__reason"].to_list() == ["decode"]
    assert rows["__error"].to_list() == ["the record has no value (a tombstone)"]


def test_a_null_key_is_a_dead_letter() -> None:
    nobody = Table("t", Maybe, key="id")
    rows = judged(nobody, [(None, None), (b'{"id": null}', None), (b"7", b'{"id": null, "amount": 1}'), (b"7", None)])
    assert rows["__reason"].to_list() == ["missing_key"] * 3 + [None]
    assert rows["__error"].to_list()[0] == "key field 'id' is null"


class Maybe(Event):
    """A key that may be null."""

    id: int | None
    amount: float


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (b"x", "not that of a row, 'customer_id'"),
        (b"{}", "missing required field `customer_id`"),
        (b'{"customer_id": "x"}', "Expected `int`, got `str`"),
        (b"{", "not that of a row"),
        (b"\xff", "not utf-8|not that of a row"),
        (b"99999999999999999999", "64 bits"),
        (b"", "not that of a row"),
    ],
)
def test_a_tombstone_whose_key_cannot_be_read_is_a_dead_letter_with_its_bytes(key: bytes, said: str) -> None:
    rows = judged(upserts, [(b"1", row(1, 1.0)), (key, None), (b"1", row(1, 2.0))])
    assert rows["__reason"].to_list() == [None, "decode", None]
    assert rows["__key"].to_list() == [None, key, None]
    assert re.search(said, rows["__error"][1])
    assert newest(view(), rows, 1) == [2.0, True]


class Pair(Event):
    """Two key fields of other kinds."""

    shop: Literal["a", "b|c", "d"]
    id: UUID
    n: int


@pytest.mark.parametrize(
    ("name", "event", "key", "found"),
    [
        ("customer_id", Customer, b"7", [7]),
        ("customer_id", Customer, b'{"customer_id": 7}', [7]),
        ("customer_id", Customer, b'{"schema": {"type": "struct"}, "payload": {"customer_id": 7}}', [7]),
        ("id", Changed, b"c7", ["c7"]),
        ("id", Changed, b'"c7"', ["c7"]),
        ("id", Changed, b"a|b", ["a|b"]),
        ("id", Changed, b'{"id": "c7", "more": 1}', ["c7"]),
        (["shop", "id"], Pair, b"a|" + b"0" * 32, ["a", "00000000-0000-0000-0000-000000000000"]),
    ],
)
def test_the_forms_of_a_record_key(name: Any, event: Any, key: bytes, found: list[Any]) -> None:
    table = Table("t", event, key=name)
    rows = judged(table, [(key, None)])
    assert rows["__error"].to_list() == [None]
    assert [rows[each][0] for each in table.key_fields] == found


def test_a_producer_writes_the_rows_of_a_table_with_their_key() -> None:
    record = _record(upserts, Customer(customer_id=7, plan="gold", credit_limit=1.0), None)
    assert record.key == b"7"
    rows = judged(upserts, [(record.key, record.value), (record.key, None)])
    assert rows["customer_id"].to_list() == [7, 7]
    with pytest.raises(DefinitionError, match="Debezium connector writes this topic"):
        _record(customers, Customer(customer_id=7, plan="gold", credit_limit=1.0), None)


def test_a_producer_deletes_rows_of_tables_that_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(EventProducer, "put", lambda _, *of, **more: sent.append((*of, more)))
    producer = EventProducer("127.0.0.1:1")
    pairs = Table("pairs", Pair, key=["shop", "id"])
    producer.delete(upserts, {"customer_id": 7})
    producer.delete(pairs, {"id": UUID(int=1), "shop": "a"})
    assert [(topic, key, value) for topic, key, value, _ in sent] == [
        ("customers", b"7", None),
        ("pairs", b"a|00000000-0000-0000-0000-000000000001", None),
    ]
    for table, key, said in (
        (upserts, {}, r"has the key \['customer_id'\]; {} cannot be deleted"),
        (upserts, {"customer_id": 7, "plan": "x"}, "has the key"),
        (timed_stream, {}, "it is no table"),
        (customers, {"customer_id": 7}, "a Debezium connector writes this topic"),
        (upserts, {"customer_id": "seven"}, "cannot be deleted.*Expected `int`"),
        (upserts, {"customer_id": None}, "cannot be deleted"),
    ):
        with pytest.raises(DefinitionError, match=said):
            producer.delete(table, key)  # type: ignore[arg-type]
    assert len(sent) == 2


class Named(Event):
    """A row whose key may be any text."""

    name: str
    area: str = ""


@pytest.mark.parametrize(
    "name", ["a", "", '"a"', '"', "{a", '{"name":"b"}', ' {"name":"b"}', "a|b", "None", "null", "\0"]
)
def test_a_row_of_any_key_is_deleted_by_the_record_key_that_it_was_sent_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(EventProducer, "put", lambda _, *of, **more: sent.append((*of, more)))
    for keys in (["name"], ["name", "area"]):
        table = Table("named", Named, key=keys)
        EventProducer("127.0.0.1:1").delete(table, {"name": name, "area": "x"} if len(keys) > 1 else {"name": name})
        record = _record(table, Named(name=name, area="x"), None)
        assert sent[-1][1] == record.key
        rows = judged(table, [(record.key, record.value), (record.key, None)])
        assert rows["__op"].to_list() == ["upsert", "delete"]
        assert rows["name"].to_list() == [name, name]


# -- event times ----------------------------------------------------------------------------------------------------


def changed(id_: str, amount: float, minute: int) -> tuple[bytes, bytes]:
    at = (START + timedelta(minutes=minute)).isoformat()
    return id_.encode(), json.dumps({"id": id_, "amount": amount, "changed_at": at}).encode()


def amounts(source: Table) -> FeatureView:
    return FeatureView("changed", Entity("id"), source, features=["amount"])


def test_event_times_out_of_order_the_newest_version_counts_and_a_tombstone_is_as_late_as_it_was_available() -> None:
    table = Table("t", Changed, key="id", event_time="changed_at")
    records = [changed("a", 1.0, 5), changed("a", 2.0, 3), (b"a", None), changed("a", 3.0, 9), changed("a", 4.0, 20)]
    rows = judged(table, records, [600, 601, 602, 603, 1200])
    assert [newest(amounts(table), rows, "a", below) for below in range(6)] == [
        [None], [1.0], [1.0], [None], [None], [4.0],
    ]  # fmt: skip
    assert rows["changed_at"][2] == START + timedelta(seconds=602)


def test_without_event_times_the_order_of_the_partition_counts() -> None:
    table = Table("t", Changed, key="id")
    rows = judged(table, [changed("a", 1.0, 5), changed("a", 2.0, 3), (b"a", None), changed("a", 3.0, 1)])
    assert [newest(amounts(table), rows, "a", below) for below in range(5)] == [[None], [1.0], [2.0], [None], [3.0]]


def test_two_partitions_have_a_key_the_later_available_one_counts_then_the_larger_partition() -> None:
    one = judged(upserts, [(b"1", row(1, 1.0)), (b"1", None)], [10, 20])
    for second, limit in ((15, None), (20, 2.0), (30, 2.0)):
        other = judged(upserts, [(b"1", row(1, 2.0))], [second], partition=1)
        assert newest(view(features=["credit_limit"]), one.vstack(other), 1) == [limit]
    assert newest(view(features=["credit_limit"]), one.vstack(other), 1, 1) == [2.0]


def test_the_time_of_a_field_may_say_what_was_available() -> None:
    table = Table("t", Changed, key="id", available_at="changed_at")
    rows = judged(table, [changed("a", 1.0, 5), (b"a", None), changed("a", 2.0, 3)], [600, 600, 600])
    assert rows["__available_at"].to_list() == [START + timedelta(minutes=5)] * 3
    assert newest(amounts(table), rows, "a") == [2.0]


# -- Debezium -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [True, False])
def test_the_operations_of_debezium(wrapped: bool) -> None:
    key = b'{"customer_id": 1}'
    old = b'{"customer_id": 1, "plan": "", "credit_limit": null}'
    records: Rows = [
        (key, change("r", None, row(1, 1.0), wrapped=wrapped)),
        (key, change("u", row(1, 1.0), row(1, 2.0), wrapped=wrapped)),
        (key, change("d", old, None, wrapped=wrapped)),
        (key, None),
        (key, change("c", None, row(1, 3.0), wrapped=wrapped)),
        (key, change("d", None, None, wrapped=wrapped)),
        (key, change("t", None, None, wrapped=wrapped)),
        (key, change("m", None, None, wrapped=wrapped)),
        (key, change("u", None, row(1, 4.0), wrapped=wrapped)),
    ]
    rows = judged(customers, records)
    assert rows["__reason"].to_list() == [None] * 6 + ["decode", "decode", None]
    assert "truncate" in rows["__error"][6]
    assert rows["__op"].to_list()[:6] == ["upsert", "upsert", "delete", "delete", "upsert", "delete"]
    found = [newest(view(customers, features=["credit_limit"]), rows, 1, below)[0] for below in range(10)]
    assert found == [None, 1.0, 2.0, None, None, 3.0, None, None, None, 4.0]


def test_a_delete_and_an_insert_of_one_transaction_leave_the_new_row() -> None:
    key = b'{"customer_id": 1}'
    records = [(key, change("d", row(1, 1.0), None)), (key, None), (key, change("c", None, row(1, 2.0)))]
    assert newest(view(customers), judged(customers, records, [5, 5, 5]), 1) == [2.0, True]


def test_a_delete_takes_its_key_from_before_or_from_the_record() -> None:
    records: Rows = [
        (None, change("d", row(1, 1.0), None)),
        (b'{"customer_id": 2}', change("d", None, None)),
        (b'{"customer_id": 3}', change("d", b'{"other": 1}', None)),
        (None, change("d", None, None)),
        (b'{"other": 2}', change("d", None, None)),
        (b'{"customer_id": 5}', b"garbage"),
        (b'{"customer_id": 5}', b"{}"),
    ]
    rows = judged(customers, records)
    assert rows["customer_id"].to_list()[:3] == [1, 2, 3]
    assert rows["__reason"].to_list() == [None] * 3 + ["missing_key", "decode", "decode", "decode"]


def in_avro(content: Any, schema: Any, number: int) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), content)
    return b"\0" + number.to_bytes(4, "big") + body.getvalue()


KEY = {"type": "record", "name": "Key", "fields": [{"name": "customer_id", "type": "int"}]}
VALUE = {
    "type": "record", "name": "Value", "fields": [
        {"name": "customer_id", "type": "int"}, {"name": "plan", "type": "string"},
        {"name": "credit_limit", "type": ["null", "double"]},
    ],
}  # fmt: skip
ENVELOPE = {
    "type": "record", "name": "Envelope", "fields": [
        {"name": "before", "type": ["null", VALUE]}, {"name": "after", "type": ["null", "Value"]},
        {"name": "op", "type": "string"},
    ],
}  # fmt: skip


def test_changes_in_avro_and_tombstones_whose_keys_are_in_avro() -> None:
    registry, content = MemorySchemaRegistry(), {"customer_id": 7, "plan": "gold", "credit_limit": 2.5}
    of_key, of_value = registry.add(KEY), registry.add(ENVELOPE)
    key = in_avro({"customer_id": 7}, KEY, of_key)
    created = in_avro({"before": None, "after": content, "op": "c"}, ENVELOPE, of_value)
    deleted = in_avro({"before": content, "after": None, "op": "d"}, ENVELOPE, of_value)
    table = Table("t", Customer, key="customer_id", format=Debezium(Avro()))
    judge = judge_of(table, SchemaStore(registry))
    records = [(key, created), (key, None), (key, created), (None, deleted), (b"7", created), (b"7", None)]
    given = PartitionRecords(
        np.arange(6), np.full(6, START_US), [key for key, _ in records], [value for _, value in records]
    )
    rows = judge.rows(TOPIC_ID, 0, given, NO_CLOCK)
    assert rows["__reason"].to_list() == [None] * 5 + ["decode"]
    assert rows["__op"].to_list()[:5] == ["upsert", "delete", "upsert", "delete", "upsert"]
    assert rows["customer_id"].to_list()[:5] == [7] * 5

    registry.is_away, later = True, judge_of(table, SchemaStore(registry))
    tombstone = Message(topic="t", partition=0, offset=3, key=key, value=None)
    change = Message(topic="t", partition=0, offset=4, key=None, value=created)
    for messages, schema_id, position in (
        ([tombstone, change], of_key, 0),
        ([change, tombstone], of_value, 0),
        ([change], of_value, 0),
    ):
        awaited = later.awaited(messages)
        assert awaited is not None
        assert (awaited.schema_id, awaited.position) == (schema_id, position)
    assert judge.awaited([tombstone, change]) is None


# -- views ----------------------------------------------------------------------------------------------------------


class Account(Event):
    """All kinds that a feature can have."""

    id: str
    balance: Annotated[Decimal, Places(2)] | None
    level: int
    opened: datetime
    note: str | None = None


def test_decimals_numbers_bools_parts_of_times_and_comparisons_are_features() -> None:
    accounts = Table("accounts", Account, key="id")
    made = FeatureView(
        "account",
        Entity("id"),
        accounts,
        features={
            "balance": "balance",
            "level": "level",
            "year": col("opened").year(),
            "has_note": ~col("note").is_null(),
            "is_vip": col("note").fill_null("vip") == "vip",
            "twice": col("doubled"),
        },
        derived={"doubled": col("level") * 2},
    )
    value = b'{"id": "a", "balance": 12.34, "level": 9007199254740993, "opened": "2024-05-01T00:00:00Z"}'
    rows = judged(accounts, [(b"a", value), (b"a", None)])
    assert newest(made, rows, "a", 1) == [12.34, 9007199254740993, 2024, False, True, 18014398509481986]
    assert newest(made, rows, "a", 2) == [None] * 6


def test_where_takes_a_row_away_while_it_is_not_true() -> None:
    gold = view(where=col("plan") == "gold")
    rows = judged(upserts, [(b"1", row(1, 1.0)), (b"1", row(1, 2.0, plan="free")), (b"1", row(1, 3.0))])
    assert [newest(gold, rows, 1, below) for below in range(1, 4)] == [[1.0, True], [None, None], [3.0, True]]


# -- elsewhere -------------------------------------------------------------------------------------------------------


def test_requests_and_labels_are_no_tables() -> None:
    with pytest.raises(DefinitionError, match="stream is the table 'customers'; it has to be a Stream"):
        Label(upserts, value=col("active"), on="customer_id", within="1d")
    with pytest.raises(DefinitionError, match="requests is the table 'customers'"):
        check_is_no_table("model 'm': requests", upserts)


def test_a_view_over_a_table_is_deployed_and_told_from_one_over_a_stream() -> None:
    deployed = Deployed(
        id="d", namespace="n", expects=None, views=[view().spec, view(customers).spec], services=[], at_us=3
    )
    assert decode(encode(deployed)) == deployed
    timed = Table("t", Changed, key="id", event_time="changed_at")
    assert "stream: event_time" in changes(amounts(Table("t", Changed, key="id")).spec, amounts(timed).spec)


def test_a_view_of_several_sources_has_no_table_among_them() -> None:
    with pytest.raises(DefinitionError, match="it is a Table"):
        FeatureView("t", Entity("id"), [timed_stream, Table("t", Changed, key="id")], ["1h"], {"n": Count()})


timed_stream = Stream("s", Changed, event_time="changed_at")


def test_a_profile_of_a_table_has_its_rows_without_the_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / "events")
    log.create(upserts)
    source = SourcePartition(0, TOPIC_ID)
    rows = judged(upserts, [(b"1", row(1, 100.0)), (b"1", None), (b"2", b"{"), (b"2", row(2, 5.0))])
    LogWriter(log, upserts).append(rows, {source: None}, {source: 4})
    monkeypatch.setattr(
        "headrace.app.project.project.load_project",
        lambda _: SimpleNamespace(models={}, streams={"customers": upserts}),
    )
    found = _of_project("customers", load_settings({"data_dir": str(tmp_path)}))
    assert found.frame["credit_limit"].to_list() == [100.0, 5.0]
    assert found.time in found.frame.columns


def test_a_compacted_topic_is_no_error_for_a_table() -> None:
    there, config = TopicIncarnation(TOPIC_ID, 3), {"cleanup.policy": "compact", "retention.ms": "-1"}
    config[STAMPED] = "LogAppendTime"
    found = list(kafka._check_stream(upserts, there, config))
    assert [each.severity for each in found] == ["ok", "ok"]
    assert "keeps each version of a row that a worker has read" in found[1].found
    short = config | {"delete.retention.ms": "60000"}
    assert [each.severity for each in kafka._check_stream(upserts, there, short)] == ["ok", "ok", "warning"]
    week = config | {"cleanup.policy": "compact,delete", "retention.ms": "604800000"}
    assert [each.severity for each in kafka._check_stream(upserts, there, week)] == ["ok", "ok", "warning"]
    hour = config | {"cleanup.policy": "delete", "retention.ms": "3600000"}
    assert [each.severity for each in kafka._check_stream(upserts, there, hour)] == ["ok", "warning"]
    kept = config | {"cleanup.policy": "delete"}
    assert [each.severity for each in kafka._check_stream(upserts, there, kept)] == ["ok"]
    stream = Stream("s", Changed, event_time="changed_at")
    assert [each.severity for each in kafka._check_stream(stream, there, config)] == ["ok", "error"]


# -- the event log --------------------------------------------------------------------------------------------------


def test_a_stream_does_not_become_a_table_nor_a_table_a_stream(tmp_path: Any) -> None:
    log = EventLog(tmp_path)
    stream = Stream("t", Changed, event_time="changed_at", key="id")
    table = Table("t", Changed, key="id")
    log.create(stream)
    with pytest.raises(DefinitionError, match="'t' is a table now, and was a stream"):
        log.create(table)
    other = EventLog(tmp_path / "other")
    other.create(table)
    other.create(table)
    assert dict(other.empty("t").schema) == log_schema(table)
    with pytest.raises(DefinitionError, match="'t' is a stream now, and was a table"):
        other.create(stream)


def test_records_of_a_table_give_the_same_rows_in_any_cut() -> None:
    records = [(b"1", row(1, 1.0)), (b"1", None), (b"x", None), (b"2", b"bad"), (b"2", row(2, 5.0))]
    whole = judged(upserts, records, [3, 1, 4, 1, 5])
    source, clock, parts = SourcePartition(0, TOPIC_ID), NO_CLOCK, []
    for place, (key, value) in enumerate(records):
        stamp = START_US + [3, 1, 4, 1, 5][place] * 1_000_000
        given = PartitionRecords(np.array([place]), np.array([stamp]), [key], [value])
        parts.append(judge_of(upserts).rows(source.topic_id, 0, given, clock))
        clock = parts[-1]["__available_at"].dt.epoch("us")[0]
    assert whole.equals(parts[0].extend(parts[1]).extend(parts[2]).extend(parts[3]).extend(parts[4]))
