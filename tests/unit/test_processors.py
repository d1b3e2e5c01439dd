"""Definitions of processors: what they refuse, what they give, and where a project finds them."""

from __future__ import annotations

from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from headrace import Event, Processor, Stream, Table, processor
from headrace.app.project.project import collect
from headrace.bus.producer import record_of
from headrace.errors import CodecError, DefinitionError
from headrace.streams.processors.processor import feeding_themselves
from headrace.streams.processors.processor_run import owned_records

if TYPE_CHECKING:
    from collections.abc import Iterator


class Payment(Event):
    card: str
    amount: float
    paid_at: datetime


class Alert(Event):
    card: str | None
    raised_at: datetime


class Receipt(Alert):
    pass


payments = Stream("payments", Payment, event_time="paid_at", key="card")
alerts = Stream("alerts", Alert, event_time="raised_at", key="card")
receipts = Stream("receipts", Receipt, event_time="raised_at")
NOW = datetime(2026, 3, 2, tzinfo=UTC)
PAID = Payment(card="c7", amount=5.0, paid_at=NOW)


def test_the_type_of_an_event_says_to_which_stream_it_goes() -> None:
    @processor(payments, into=[alerts, receipts])
    def both(batch: list[Payment]) -> Iterator[Alert]:
        for payment in batch:
            yield Receipt(card=payment.card, raised_at=payment.paid_at)
            yield Alert(card=payment.card, raised_at=payment.paid_at)

    assert [(stream.topic, type(event)) for stream, event in both.outputs([PAID])] == [
        ("receipts", Receipt),
        ("alerts", Alert),
    ]
    assert both([]) == []
    assert both.dead_letters == "payments.both.dead-letters"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "it returned int; return a list of events"),
        ([PAID], r"it gave Payment; give events of \['Alert'\]"),
        ([Receipt(card="c7", raised_at=NOW)], "it gave Receipt"),
        ([Alert(card=None, raised_at=NOW)], "card is null: every event of 'alerts' needs it"),
        ("text", "it gave str"),
    ],
)
def test_a_result_that_is_no_event_of_into_is_refused(given: Any, said: str) -> None:
    with pytest.raises(CodecError, match=said):
        Processor("wrong", payments, (alerts,), lambda _: given)([PAID])


def test_an_event_that_is_changed_and_yielded_again_is_each_time_what_it_was() -> None:
    @processor(payments, into=[alerts])
    def counted(batch: list[Payment]) -> Iterator[Alert]:
        alert = Alert(card="", raised_at=NOW)
        for payment in batch:
            alert.card = f"{payment.card}-{payment.amount:.0f}"
            yield alert

    batch = [PAID, Payment(card="c8", amount=6.0, paid_at=NOW)]
    assert counted(batch) == [Alert(card="c7-5", raised_at=NOW), Alert(card="c8-6", raised_at=NOW)]
    write = alerts.format.writer(alerts.topic, Alert, None)
    records = [record_of(stream, event, write, None) for stream, event in counted.outputs(batch)]
    assert [record.key for record in records] == [b"c7-5", b"c8-6"]


def test_a_function_that_gives_nothing() -> None:
    assert Processor("silent", payments, (alerts,), lambda _: None)([PAID]) == []


@pytest.mark.parametrize(
    ("name", "source", "into", "said"),
    [
        ("<lambda>", payments, (alerts,), "write @processor"),
        ("wrong", "payments", (alerts,), "source='payments' is a str; write the stream to read"),
        ("wrong", payments, (), r"into=\[\] is empty"),
        ("wrong", payments, ("alerts",), "into, item='alerts' is a str"),
        ("wrong", payments, alerts, "into="),
        ("wrong", payments, (payments,), "has 'payments', or one twice"),
        ("wrong", payments, (alerts, alerts), "or one twice"),
        ("wrong", payments, (alerts, Stream("others", Alert, event_time="raised_at")), "a type of its own"),
        ("wrong" * 50, payments, (alerts,), "too long"),
        ("wrong", Table("cards", Payment, key="card", event_time="paid_at"), (alerts,), "is a table"),
    ],
)
def test_a_wrong_definition_says_what_to_write(name: str, source: Any, into: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        Processor(name, source, into, lambda _: None)


def test_a_project_has_its_processors_and_their_streams() -> None:
    module = ModuleType("streams")
    module.alarm = Processor("alarm", payments, (alerts,), lambda _: None)  # type: ignore[attr-defined]
    found = collect([module])
    assert list(found.processors) == ["alarm"]
    assert set(found.streams) == {"payments", "alerts"}
    module.other = Processor("alarm", payments, (alerts,), lambda _: None)  # type: ignore[attr-defined]
    with pytest.raises(DefinitionError, match="two different processors of the name 'alarm'"):
        collect([module])


class _Record:
    """A record of a partition, at an offset."""

    def __init__(self, partition: int, offset: int) -> None:
        self._place = partition, offset

    def topic(self) -> str:
        return "payments"

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]


def test_records_of_a_partition_that_changed_hands_within_a_poll_are_left_out() -> None:
    """Partition 0 stays; 1 went away; 2 went away and came back, at an offset that another process has committed."""
    polled: Any = [_Record(*place) for place in [(0, 4), (1, 7), (2, 3), (2, 4), (0, 6), (2, 4), (2, 5)]]
    found = owned_records(polled, {("payments", 0): 4, ("payments", 2): 4})
    assert [(each.partition(), each.offset()) for each in found] == [(0, 4), (2, 4), (0, 6), (2, 5)]


def test_processors_that_feed_themselves_by_way_of_others_are_found() -> None:
    around = [
        Processor("alarm", payments, (alerts,), lambda _: None),
        Processor("repeat", alerts, (payments, receipts), lambda _: None),
    ]
    beside = Processor("count", receipts, (Stream("counts", Payment, event_time="paid_at"),), lambda _: None)
    assert feeding_themselves([*around, beside]) == around
    assert feeding_themselves([around[0], beside]) == []
