"""What any store of Feast has to do for ordinary views: a repository of every kind of them, on any two stores.

Feast's own stores and the plug-ins run the same tests.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

NOW = datetime.now(UTC).replace(microsecond=0)
STORES: dict[str, dict[str, dict[str, Any]]] = {
    "feast": {"online_store": {"type": "redis"}, "offline_store": {"type": "file"}},
    "headrace": {
        "online_store": {"type": "headrace.feast.HeadraceOnlineStore"},
        "offline_store": {"type": "headrace.feast.HeadraceOfflineStore"},
    },
}


def ago(days: float) -> datetime:
    """So many days before these tests began."""
    return NOW - timedelta(days=days)


PROFILES = pd.DataFrame(
    {
        "user": [1, 1, 1, 2, 3],
        "at": [ago(3), ago(1), ago(1), ago(2), ago(40)],
        "known": [ago(3), ago(0.5), ago(0.9), ago(1), ago(40)],
        "age": [30, 32, 31, 40, 50],
        "balance": np.array([1.5, 2.5, 3.5, 4.5, 5.5], np.float32),
        "vip": [True, False, True, True, False],
        "seen": [ago(3.5), ago(1.5), ago(1.5), ago(2.5), ago(41)],
        "marks": [[1], [2, 3], [9], [], [5]],
    }
)
"""Two rows of user 1 are of one time: the one that was known last holds. User 3's is beyond the view's ttl."""
TRIPS = pd.DataFrame(
    {"person": [1, 1, 2], "city": ["x", "y", "x"], "at": [ago(2), ago(1), ago(1)], "km": [3.0, 4.0, 5.0]}
)
WEATHER = pd.DataFrame({"at": [ago(4), ago(1)], "degrees": [10.0, 20.0]})


class Repository:
    """Views with one key, two, none; a source with other names; pushes; on-demand views of each mode."""

    def __init__(self, services: LocalServices, folder: Path, kind: str) -> None:
        import feast

        address = services.redis_url.partition("://")[2].partition("/")[0]
        stores = STORES[kind]
        self.folder = folder
        self.store = feast.FeatureStore(
            config=feast.RepoConfig(
                project=f"c{uuid.uuid4().hex[:10]}",
                provider="local",
                registry=str(folder / "registry.db"),
                repo_path=folder,
                online_store=stores["online_store"] | {"connection_string": address},
                offline_store=stores["offline_store"],
                entity_key_serialization_version=3,
            )
        )
        self.user = feast.Entity(name="user", join_keys=["user"], value_type=feast.ValueType.INT64)
        self.city = feast.Entity(name="city", join_keys=["city"], value_type=feast.ValueType.STRING)
        self.views = self._profiles(), self._trips(), self._weather()
        self.store.apply([self.user, self.city, *self.views, self.pushed, *self._on_demand(), self._service()])

    def _file(self, name: str, frame: pd.DataFrame, **options: Any) -> Any:
        import feast

        frame.to_parquet(self.folder / f"{name}.parquet")
        return feast.FileSource(name=name, path=str(self.folder / f"{name}.parquet"), timestamp_field="at", **options)

    def view(self, name: str, entities: list[Any], source: Any, **fields: Any) -> Any:
        """A view of some columns; it forgets after ten days."""
        import feast

        schema = [feast.Field(name=field, dtype=dtype) for field, dtype in fields.items()]
        return feast.FeatureView(name=name, entities=entities, schema=schema, source=source, ttl=timedelta(days=10))

    def _profiles(self) -> Any:
        import feast
        from feast.types import Array, Bool, Float32, Int64, UnixTimestamp

        source = self._file("profiles", PROFILES, created_timestamp_column="known")
        self.pushed = feast.PushSource(name="profiles_push", batch_source=source)
        return self.view(
            "profile", [self.user], self.pushed,
            user=Int64, age=Int64, balance=Float32, vip=Bool, seen=UnixTimestamp, marks=Array(Int64),
        )  # fmt: skip

    def _trips(self) -> Any:
        from feast.types import Float64, Int64, String

        source = self._file("trips", TRIPS, field_mapping={"person": "user", "km": "length"})
        return self.view("trip", [self.user, self.city], source, user=Int64, city=String, length=Float64)

    def _weather(self) -> Any:
        from feast.types import Float64

        return self.view("weather", [], self._file("weather", WEATHER), degrees=Float64)

    def _on_demand(self) -> list[Any]:
        import feast
        from feast.on_demand_feature_view import on_demand_feature_view
        from feast.types import Float64, Int64

        asked = feast.RequestSource(name="asked", schema=[feast.Field(name="extra", dtype=Int64)])
        two = [feast.Field(name="older", dtype=Float64), feast.Field(name="richer", dtype=Float64)]

        @on_demand_feature_view(sources=[self.views[0], asked], schema=two, mode="pandas")  # type: ignore[untyped-decorator]
        def later(inputs: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame(
                {"older": inputs["age"] + inputs["extra"] + 0.0, "richer": inputs["balance"] + inputs["extra"] + 0.0}
            )

        @on_demand_feature_view(  # type: ignore[untyped-decorator]
            sources=[self.views[0]], entities=[self.user], schema=[feast.Field(name="halved", dtype=Float64)],
            mode="pandas", write_to_online_store=True,
        )  # fmt: skip
        def half(inputs: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame({"halved": inputs["age"] / 2})

        return [later, half]

    def _service(self) -> Any:
        import feast

        return feast.FeatureService(name="some", features=[self.views[0][["age", "vip"]], self.views[2]])
