"""Orders with all types that a field may have, and the records and the log of them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from headrace import Epoch, Event, Places, Stream, field
from headrace.base.times import epoch_us
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.event_log.log_writer import LogWriter
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from headrace.event_log.event_log import EventLog

NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)
SOURCE, RECORDED = SourcePartition(0, bytes(16)), datetime(9000, 1, 1, tzinfo=UTC)


class Issuer(Event):
    name: str
    since: datetime | None = None


class Card(Event, rename="camel"):
    card_id: int
    country: str | None
    issuer: Issuer | None = None
    valid_until: date | None = None


class Item(Event):
    name: str
    price: Annotated[Decimal, Places(2)]


class Header(Event):
    at: Annotated[datetime, Epoch("ms")]


class Paid(Event):
    card: Card
    header: Header
    amount: Annotated[Decimal, Places(2)]
    buyer: Card | None = None
    tags: dict[str, float] = msgspec.field(default_factory=dict)
    items: list[Item] | None = None
    proof: bytes | None = None
    city: str | None = field(path="data.ship-to.city", default=None)


paid = Stream("paid", Paid, event_time="header.at", key=["card.card_id", "city"])
CONTENT: dict[str, Any] = {
    "card": {"cardId": 7, "country": "FR", "issuer": {"name": "bank", "since": "2020-01-01T00:00:00Z"}},
    "header": {"at": 1_699_963_200_000},
    "amount": "12.50",
    "tags": {"weight": 2.5},
    "items": [{"name": "pen", "price": 1.25}],
    "proof": "AQI=",
    "data": {"ship-to": {"city": "Lyon"}},
}
COLUMNS: dict[str, Any] = {
    "card": {
        "card_id": 7, "country": "FR", "issuer": {"name": "bank", "since": datetime(2020, 1, 1, tzinfo=UTC)},
        "valid_until": None,
    },
    "header": {"at": NOON},
    "amount": Decimal("12.50"),
    "buyer": None,
    "tags": [{"key": "weight", "value": 2.5}],
    "items": [{"name": "pen", "price": Decimal("1.25")}],
    "proof": b"\x01\x02",
    "city": "Lyon",
}  # fmt: skip
"""What the event log has of :data:`CONTENT`."""


def payload(**changed: Any) -> bytes:
    """The bytes of a record."""
    return msgspec.json.encode(CONTENT | changed)


def judged(stream: Stream, values: Sequence[bytes | None], first: int = 0) -> pl.DataFrame:
    """The log's rows of records of one partition, from an offset on."""
    offsets = np.arange(first, first + len(values))
    late = np.full(len(values), epoch_us(RECORDED))
    return RecordJudge(stream).rows(
        SOURCE.topic_id, 0, PartitionRecords(offsets, late, [None] * len(values), values), NO_CLOCK
    )


def append(log: EventLog, stream: Stream, values: Sequence[bytes | None]) -> None:
    """Add records to a log, in one commit."""
    writer = LogWriter(log, stream)
    begin = writer.position(SOURCE)
    rows = judged(stream, values, begin or 0)
    writer.append(rows, {SOURCE: begin}, {SOURCE: (begin or 0) + len(values)})
