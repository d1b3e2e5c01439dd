"""Look-ups against the raw pipelined read of the same bytes, in turn."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from redis import Redis

from headrace import Count, Entity, FeatureClient, FeatureService, FeatureView, Max, Mean, Min, Std, Sum, col
from headrace.base.times import wall_clock
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.online.entity_key import serializer
from headrace.features.online.redis.key_names import KeyNames
from headrace.features.online.redis.lookup_commands import look_up
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions

from .definitions import Payment, online_name, payments
from .results import median, quantiles
from .rig import console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .options import Options
    from .rig import Rig

USERS, MERCHANTS, TILES, PARTITIONS = 500, 500, 20, 4
"""Each user pays in so many minutes of the last hour, and half hours of the last day."""
WINDOWS = ["1h", "1d"]
ROWS = (1, 100)
ROUNDS, WARM = 200, 20
MINUTE = 60_000_000


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Both kinds of look-up, ``options.repeat`` times: its median ratio to the raw read of the same keys."""
    with console.status("filling"):
        scene = Scene(rig.redis_url)
        scene.check()
    shapes = {}
    for rows in ROWS:
        shapes[f"{rows}x5"] = found = summary([scene.measure(rows) for _ in range(options.repeat)])
        console.print(f"  {rows} x 5: {found['ratio']} x the raw read ({found['look_up_p50_ms']} ms)")
    scene.close()
    return {"columns": scene.columns, "bytes": scene.bytes, "rounds": ROUNDS, "shapes": shapes}


def summary(repeats: Sequence[dict[str, list[float]]]) -> dict[str, Any]:
    """Of each kind the median over the repeats of its p50, and the median ratio of look-ups to raw reads."""
    times = [{kind: quantiles(of)["p50_ms"] for kind, of in seconds.items()} for seconds in repeats]
    ratios = [round(of["look_up"] / of["raw"], 2) for of in times]
    p50 = {f"{kind}_p50_ms": round(median([of[kind] for of in times]), 3) for kind in times[0]}
    return {**p50, "ratio": round(median(ratios), 2), "ratios": ratios}


class Scene:
    """Five views of payments: three of users, in one partition each, and two of merchants, who are in all."""

    def __init__(self, redis_url: str) -> None:
        self._namespace = f"bench{uuid.uuid4().hex[:10]}"
        self._views = views()
        self._names = [online_name(view) for view in self._views]
        self.columns = len(FeatureService("all", self._views).columns())
        self._store = RedisOnlineStore(redis_url, self._namespace)
        fill(self._views, self._store)
        self._client = FeatureClient(self._store)
        self._raw: Any = Redis.from_url(redis_url)
        self.bytes = sum(len(data) for found in self._read(self._keys(drawn(1)[0])) for data in found.values())

    def measure(self, rows: int) -> dict[str, list[float]]:
        """Seconds of raw reads, of look-ups, and of look-ups with all that they say read off, in turn."""
        seconds: dict[str, list[float]] = {"raw": [], "look_up": [], "told": []}
        for entities in drawn(rows):
            keys = self._keys(entities)
            seconds["raw"].append(timed(self._read, keys))
            seconds["look_up"].append(timed(self._client.get_views, self._names, entities))
            seconds["told"].append(timed(self._told, entities))
        return {kind: of[WARM:] for kind, of in seconds.items()}

    def check(self) -> None:
        """RuntimeError unless every user has all the tiles in both windows."""
        rows = [{"user_id": f"user-{user}", "merchant": "m0"} for user in range(USERS)]
        counts = self._client.get_views(self._names[:1], rows).to_numpy()[:, :2]
        if (counts < [TILES, 2 * TILES]).any():
            raise RuntimeError(f"of {TILES} payments in each window there are only {counts.min(axis=0)}")

    def close(self) -> None:
        """Give the connections back."""
        self._raw.close()
        self._store.close()

    def _keys(self, entities: Sequence[dict[str, str]]) -> list[bytes]:
        """What a look-up reads: the cursors of each view, and the keys of its entities."""
        wanted = []
        for name, view in zip(self._names, self._views, strict=True):
            (key,) = view.spec.key_names
            serialize = serializer([[key, "str"]])
            wanted.append((name, [serialize([row[key]]) for row in entities]))
        ((_, words),) = look_up(KeyNames(self._namespace, 1), wanted).commands
        return [key for _, *line in words for key in line]

    def _read(self, keys: Sequence[bytes]) -> list[dict[bytes, bytes]]:
        with self._raw.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            found: list[dict[bytes, bytes]] = pipeline.execute()
        return found

    def _told(self, entities: Sequence[dict[str, str]]) -> None:
        found = self._client.get_views(self._names, entities)
        found.to_lists()
        for row in range(found.rows):
            found.statuses(row)
            found.ages(row)
            found.offsets(row)


