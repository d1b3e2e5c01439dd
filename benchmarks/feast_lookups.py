"""Look-ups through Feast's SDK, by the plug-in and by Feast's own Redis store, and by FeatureClient; in one run."""

from __future__ import annotations

import time
import uuid
import warnings
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace import Count, Entity, FeatureClient, FeatureService, FeatureView, Max, Mean, Min, Sum
from headrace.base.times import wall_clock
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions

from .definitions import Payment, payments
from .results import quantiles
from .rig import console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .options import Options
    from .rig import Rig

USERS, EVENTS, ROUNDS, FEATURES = 200, 5_000, 300, 10
BLOCK, FRESH = 25, 5
"""So many look-ups of one kind at a time, of which the first do not count: a process of Feast's keeps one registry at
hand, and one that goes from store to store reads both anew each time, which takes longer than all else."""
SHAPES = ((1, 1), (5, 1), (1, 100), (5, 100))
"""Views, and rows, of a look-up."""
SOURCE = SourcePartition(0, bytes([1]) * 16)


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Each kind of look-up in turn, so that all see the same machine; at most ``options.repeat`` hundred of each."""
    with warnings.catch_warnings(), console.status("filling"):
        warnings.simplefilter("ignore")
        stores = filled(rig)
    rounds = min(ROUNDS, options.repeat * 100)
    shapes = {f"{views}x{rows}": _shape(stores, views, rows, rounds) for views, rows in SHAPES}
    for name, found in shapes.items():
        ratios = ", ".join(f"{kind} {found[f'{kind}_ratio']}" for kind in ("ordinary", "tiled", "client"))
        console.print(f"  {name}, to Feast's time: {ratios}")
    return {"features": FEATURES, "rounds": rounds, "shapes": shapes}


def filled(rig: Rig) -> dict[str, Any]:
    """Feast's own store, the plug-in with the same ordinary views and with tiled ones, and a client of the latter."""
    import feast  # noqa: PLC0415 - takes seconds

    from headrace.feast import objects  # noqa: PLC0415

    name = f"bench{uuid.uuid4().hex[:8]}"
    views = _tiled(rig.redis_url, name)
    made = objects(FeatureService("tiled", views))
    address = rig.redis_url.partition("://")[2].partition("/")[0]
    plugin = {"type": "headrace.feast.HeadraceOnlineStore", "namespace": name, "heartbeat_bound": "1d"}
    stores: dict[str, Any] = {"client": FeatureClient(RedisOnlineStore(rig.redis_url, name))}
    for kind, online in (("feast", {"type": "redis"}), ("plugin", plugin)):
        folder = rig.folder / f"{name}-{kind}"
        folder.mkdir()
        store = _store(folder, f"{name}_{kind}", {**online, "connection_string": address})
        ordinary = _ordinary(folder, made["entity_user_id"])
        tiled = list(made.values()) if kind == "plugin" else [made["entity_user_id"]]
        store.apply(
            [*tiled, *ordinary, *(feast.FeatureService(name=f"ordinary{n}", features=ordinary[:n]) for n in (1, 5))]
        )
        if kind == "plugin":
            store.apply([feast.FeatureService(name=f"tiled{n}", features=_made(made, n)) for n in (1, 5)])
        _write(store, ordinary)
        stores[kind] = store
    return stores


def _made(made: dict[str, Any], count: int) -> list[Any]:
    return [made[f"view_user{number}"] for number in range(count)]


def _store(folder: Path, project: str, online: dict[str, Any]) -> Any:
    import feast  # noqa: PLC0415

    config = feast.RepoConfig(
        project=project, provider="local", registry=str(folder / "registry.db"), online_store=online,
        entity_key_serialization_version=3,
    )  # fmt: skip
    return feast.FeatureStore(config=config)


def _ordinary(folder: Path, user: Any) -> list[Any]:
    import feast  # noqa: PLC0415
    from feast.types import Float64, String  # noqa: PLC0415

    source = feast.FileSource(name="unused", path=str(folder / "unused.parquet"), timestamp_field="ts")
    fields = [feast.Field(name=f"f{number}", dtype=Float64) for number in range(FEATURES)]
    key = feast.Field(name="user_id", dtype=String)
    return [
        feast.FeatureView(
            name=f"ordinary{n}", entities=[user], schema=[key, *fields], source=source, ttl=timedelta(days=9)
        )
        for n in range(5)
    ]


