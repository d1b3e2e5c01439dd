"""Views over tables in Feast's terms, and as a feature table for people and tools."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from headrace import Entity, Event, FeatureService, FeatureView, Table, col
from headrace.base.times import epoch_us
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.offline.feature_table import FeatureTable
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.plane.record_judge import PartitionRecords
from headrace.streams.plane.table_judge import judge_of
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from tests.support.feast_scene import YAML

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Feast's imports warn
SOURCE = SourcePartition(0, b"t" * 16)
NOW = datetime.now(UTC).replace(microsecond=0)


class Customer(Event):
    """A row."""

    id: int
    plan: str
    limit: float | None


customers = Table("customers", Customer, key="id")
profile = FeatureView(
    "profile",
    Entity("customer", keys={"id": int}),
    customers,
    features={"limit": "limit", "is_gold": col("plan") == "gold"},
)
RECORDS: list[tuple[float, bytes, bytes | None]] = [
    (50, b"1", b'{"id": 1, "plan": "gold", "limit": 5}'),
    (40, b"2", b'{"id": 2, "plan": "free", "limit": 6}'),
    (30, b"1", b'{"id": 1, "plan": "gold", "limit": null}'),
    (20, b"2", None),
    (0.1, b"3", b'{"id": 3, "plan": "gold", "limit": 7}'),
]
"""The age in hours, the key and the value of each record."""


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def logged(log: EventLog) -> pl.DataFrame:
    """The rows of the records, in the log too."""
    log.create(customers)
    stamps = np.array([epoch_us(ago(hours)) for hours, _, _ in RECORDS], np.int64)
    records = PartitionRecords(np.arange(5), stamps, [key for _, key, _ in RECORDS], [value for *_, value in RECORDS])
    rows = judge_of(customers).rows(SOURCE.topic_id, 0, records, NO_CLOCK)
    LogWriter(log, customers).append(rows, {SOURCE: None}, {SOURCE: len(RECORDS)})
    return rows


def test_a_table_in_feast(services: LocalServices, tmp_path: Path) -> None:
    import feast

    from headrace.feast import objects

    namespace, log = f"t{uuid.uuid4().hex[:10]}", EventLog(tmp_path / "events")
    service, store = FeatureService("risk", [profile]), RedisOnlineStore(services.redis_url, namespace)
    publish_definitions(store, [profile], [service])
    view = ViewPartition(profile.spec, SOURCE, store)
    view.acquire(b"w" * 16, 1)
    assert all(store.write(view.fold(LoggedRows.from_rows(logged(log), customers.event_time), len(RECORDS))))
    redis = services.redis_url.partition("://")[2].partition("/")[0]
    given = {"project": namespace, "kind": "file", "registry": tmp_path / "r.db", "redis": redis, "events": "events"}
    (tmp_path / "feature_store.yaml").write_text(YAML.format(**given))
    there = feast.FeatureStore(repo_path=str(tmp_path))
    there.apply(list(objects(service).values()))

    answer = there.get_online_features(
        ["profile:limit", "profile:is_gold"], [{"id": key} for key in (1, 2, 3, 4)], full_feature_names=True
    ).to_dict()
    assert answer["profile__limit"] == [None, None, 7.0, None]
    assert answer["profile__is_gold"] == [True, None, True, None]

    spine = pd.DataFrame({"id": [1, 1, 2, 2, 3], "event_timestamp": [ago(45), ago(10), ago(35), ago(10), ago(10)]})
    found: Any = there.get_historical_features(spine, there.get_feature_service("risk"), full_feature_names=True)
    frame = pl.from_pandas(found.to_df()).sort("id", "event_timestamp")
    assert frame["profile__limit"].fill_nan(None).to_list() == [5.0, None, 6.0, None, None]
    assert frame["profile__is_gold"].to_list() == [True, True, False, None, None]
    store.close()


def test_the_feature_table_of_a_view_over_a_table(tmp_path: Path) -> None:
    """A row for each day on which a row of the source changed."""
    log = EventLog(tmp_path / "events")
    logged(log)
    table = FeatureTable(profile.spec, log, str(tmp_path / "features"))
    assert table.update() > 0
    rows = pl.read_delta(table.path)
    assert rows.columns == ["id", "time", "profile__limit", "profile__is_gold"]
    assert table.update() == 0
