"""A worker folds the rows of a table that come from a file, beside those of its topic, until the import is undone."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from headrace import Entity, Event, FeatureClient, FeatureView, Table
from headrace.bus.event import encode
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.history_import import HistoryImport, ImportOptions, undo
from headrace.streams.imports.source_file import find_files
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.long]
LONG_AGO = datetime(2024, 1, 1, tzinfo=UTC)


class Customer(Event):
    id: int
    plan: str
    at: datetime


@contextmanager
def silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def test_a_worker_folds_rows_of_files_beside_those_of_the_topic(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    table = Table(f"{namespace}.customers", Customer, key="id")
    view = FeatureView("profile", Entity("customer", keys={"id": int}), table, features=["plan"])
    ensure_topics(services.bootstrap_servers, [TopicPlan(table.topic, 1)])
    producer = Producer({"bootstrap.servers": services.bootstrap_servers})
    producer.produce(table.topic, encode(Customer(1, "new", LONG_AGO)), json.dumps({"id": 1}))
    assert producer.flush(20) == 0
    versions = [(1, "old"), (2, "old"), (2, "newer"), (3, "old"), (3, "gone")]
    lines = [
        {"id": key, "plan": plan, "at": (LONG_AGO + timedelta(days=day)).isoformat(), "gone": plan == "gone"}
        for day, (key, plan) in enumerate(versions)
    ]
    file = tmp_path / "customers.jsonl"
    file.write_text("\n".join(map(json.dumps, reversed(lines))))
    with working(services, namespace, tmp_path, view) as store:
        client = FeatureClient(store)

        def plans() -> list[list[Any]]:
            return client.get_views("profile", [{"id": key} for key in (1, 2, 3)]).to_lists()

        until(lambda: store.get_document("view:profile") is not None, 60)
        until(lambda: plans() == [["new"], [None], [None]], 60, plans)
        log = EventLog(tmp_path / "events", namespace=namespace)
        until(lambda: log.exists(table.topic), 60)
        options = ImportOptions(Availability.of(table, "at"), deleted="gone")
        record = HistoryImport(log, table, tmp_path / "spool", options, silent).run(find_files([str(file)]), 0).record
        assert record is not None
        assert (record.rows, record.rejected) == (5, {})
        until(lambda: plans() == [["new"], ["newer"], [None]], 60, plans)
        undo(log, table.topic, record.id, 0)
        until(lambda: plans() == [["new"], [None], [None]], 60, plans)