def _write(store: Any, views: Sequence[Any]) -> None:
    """A row a user into each ordinary view."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey  # noqa: PLC0415
    from feast.protos.feast.types.Value_pb2 import Value  # noqa: PLC0415

    values = {f"f{number}": Value(double_val=number + 0.5) for number in range(FEATURES)}
    keys = [EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=f"user-{n}")]) for n in range(USERS)]
    rows = [(key, values, datetime.now(UTC), None) for key in keys]
    for view in views:
        store._get_provider().online_store.online_write_batch(store.config, view, rows, None)  # noqa: SLF001


def _tiled(redis_url: str, namespace: str) -> list[FeatureView]:
    """Five views with the tiles of an hour, of two windows with five features each, and a service of as many."""
    stream, user = payments("payments"), Entity("user_id")
    one: dict[str, Any] = {"n": Count(), "amount": Sum("amount"), "least": Min("amount")}
    features = {**one, "most": Max("amount"), "mean": Mean("amount")}
    views = [FeatureView(f"user{number}", user, stream, ["1h", "1d"], features) for number in range(5)]
    store = RedisOnlineStore(redis_url, namespace)
    publish_definitions(store, views, [FeatureService(f"tiled{count}", views[:count]) for count in (1, 5)])
    draw = np.random.default_rng(0)
    times_us = wall_clock() - 3_600_000_000 + np.sort(draw.integers(3_500_000_000, size=EVENTS))
    users = draw.integers(USERS, size=EVENTS)
    events = [
        encode(Payment(f"user-{user}", datetime.fromtimestamp(time_us / 1e6, UTC), 1.5, "m"))
        for user, time_us in zip(users, times_us, strict=True)
    ]
    records = PartitionRecords(np.arange(EVENTS), times_us, [None] * EVENTS, events)
    rows = LoggedRows.from_rows(RecordJudge(stream).rows(SOURCE.topic_id, 0, records, NO_CLOCK), stream.event_time)
    for view in views:
        partition = ViewPartition(view.spec, SOURCE, store)
        partition.acquire(b"b" * 16, 1)
        store.write(partition.fold(rows, EVENTS))
    store.close()
    return views


def _shape(stores: dict[str, Any], views: int, rows: int, rounds: int) -> dict[str, Any]:
    """Times of look-ups of so many views and rows. RuntimeError unless all give the same rows with values."""
    draw = np.random.default_rng(1)
    users = [[f"user-{user}" for user in draw.integers(USERS, size=rows).tolist()] for _ in range(BLOCK)]
    kinds = _kinds(stores, views)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds // (BLOCK - FRESH)):
        for kind, look_up in kinds.items():
            seconds[kind].extend([look_up(entities) for entities in users][FRESH:])
    times = {kind: quantiles(of) for kind, of in seconds.items()}
    of_feast = times["feast"]["p50_ms"]
    return {**times, **{f"{kind}_ratio": round(of["p50_ms"] / of_feast, 2) for kind, of in times.items()}}


def _kinds(stores: dict[str, Any], views: int) -> dict[str, Callable[[Sequence[str]], float]]:
    """What takes users and gives the seconds that a look-up of them took."""
    services = {"feast": f"ordinary{views}", "ordinary": f"ordinary{views}", "tiled": f"tiled{views}"}
    of = {kind: stores["feast" if kind == "feast" else "plugin"] for kind in services}
    known = {kind: of[kind].get_feature_service(name) for kind, name in services.items()}

    def by_feast(kind: str, users: Sequence[str]) -> float:
        start = time.perf_counter()
        found = of[kind].get_online_features(known[kind], {"user_id": users}, full_feature_names=True)
        elapsed = time.perf_counter() - start
        vectors = found.proto.results
        if len(vectors) != 1 + FEATURES * views or any(status != 1 for of in vectors for status in of.statuses):
            raise RuntimeError(f"{kind}, {views} views: not every value is there")
        return elapsed

    def by_client(users: Sequence[str]) -> float:
        start = time.perf_counter()
        found = stores["client"].get(f"tiled{views}", [{"user_id": user} for user in users])
        rows = found.to_lists()
        elapsed = time.perf_counter() - start
        if len(rows) != len(users) or any(value is None for row in rows for value in row):
            raise RuntimeError(f"client, {views} views: not every value is there")
        return elapsed

    return {kind: partial(by_feast, kind) for kind in services} | {"client": by_client}
