"""What each aggregate costs: to fold a row, to merge an entity's tiles in a look-up, and in bytes."""

from __future__ import annotations

import statistics
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import polars as pl

import headrace
from headrace import Entity, FeatureView, Stream
from headrace.bus.event import Event
from headrace.features.definitions.aggregates import Aggregate
from headrace.features.kernel.field import unpack
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.streams.views.folded_view import FoldedView

from .rig import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import Options
    from .rig import Rig

BATCH, ENTITIES, LOOK_UPS, HOUR = 10_000, 100, 200, 3_600_000_000
T0 = 1_700_000_000_000_000 // HOUR * HOUR
CALLS: dict[str, tuple[Any, ...]] = {
    "Count": (), "Since": (), "Age": (), "Gap": ("mean",), "LastN": ("x", 5), "Quantile": ("x", 0.5),
    "Histogram": ("x", [0.0, 1.0]), "DecayedSum": ("x", "1h"), "DecayedMean": ("x", "1h"), "Ratio": ("x", "y"),
    "Correlation": ("x", "y"), "CountBy": ("k", ["a", "b"]), "SumBy": ("x", "k", ["a", "b"]), "TopK": ("k", 3),
    "TopShare": ("k",), "Mode": ("k",), "Entropy": ("k",), "UniqueList": ("k",), "ApproxDistinct": ("k",),
}  # fmt: skip
"""The arguments of each aggregate; of every other one it is the column x."""


class Sample(Event):
    """A value, another one, and one of 30 categories."""

    who: int
    at: datetime
    x: float
    y: float
    k: str


samples = Stream("samples", Sample, event_time="at")


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """A view of each aggregate alone over one hour of 60 tiles; 100 entities share the events."""
    del rig  # no server takes part
    batches = rows(max(min(options.events, 200_000) // BATCH, 1), min(options.events, BATCH))
    names = sorted(kind.__name__ for kind in get_args(Aggregate))
    return {
        "events": sum(map(len, batches)),
        "entities": ENTITIES,
        "aggregates": {name: measured(name, batches, options.repeat) for name in names},
    }


def rows(batches: int, size: int) -> list[pl.DataFrame]:
    """Batches of events over one hour, with categories of unequal frequency."""
    chance = np.random.default_rng(1)
    return [
        with_time(
            pl.DataFrame(
                {
                    "who": chance.integers(0, ENTITIES, size),
                    "at": (T0 + chance.integers(0, HOUR, size)).astype("datetime64[us]"),
                    "x": chance.lognormal(size=size),
                    "y": chance.lognormal(size=size),
                    "k": [f"category {number}" for number in chance.zipf(1.5, size) % 30],
                    "__offset": np.arange(batch * size, (batch + 1) * size),
                }
            ),
            "at",
        )
        for batch in range(batches)
    ]


def measured(name: str, batches: list[pl.DataFrame], repeat: int) -> dict[str, Any]:
    """Nanoseconds a row, microseconds a look-up, and bytes of an entity's field: medians of runs."""
    made: Aggregate = getattr(headrace, name)(*CALLS.get(name, ("x",)))
    of = kernel(FeatureView("v", Entity("who", int), samples, ["1h"], {"f": made}).spec)
    fold, look_up = [], []
    for _ in range(repeat):
        folded = FoldedView(of)
        for _ in range(ENTITIES):
            folded.add()
        fold.append(_seconds(lambda into=folded: folding(of, into, batches)) / sum(map(len, batches)))  # type: ignore[misc]
        fields = folded.fields(np.arange(ENTITIES), np.ones(ENTITIES, np.int64), np.full(ENTITIES, T0 + HOUR))
        look_up.append(_seconds(lambda found=fields: [merged(of, found[n % ENTITIES]) for n in range(LOOK_UPS)]))  # type: ignore[misc]
    found = {
        "row_ns": round(statistics.median(fold) * 1e9),
        "look_up_us": round(statistics.median(look_up) / LOOK_UPS * 1e6),
        "bytes": round(sum(map(len, fields)) / ENTITIES),
    }
    console.print(f"  {name}: {found['row_ns']} ns a row, {found['look_up_us']} us a look-up, {found['bytes']:,} bytes")
    return found


def folding(of: TileKernel, into: FoldedView, batches: list[pl.DataFrame]) -> None:
    """Fold every batch, as a worker does: a slot for each entity."""
    for batch in batches:
        clock = np.full(len(batch), T0 + HOUR)
        into.fold(batch["who"].to_numpy(), batch["__time"].to_numpy(), of.lift(batch), clock)


def merged(of: TileKernel, field: bytes) -> Any:
    """The value of one entity from its field."""
    tiles = unpack(field, of.layout)[1]
    zeros = [np.zeros(len(part), np.int64) for part in tiles]
    return of.evaluate(tiles, zeros, zeros, np.array([T0 + HOUR - 1]))


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
