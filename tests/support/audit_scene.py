"""Two partitions of sales that are folded into a store and written to a log, and the vectors that the store served."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from deltalake import CommitProperties, Transaction, write_deltalake

from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.event import Event, encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.definitions.aggregates import Count, Mean
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.models.predictions import ServedVector
from headrace.serving.features import FeatureClient
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from headrace.trainers.audit.auditor import Auditor, AuditReport
from headrace.trainers.definitions import Gate, Label, Model, volume
from tests.support.control_topics import VECTORS
from tests.support.orders_model import write

if TYPE_CHECKING:
    from pathlib import Path


START = datetime(2020, 1, 1, tzinfo=UTC)
START_US = epoch_us(START)
MINUTE = 60_000_000
SOURCES = [SourcePartition(partition, bytes([3]) * 16) for partition in range(2)]


class Sale(Event):
    """A sale in a shop."""

    shop: str
    at: datetime
    amount: float


sales = Stream("sales", Sale, event_time="at")


class AuditScene:
    """Two partitions, folded into a store and written to a log; what the one serves is audited by the other.

    Partition 0 has a's sales of minutes 1 to 9, partition 1 one of b at minute 4, each recorded two minutes later.
    """

    def __init__(self, folder: Path, clock: Literal["wall", "stream"]) -> None:
        now = FeatureView("now", Entity("shop"), sales, ["1h"], {"n": Count(), "mean": Mean("amount")}, clock=clock)
        past = FeatureView("past", Entity("shop"), sales, ["1h"], {"n": Count()}, history="4m", clock=clock)
        self.specs, log = [now.spec, past.spec], EventLog(folder)
        store = self.store = MemoryOnlineStore()
        publish_definitions(store, [now, past], [FeatureService("risk", [now, past])])
        writer = LogWriter(log, sales)
        self.vectors: list[dict[str, Any]] = []
        self.client = FeatureClient(store)
        for source, shop, minutes in zip(SOURCES, "ab", (range(1, 10), [4]), strict=True):
            events = [Sale(shop, START + timedelta(minutes=minute), float(minute)) for minute in minutes]
            times = np.array([epoch_us(event.at) + 2 * MINUTE for event in events])
            records = PartitionRecords(np.arange(len(events)), times, [None] * len(events), [encode(e) for e in events])
            rows = RecordJudge(sales).rows(source.topic_id, source.partition, records, NO_CLOCK)
            writer.append(rows, {source: None}, {source: len(events)})
            for spec in self.specs:
                view = ViewPartition(spec, source, store)
                view.acquire(b"w" * 16, 2)
                for end in range(0, len(events), 3):
                    for fresh in view.fold(LoggedRows.from_rows(rows[: end + 3], "at"), min(end + 3, len(events))):
                        assert store.write([fresh]) == [True]
                        view.applied(fresh)
                    for minute in (12, 7, 0) if spec is past.spec else ():
                        self.serve(minute)
        self.history = FeatureHistory(self.specs, log)
        self.history.refresh()

    def serve(self, minute: float) -> None:
        found = self.client.get("risk", {"shop": "a"}, as_of=utc_datetime(START_US + round(minute * MINUTE)))
        self.vectors.append(
            {
                "key": "a",
                "served_at": START + timedelta(minutes=minute),
                "request": '{"shop":"a"}',
                "values": [None if value is None else float(value) for value in found.to_lists()[0]],
                "statuses": json.dumps(found.statuses()),
                "offsets": json.dumps(found.offsets()),
            }
        )

    def frame(self, **changes: Any) -> pl.DataFrame:
        """The vectors, the last one changed."""
        return pl.DataFrame([*self.vectors[:-1], self.vectors[-1] | changes])


class LoggedAuditScene(AuditScene):
    """The same scene on the wall clock, with a model whose served vectors are written to the log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "wall")
        self.log = EventLog(folder)
        views = [
            FeatureView("now", Entity("shop"), sales, ["1h"], {"n": Count(), "mean": Mean("amount")}),
            FeatureView("past", Entity("shop"), sales, ["1h"], {"n": Count()}, history="4m"),
        ]
        self.model = Model(
            "risk",
            requests=sales,
            request_key="shop",
            requested_at="at",
            features=FeatureService("risk", views),
            label=Label(sales, value=col("amount") > 0, on="shop", within="1h"),
            train=lambda x, y, run: None,
            triggers=volume(labels=1),
            gate=Gate("auc"),
            own_event="excluded",
        )

    def logged(self, **changes: Any) -> LoggedAuditScene:
        """Log the vectors, with changes in the last one."""
        rows = [
            ServedVector(
                **{
                    "vector_id": str(number), "model": "risk", "requested_at": vector["served_at"],
                    "service": self.model.features.version, **vector,
                    **(changes if number == len(self.vectors) - 1 else {}),
                }
            )
            for number, vector in enumerate(self.vectors)
        ]  # fmt: skip
        write(self.log, VECTORS, rows)
        return self

    def audit(self) -> AuditReport:
        return Auditor(self.model, self.log).audit()

    def keep(self, condition: Any, end: int | None = None) -> None:
        """Rewrite the log of sales without some rows. ``end``: partition 0 was read up to this offset."""
        table = self.log.table("sales")
        kept = table.to_pyarrow_dataset().to_table(filter=condition)
        read = [] if end is None else [Transaction(SOURCES[0].text, end)]
        write_deltalake(table, kept, mode="overwrite", commit_properties=CommitProperties(app_transactions=read))
