"""What each aggregate costs: to fold a row, to merge an entity's tiles in a look-up, and in bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from statistics import median
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
FLOOR = "Count"
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
    """A view of each aggregate alone over one hour of 60 tiles, each time beside one that counts rows.

    100 entities share the events. All aggregates are measured in turn, so that each round meets the same machine.
    """
    del rig  # no server takes part
    batches = rows(max(min(options.events, 200_000) // BATCH, 1), min(options.events, BATCH))
    names = sorted(kind.__name__ for kind in get_args(Aggregate))
    kernels = {name: kernel_of(name) for name in names}
    rounds = [
        {name: (Cost.of(kernels[FLOOR], batches), Cost.of(kernels[name], batches)) for name in names}
        for _ in range(options.repeat)
    ]
    return {
        "events": sum(map(len, batches)),
        "entities": ENTITIES,
        "aggregates": {name: summary(name, [each[name] for each in rounds]) for name in names},
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


def kernel_of(name: str) -> TileKernel:
    """The kernel of a view with one aggregate."""
    made: Aggregate = getattr(headrace, name)(*CALLS.get(name, ("x",)))
    return kernel(FeatureView("v", Entity("who", int), samples, ["1h"], {"f": made}).spec)


@dataclass(frozen=True)
class Cost:
    """What one run took: CPU seconds of a row and of a look-up, and the bytes of an entity's field."""

    row_s: float
    look_up_s: float
    bytes: float

    @classmethod
    def of(cls, kernel: TileKernel, batches: list[pl.DataFrame]) -> Cost:
        """Fold all batches into new entities, and merge the tiles of some."""
        folded = FoldedView(kernel)
        for _ in range(ENTITIES):
            folded.add()
        row_s = _seconds(lambda: folding(kernel, folded, batches)) / sum(map(len, batches))
        fields = folded.fields(np.arange(ENTITIES), np.ones(ENTITIES, np.int64), np.full(ENTITIES, T0 + HOUR))
        look_up_s = _seconds(lambda: [merged(kernel, fields[n % ENTITIES]) for n in range(LOOK_UPS)]) / LOOK_UPS
        return cls(row_s, look_up_s, sum(map(len, fields)) / ENTITIES)


def summary(name: str, runs: list[tuple[Cost, Cost]]) -> dict[str, Any]:
    """Medians of the runs: nanoseconds a row, microseconds a look-up, bytes, and the ratios to the count beside it."""
    found = {
        "row_ns": round(median(own.row_s for _, own in runs) * 1e9),
        "row_ratio": round(median(own.row_s / floor.row_s for floor, own in runs), 1),
        "look_up_us": round(median(own.look_up_s for _, own in runs) * 1e6),
        "look_up_ratio": round(median(own.look_up_s / floor.look_up_s for floor, own in runs), 1),
        "bytes": round(runs[0][1].bytes),
    }
    console.print(
        f"  {name}: {found['row_ratio']} of a count a row, {found['look_up_ratio']} a look-up, {found['bytes']:,} bytes"
    )
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
    began = time.process_time()
    work()
    return time.process_time() - began
