"""One small event, and a stream of it in any format."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace import Event, Stream
from headrace.base.times import epoch_us
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from headrace.bus.formats.record_format import Headers, RecordFormat

NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)


class Payment(Event):
    card: str
    amount: float
    at: datetime
    note: str | None = None


PAYMENT = Payment("c7", 12.5, NOON, "tea")
ROW: dict[str, Any] = {"card": "c7", "amount": 12.5, "at": "2023-11-14T12:00:00Z", "note": "tea"}


def payments(written: RecordFormat) -> Stream:
    """The stream of payments in this format."""
    return Stream("payments", Payment, event_time="at", key="card", format=written)


def judged(stream: Stream, values: Sequence[bytes | None], headers: Sequence[Headers]) -> pl.DataFrame:
    """The rows that a worker logs of these records, each a minute after noon."""
    count = len(values)
    own = headers if stream.format.reads_headers else ()
    at = np.full(count, epoch_us(NOON) + 60_000_000)
    records = PartitionRecords(np.arange(count), at, [b"c7"] * count, values, own)
    return RecordJudge(stream).rows(b"t" * 16, 0, records, 0)
