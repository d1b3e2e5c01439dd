"""Bytes in Redis, against the least that the same tiles could take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis import Redis

from headrace.base.times import duration_us

from .definitions import Shape
from .measuring import ingest_once
from .rig import console
from .workload import Workload

if TYPE_CHECKING:
    from .options import Options
    from .rig import Rig

COLUMNS, WORD = 3, 8
"""A tile of count, sum and max is three numbers of eight bytes."""
WINDOWS = (("60s", "10s"), ("10m", "1m"), ("1h", "5m"))
USERS, PER_SECOND = 1_000, 25


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Three windows over 1,000 users; every user pays once in 40 s on average, for as long as the events last."""
    workload = Workload("bytes", min(options.events, 200_000), users=USERS, per_second=PER_SECOND)
    rig.fill(workload)
    with console.status("folding"):
        _, task = ingest_once(rig, workload, Shape(WINDOWS))
    keys, values, memory = measure(rig.redis_url)
    tiles = sum(
        workload.rows.window(USERS, workload.end_us, duration_us(length), duration_us(every)).tiles
        for length, every in WINDOWS
    )
    dense = tiles * COLUMNS * WORD
    entity_windows = keys * len(WINDOWS)
    console.print(f"  {keys} entities of {task.topic}: {values / dense:.2f} x the dense minimum")
    return {
        "entities": keys,
        "windows": len(WINDOWS),
        "tiles": tiles,
        "field_bytes_per_entity_window": round(values / entity_windows, 1),
        "memory_bytes_per_entity_window": round(memory / entity_windows, 1),
        "dense_bytes_per_entity_window": round(dense / entity_windows, 1),
        "field_ratio": round(values / dense, 2),
        "memory_ratio": round(memory / dense, 2),
    }


def measure(redis_url: str) -> tuple[int, int, int]:
    """The entities in the store, the bytes of their fields, and what Redis uses for them with names and tables."""
    redis: Any = Redis.from_url(redis_url)
    keys = list(redis.scan_iter(match=b"*:e:*", count=1_000))
    with redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hvals(key)
            pipeline.memory_usage(key, samples=0)
        found = pipeline.execute()
    redis.close()
    return len(keys), sum(len(value) for fields in found[::2] for value in fields), sum(found[1::2])
