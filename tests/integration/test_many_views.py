"""Two hundred views on one stream, and a service of all of them: five hundred features and more in one look-up."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from headrace import Count, Entity, Event, FeatureClient, FeatureService, FeatureView, Stream, Sum, col
from headrace.base.times import epoch_us
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow]
NOW = datetime.now(UTC).replace(microsecond=0)
SOURCE = SourcePartition(0, b"m" * 16)
VIEWS, ROWS, USERS = 200, 300, 5


class Visit(Event):
    """A visit of a page."""

    user: str
    page: int
    seconds: float
    at: datetime


visits = Stream("visits", Visit, event_time="at")
views = [
    FeatureView(f"page_{page}", Entity("user"), visits, ["1h"],
        {"n": Count(), "seconds": Sum("seconds"), "long": Count(where=col("seconds") > 4)}, where=col("page") == page)
    for page in range(VIEWS)
]  # fmt: skip
service = FeatureService("visitor", views)


def test_two_hundred_views_are_served_as_history_has_them(services: LocalServices, tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    pages, seconds = chance.integers(0, VIEWS, ROWS).tolist(), chance.integers(1, 9, ROWS).tolist()
    times = [NOW - timedelta(seconds=ROWS - row) for row in range(ROWS)]
    values = [
        json.dumps({"user": f"u{row % USERS}", "page": page, "seconds": spent, "at": at.isoformat()}).encode()
        for row, (page, spent, at) in enumerate(zip(pages, seconds, times, strict=True))
    ]
    stamps = np.array([epoch_us(at) for at in times])
    rows = RecordJudge(visits).rows(
        SOURCE.topic_id, 0, PartitionRecords(np.arange(ROWS), stamps, [None] * ROWS, values), NO_CLOCK
    )
    log = EventLog(tmp_path / "events")
    log.create(visits)
    LogWriter(log, visits).append(rows, {SOURCE: None}, {SOURCE: ROWS})
    with closing(RedisOnlineStore(services.redis_url, f"t{uuid.uuid4().hex[:10]}")) as store:
        publish_definitions(store, views, [service])
        for view in views:
            folding = ViewPartition(view.spec, SOURCE, store)
            folding.acquire(b"w" * 16, 1)
            assert all(store.write(folding.fold(LoggedRows.from_rows(rows, "at"), ROWS)))
        client = FeatureClient(store)
        found = client.get("visitor", [{"user": f"u{user}"} for user in range(USERS)])
        served = pl.DataFrame(found.to_lists(), schema=found.columns, orient="row", infer_schema_length=None)
        history = FeatureHistory([view.spec for view in views], log)
        history.refresh()
        at_us = np.full(USERS, epoch_us(found.at))
        logged = history.features(pl.DataFrame({"user": [f"u{user}" for user in range(USERS)]}), at_us)
    assert len(found.columns) == 3 * VIEWS
    assert served.cast(pl.Float64).equals(logged.select(served.columns).cast(pl.Float64))
    assert served.select(pl.sum_horizontal(pl.col("^page_.*__n_1h$"))).to_series().sum() == ROWS
