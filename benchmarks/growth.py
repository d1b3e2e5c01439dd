"""How the rate changes with entities, windows, views, partitions and workers; a chart each."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .charts import draw
from .definitions import Shape
from .measuring import await_folded, check_online, ingest_once
from .rig import Child, console
from .workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .options import Options
    from .rig import Rig

WINDOWS = (
    ("60s", "10s"), ("10m", "1m"), ("30m", "1m"), ("1h", "5m"),
    ("3h", "10m"), ("6h", "30m"), ("12h", "1h"), ("1d", "1h"),
)  # fmt: skip
STEADY_FROM, LONGER = 0.25, 4
"""Several workers share the partitions out when the second one joins, which takes a second or two: their rate counts
from a quarter on, and of so many times the events."""


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """All of them; everything else is as in the section ``ingest``, with fewer events."""
    base = Workload("growth", options.growth_events)
    found: dict[str, Any] = {"events": base.events, "long_events": LONGER * base.events}
    for name, points in plan(rig, base).items():
        found[name] = {str(count): point(name, count, measure) for count, measure in points.items()}
        draw(options.charts / f"growth-{name}.png", name, {int(n): rate for n, rate in found[name].items()})
    return found


def plan(rig: Rig, base: Workload) -> Mapping[str, Mapping[int, Callable[[], float]]]:
    """What is varied, its numbers, and how to measure each."""
    users = {count: replace(base, name=f"growth-{count}-users", users=count) for count in (10**3, 10**4, 10**5, 10**6)}
    parts = {count: replace(base, name=f"growth-{count}-parts", partitions=count) for count in (1, 4, 8, 16, 32)}
    long = replace(base, name="growth-long", events=LONGER * base.events)
    return {
        "entities": {count: partial(alone, rig, load) for count, load in users.items()},
        "windows": {count: partial(alone, rig, base, Shape(windows=WINDOWS[:count])) for count in (1, 2, 4, 8)},
        "views": {count: partial(alone, rig, base, Shape(views=count)) for count in (1, 2, 5, 10, 20)},
        "partitions": {count: partial(alone, rig, load) for count, load in parts.items()},
        "workers": {count: partial(together, rig, long, count) for count in (1, 2)},
    }


def point(name: str, count: int, measure: Callable[[], float]) -> float:
    """One point of a chart."""
    with console.status(f"{name}: {count:,}"):
        rate = round(measure())
    console.print(f"  {name} {count:,}: {rate:,} events/s")
    return rate


def alone(rig: Rig, workload: Workload, shape: Shape | None = None) -> float:
    """Events a second of one worker, from the first record taken to everything durable."""
    rig.fill(workload)
    return ingest_once(rig, workload, shape)[0].events_per_s


def together(rig: Rig, workload: Workload, workers: int) -> float:
    """Events a second of so many workers, folded into the online store, from a quarter of the events on."""
    rig.fill(workload)
    rig.reset()
    shared = rig.task("ingest", workload)
    points: list[tuple[int, float]] = []
    with ExitStack() as stack:
        children = []
        for _ in range(workers):
            own = rig.task("ingest", workload, namespace=shared.namespace, event_log=shared.event_log)
            children.append(Child(own))
            stack.callback(children[-1].stop)
        await_folded(shared, children, lambda folded: points.append((folded, time.monotonic())))
    check_online(shared, workload)
    steady = [(folded, at) for folded, at in points if folded >= STEADY_FROM * workload.events]
    (begun, started), (ended, now) = steady[0], steady[-1]
    if ended == begun:
        raise RuntimeError(f"{workload.events} events are over too soon to tell a rate: ask for more --growth-events")
    return (ended - begun) / (now - started)
