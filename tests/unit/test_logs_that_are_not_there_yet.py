"""Triggers that begin before a worker has made a table or a column: they wait, say so, and leave no row out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest
from msgspec import UNSET

from headrace.base.times import utc_datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.errors import NotInLogYetError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.expression import col
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.data.topic_rows import TopicRows
from headrace.trainers.definitions import Label
from headrace.trainers.process.trigger_consumer import TriggerConsumer
from headrace.trainers.runs.messages import DecisionRecord, decode
from tests.support.control_topics import DECISIONS, PREDICTIONS, VECTORS
from tests.support.orders_model import SOURCE, Order, Return, Shop, day, model, orders, returns, write

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.definitions import Model

MINUTE = 60_000_000


class WorthReturn(Event):
    """The type of a return with a new field."""

    order_id: int
    back: bool
    known_at: datetime
    worth: float = 5.0


worth = Stream("returns", WorthReturn, event_time="known_at")
newer = replace(model, label=Label(worth, value=col("worth") > 3, on="order_id", within="1d"))


def consumer(log: EventLog, of: Model) -> tuple[TriggerConsumer, list[DecisionRecord]]:
    sent: list[DecisionRecord] = []

    def send(topic: str, _key: bytes, value: bytes) -> None:
        if topic == DECISIONS:
            sent.append(decode(value, DecisionRecord))

    return TriggerConsumer([of], log, MemoryModelEventLog(), send), sent


def test_triggers_wait_for_a_new_column_and_go_on_by_themselves(tmp_path: Path) -> None:
    scene = Shop(tmp_path)
    triggers, sent = consumer(scene.log, newer)
    for minute in range(3):
        triggers.tick(day(58) + minute * MINUTE)
    (waiting,) = sent
    assert (waiting.kind, waiting.since_us) == ("error", day(58))
    assert "'returns' at" in waiting.reason
    assert "has no column 'worth' yet: a worker that is started with this definition adds it" in waiting.reason
    last = [each for each in scene.orders if each.ordered_at >= utc_datetime(day(59))]
    late = [WorthReturn(each.order_id, True, utc_datetime(day(59.9)), float(number % 2) * 5)
            for number, each in enumerate(last)]  # fmt: skip
    write(scene.log, worth, late)
    triggers.tick(day(61))
    fresh = ModelLog(newer, EventLog(tmp_path / "log"))
    decided = sent[-1].decision
    assert decided is not None
    assert decided.inputs["matured_labels"] == fresh.matured_labels(day(61)) == len(scene.orders)
    assert (sent[-1].kind, sent[-1].since_us) == ("evaluated", UNSET)


def test_triggers_wait_for_a_table_and_name_it(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    triggers, sent = consumer(log, model)
    triggers.tick(day(5))
    assert "the event log has no table of 'orders' yet" in sent[0].reason
    write(log, orders, [Order(0, "shop", 1.0, utc_datetime(day(1)))])
    triggers.tick(day(5) + MINUTE)
    assert "the event log has no table of 'returns' yet" in sent[1].reason
    write(log, returns, [Return(0, True, utc_datetime(day(1.5)))])
    for stream in (VECTORS, PREDICTIONS):
        log.create(stream)
    triggers.tick(day(5) + 2 * MINUTE)
    decided = sent[-1].decision
    assert decided is not None
    assert decided.inputs["matured_labels"] == 1


def test_rows_that_an_expression_failed_on_are_read_by_the_next_call(tmp_path: Path) -> None:
    scene, broken = Shop(tmp_path), [True]

    def check(values: pl.Series) -> pl.Series:
        if broken:
            broken.clear()
            raise RuntimeError("boom")
        return values

    rows = TopicRows.of_log(scene.log, "returns", [pl.col("order_id").map_batches(check, return_dtype=pl.Int64)])
    with pytest.raises(Exception, match="boom"):
        rows.frame()
    assert rows.frame()["order_id"].to_list() == [each.order_id for each in scene.returns]


def test_every_way_of_reading_the_log_names_a_column_that_it_lacks(tmp_path: Path) -> None:
    log = Shop(tmp_path).log
    snapshot = log.snapshot()
    for read in (
        lambda: log.reader("returns", ["worth"]).read(),
        lambda: log.reader("returns", ["worth"]).read(snapshot),
        lambda: log.select("returns", None, ["worth"]),
        lambda: list(log.scan("returns", ["worth"])),
        lambda: log.read_from("returns", SOURCE, 0, columns=["worth"]),
    ):
        with pytest.raises(NotInLogYetError, match="has no column 'worth' yet"):
            read()
