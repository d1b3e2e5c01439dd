"""What the tests of the Feast plug-ins share: tiled views with tiles and event log, and ordinary views beside them."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from headrace.base.times import epoch_us
from headrace.bus.event import Event, encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.definitions.aggregates import Count, Last, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from headrace.app.local.services import LocalServices

SOURCE = SourcePartition(0, bytes([5]) * 16)
NOW = datetime.now(UTC).replace(microsecond=0)


class Sale(Event):
    """A sale at a till of a shop."""

    shop: str
    till: int
    at: datetime
    amount: float


sales = Stream("sales", Sale, event_time="at")
shops = FeatureView(
    "shop", Entity("shop", str), sales, ["1d"],
    {"n": Count(), "amount": Sum("amount"), "most": Last("amount", where=col("amount") > 100)}, max_age="30m",
)  # fmt: skip
tills = FeatureView(
    "till",
    Entity("till", keys={"shop": str, "till": int}),
    sales,
    ["1d"],
    {"visits": Count(), "big": Last(col("amount") > 1)},
)
risk = FeatureService("risk", [shops, tills])


class Opening(Event):
    """A shop opens; its number is no name."""

    shop: int
    at: datetime


numbered = FeatureView(
    "numbered", Entity("shop", int), Stream("openings", Opening, event_time="at"), ["1d"], {"n": Count()}
)


def ago(minutes: float) -> datetime:
    """So many minutes before these tests began."""
    return NOW - timedelta(minutes=minutes)


SALES = [
    Sale("old", 1, ago(40), 5.0),
    Sale("b", 2, ago(6), 200.0),
    Sale("a", 1, ago(5), 1.0),
    Sale("a", 2, ago(4), 2.0),
    Sale("a", 1, ago(3), 4.0),
]
RATINGS = pd.DataFrame(
    {"shop": ["a", "b", "a"], "event_timestamp": [ago(50), ago(20), ago(10)], "rating": [1.0, 2.0, 3.0]}
)

YAML = """
project: {project}
provider: local
registry:
  registry_type: {kind}
  path: {registry}
online_store:
  type: headrace.feast.HeadraceOnlineStore
  connection_string: {redis}
  namespace: {project}
  heartbeat_bound: 1h
offline_store:
  type: headrace.feast.HeadraceOfflineStore
  event_log: {events}
entity_key_serialization_version: 3
"""


class FeastScene:
    """A project whose sales were folded and logged, with a repository of Feast in a folder.

    ``service`` and ``events`` are others than the sales': a service over one stream, and events of this stream.
    """

    def __init__(
        self,
        services: LocalServices,
        folder: Path,
        kind: str = "sql",
        *,
        service: FeatureService = risk,
        events: Sequence[Event] = SALES,
    ) -> None:
        self.namespace = f"t{uuid.uuid4().hex[:10]}"
        self.folder = folder
        self.store = RedisOnlineStore(services.redis_url, self.namespace)
        self.client = FeatureClient(self.store, heartbeat_bound="1h")
        self.log = EventLog(folder / "events")
        registry = folder / "registry.db"
        text = YAML.format(
            project=self.namespace,
            kind=kind,
            registry=f"sqlite:///{registry}" if kind == "sql" else registry,
            redis=services.redis_url.partition("://")[2].partition("/")[0],
            events="events",
        )
        (folder / "feature_store.yaml").write_text(text)
        RATINGS.to_parquet(folder / "ratings.parquet")
        self._fold(service, events)

    def _fold(self, service: FeatureService, events: Sequence[Any]) -> None:
        """As a worker does: tiles into the store, rows into the log. An event is available a second after its time."""
        publish_definitions(self.store, service.views, [service])
        (stream,) = service.views[0].streams
        times, count = np.array([epoch_us(event.at) + 1_000_000 for event in events], np.int64), len(events)
        records = PartitionRecords(np.arange(count), times, [None] * count, [encode(event) for event in events])
        rows = RecordJudge(stream).rows(SOURCE.topic_id, 0, records, NO_CLOCK)
        for made in service.views:
            view = ViewPartition(made.spec, SOURCE, self.store)
            view.acquire(b"w" * 16, 1)
            assert all(self.store.write(view.fold(LoggedRows.from_rows(rows, stream.event_time), count)))
        LogWriter(self.log, stream).append(rows, {SOURCE: None}, {SOURCE: count})

    def feast(self) -> Any:
        """Feast's own way in."""
        import feast

        return feast.FeatureStore(repo_path=str(self.folder))

    @contextmanager
    def applied(self, service: FeatureService) -> Iterator[Any]:
        """Feast's store with the objects of a service, and without them afterwards."""
        from headrace.feast import objects

        store = self.feast()
        store.apply([*objects(service).values()])
        yield store
        store.teardown()


def statuses(response: Any) -> dict[str, list[str]]:
    """The statuses of a response by column."""
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    names = response.proto.metadata.feature_names.val
    vectors = response.proto.results
    return {
        name: [FieldStatus.Name(status) for status in vector.statuses]
        for name, vector in zip(names, vectors, strict=True)
    }


def ratings(folder: Path) -> tuple[Any, Any, Any]:
    """An ordinary view of Feast of shops, with the source that rows are pushed to, and an on-demand view of both."""
    import feast
    from feast.on_demand_feature_view import on_demand_feature_view
    from feast.types import Float64, String

    from headrace.feast import objects

    file = feast.FileSource(
        name="ratings_file", path=str(folder / "ratings.parquet"), timestamp_field="event_timestamp"
    )
    pushed = feast.PushSource(name="ratings_push", batch_source=file)
    made = objects(risk)
    view = feast.FeatureView(
        name="rating",
        entities=[made["entity_shop"]],
        schema=[feast.Field(name="shop", dtype=String), feast.Field(name="rating", dtype=Float64)],
        source=pushed,
        ttl=timedelta(minutes=45),
    )

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[view, made["view_shop"]], schema=[feast.Field(name="rated", dtype=Float64)], mode="pandas"
    )
    def rated(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"rated": inputs["rating"] * inputs["amount_1d"]})

    return view, pushed, rated