def timed(action: Callable[..., Any], *arguments: Any) -> float:
    """The seconds that a call takes."""
    start = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - start


def drawn(rows: int) -> list[list[dict[str, str]]]:
    """The entities of each round."""
    draw = np.random.default_rng(rows)
    users, merchants = (
        [draw.permutation(count)[:rows].tolist() for _ in range(ROUNDS + WARM)] for count in (USERS, MERCHANTS)
    )
    return [
        [{"user_id": f"user-{user}", "merchant": f"m{merchant}"} for user, merchant in zip(*both, strict=True)]
        for both in zip(users, merchants, strict=True)
    ]


def views() -> list[FeatureView]:
    """Ten columns each."""
    stream, user, merchant = payments("payments"), Entity("user_id"), Entity("merchant")
    amounts: dict[str, Any] = {"n": Count(), "sum": Sum("amount"), "mean": Mean("amount")}
    plain = {**amounts, "least": Min("amount"), "most": Max("amount")}
    other = {**amounts, "std": Std("amount"), "large": Mean(col("amount") > 1)}
    shapes = [("user_a", user, plain), ("user_b", user, other), ("user_c", user, plain),
              ("merchant_a", merchant, plain), ("merchant_b", merchant, other)]  # fmt: skip
    return [FeatureView(name, entity, stream, WINDOWS, features) for name, entity, features in shapes]


def fill(views: Sequence[FeatureView], store: RedisOnlineStore) -> None:
    """Fold the payments that end now, as workers of all partitions would."""
    publish_definitions(store, views, [])
    draw = np.random.default_rng(0)
    minutes = draw.permuted(np.tile(np.arange(1, 59), (USERS, 1)), axis=1)[:, :TILES]
    halves = draw.permuted(np.tile(np.arange(2, 47), (USERS, 1)), axis=1)[:, :TILES] * 30
    ago = np.concatenate([minutes, halves], axis=1).reshape(-1)
    users = np.repeat(np.arange(USERS), 2 * TILES)
    order = np.argsort(-ago, kind="stable")
    times_us, users = wall_clock() - ago[order] * MINUTE, users[order]
    merchants = draw.integers(MERCHANTS, size=len(users))
    for partition in range(PARTITIONS):
        own = users % PARTITIONS == partition
        events = [
            encode(Payment(f"user-{user}", datetime.fromtimestamp(time_us / 1e6, UTC), user / USERS * 2, f"m{shop}"))
            for user, time_us, shop in zip(
                users[own].tolist(), times_us[own].tolist(), merchants[own].tolist(), strict=True
            )
        ]
        records = PartitionRecords(np.arange(len(events)), times_us[own], [None] * len(events), events)
        source = SourcePartition(partition, bytes([1]) * 16)
        rows = RecordJudge(payments("payments")).rows(source.topic_id, partition, records, NO_CLOCK)
        for view in views:
            worker = ViewPartition(view.spec, source, store)
            worker.acquire(b"b" * 16, PARTITIONS)
            store.write(worker.fold(LoggedRows.from_rows(rows, "ts"), len(events)))
