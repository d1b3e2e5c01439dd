"""An entity without join keys: all events belong to it, in look-ups, history, training sets, Feast and tables."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from headrace import Count, Entity, Event, FeatureClient, FeatureService, FeatureView, Role, Stream, Sum, Table
from headrace.base.times import epoch_us
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.errors import DefinitionError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.offline.feature_table import FeatureTable
from headrace.features.offline.spine import keys_of
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.explanation import explain
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from headrace.trainers.audit.compare import ServedVectorRows, audit
from tests.support.feast_scene import YAML
from tests.support.orders_model import Shop, model, orders
from tests.support.training_set_scene import made, spine_of

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Feast's imports warn
NOW = datetime.now(UTC).replace(microsecond=0)
SOURCES = [SourcePartition(partition, b"t" * 16) for partition in range(2)]


class Trade(Event):
    """A trade of a share."""

    share: str
    volume: int
    at: datetime


trades = Stream("trades", Trade, event_time="at")
market = FeatureView("market", Entity("market", keys=[]), trades, ["1h", "1d"], {"n": Count(), "volume": Sum("volume")})
share = FeatureView("share", Entity("share"), trades, ["1d"], {"volume": Sum("volume")})
service = FeatureService("risk", [market, share])
TRADES = [(0, 300, "a", 1), (1, 200, "b", 2), (0, 100, "a", 4), (1, 30, "c", 8), (1, 5, "b", 16)]
"""The partition, the age in minutes, the share and the volume of each trade."""


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def fill(log: EventLog, store: RedisOnlineStore) -> None:
    """What a worker would have done."""
    publish_definitions(store, [market, share], [service])
    log.create(trades)
    writer = LogWriter(log, trades)
    for source in SOURCES:
        own = [trade for trade in TRADES if trade[0] == source.partition]
        stamps = np.array([epoch_us(ago(minutes)) for _, minutes, *_ in own], np.int64)
        values = [
            json.dumps({"share": name, "volume": volume, "at": ago(minutes).isoformat()}).encode()
            for _, minutes, name, volume in own
        ]
        records = PartitionRecords(np.arange(len(own)), stamps, [None] * len(own), values)
        rows = RecordJudge(trades).rows(source.topic_id, source.partition, records, NO_CLOCK)
        for view in (market, share):
            folding = ViewPartition(view.spec, source, store)
            folding.acquire(b"w" * 16, 2)
            assert all(store.write(folding.fold(LoggedRows.from_rows(rows, "at"), len(own))))
        writer.append(rows, {source: None}, {source: len(own)})


def test_all_events_belong_to_an_entity_without_keys(services: LocalServices, tmp_path: Path) -> None:
    import feast

    from headrace.feast import objects

    namespace, log = f"t{uuid.uuid4().hex[:10]}", EventLog(tmp_path / "events")
    store = RedisOnlineStore(services.redis_url, namespace)
    fill(log, store)
    client = FeatureClient(store)
    found = client.get("risk", [{"share": "a"}, {"share": "b"}, {}])
    assert [row[:4] for row in found.to_lists()] == [[2, 5, 24, 31]] * 3
    assert [row[4] for row in found.to_lists()] == [5, 18, 0]
    assert client.get("risk", {"share": "a"}).to_dicts()[0]["market__volume_1d"] == 31
    seen = explain(store, log, market.spec, "market__volume_1h", {})
    assert (seen.value, seen.events["volume"].to_list()) == (24, [8, 16])

    spine = pl.DataFrame({"share": ["a", "b", "c"], "at": [ago(150), ago(20), ago(1)]})
    kinds: dict[str, Any] = {key: kind for view in (market, share) for key, kind in view.spec.entity.key_kinds.items()}
    history = FeatureHistory([market.spec, share.spec], log)
    history.refresh()
    at_us = spine["at"].dt.epoch("us").to_numpy()
    assert history.features(keys_of(spine, kinds), at_us)["market__volume_1d"].to_list() == [3, 15, 31]

    vectors = pl.DataFrame(
        {
            "key": name, "served_at": found.at, "request": json.dumps({"share": name}), "values": list(map(float, row)),
            "statuses": json.dumps(found.statuses(place)), "offsets": json.dumps(found.offsets(place)),
        }
        for place, (name, row) in enumerate(zip("ab", found.to_lists(), strict=False))
    )  # fmt: skip
    audited = audit(ServedVectorRows([market.spec, share.spec], history, vectors))
    assert (audited.checked, audited.different) == (2, 0)

    redis = services.redis_url.partition("://")[2].partition("/")[0]
    given = {"project": namespace, "kind": "file", "registry": tmp_path / "r.db", "redis": redis, "events": "events"}
    (tmp_path / "feature_store.yaml").write_text(YAML.format(**given))
    there = feast.FeatureStore(repo_path=str(tmp_path))
    there.apply(list(objects(service).values()))
    names = ["market:volume_1d", "share:volume_1d"]
    answer = there.get_online_features(names, [{"share": "a"}, {"share": "x"}], full_feature_names=True).to_dict()
    assert (answer["market__volume_1d"], answer["share__volume_1d"]) == ([31, 31], [5, 0])
    wanted = pd.DataFrame({"share": ["a", "b", "c"], "event_timestamp": spine["at"].to_list()})
    frame: Any = there.get_historical_features(wanted, names, full_feature_names=True).to_df()
    assert frame["market__volume_1d"].tolist() == [3, 15, 31]
    store.close()


def test_a_training_set_with_an_entity_without_keys(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    every = FeatureView("every", Entity("every", keys=[]), orders, ["1d"], {"orders": Count()})
    of_shop = FeatureView("shop", Entity("shop"), orders, ["1d"], {"orders": Count()})
    spine = spine_of(60)
    found = made(shop, FeatureService("shops", [of_shop, every]), spine).to_pandas()
    assert found["every__orders_1d"].max() > found["shop__orders_1d"].max() > 0
    alone = made(shop, FeatureService("all", [every]), spine.drop("shop")).to_pandas()
    assert alone["every__orders_1d"].tolist() == found["every__orders_1d"].tolist()
    own = made(shop, replace(model, features=FeatureService("shops", [of_shop, every]))).to_pandas()
    assert own["every__orders_1d"].tolist()[:5] == [0, 1, 2, 3, 4]  # the orders before it


def test_the_feature_table_of_a_view_without_keys(services: LocalServices, tmp_path: Path) -> None:
    log, store = EventLog(tmp_path / "events"), RedisOnlineStore(services.redis_url, f"t{uuid.uuid4().hex[:10]}")
    fill(log, store)
    table = FeatureTable(market.spec, log, str(tmp_path / "features"))
    table.update()
    assert pl.read_delta(table.path).columns[-4:] == market.spec.columns
    store.close()


def test_roles_and_tables_with_an_entity_without_keys() -> None:
    both = FeatureView("m", Entity("market", keys=[]), [trades, Role(trades)], ["1h"], {"n": Count()})
    assert both.spec.entity.is_global
    with pytest.raises(DefinitionError, match="a view over a table belongs to the table's key"):
        FeatureView("t", Entity("all", keys=[]), Table("shares", Trade, key="share"), features={"v": "volume"})
