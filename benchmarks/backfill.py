"""Folding a view from the event log, as a worker does that finds no cursor: a new view, or a store that was lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .ingest import uniform
from .measuring import await_folded, check_online, ingest_once
from .results import median
from .rig import Child, console

if TYPE_CHECKING:
    from .options import Options
    from .rig import Rig
    from .workload import Workload


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """The log of one ingest, folded anew by workers that know nothing."""
    workload = uniform(options.events)
    rig.fill(workload)
    with console.status("making the log"):
        _, made = ingest_once(rig, workload)
    rates = []
    for turn in range(1, options.repeat + 1):
        with console.status(f"backfill: run {turn} of {options.repeat}"):
            rates.append(once(rig, workload, made.event_log))
        wall, cpu = rates[-1]
        console.print(f"  backfill {turn}/{options.repeat}: {wall:,.0f} events/s, {cpu:,.0f} per CPU second")
    return {
        "events": workload.events,
        "events_per_s": round(median([wall for wall, _ in rates])),
        "events_per_cpu_s": round(median([cpu for _, cpu in rates])),
        "runs": [{"events_per_s": round(wall), "events_per_cpu_s": round(cpu)} for wall, cpu in rates],
    }


def once(rig: Rig, workload: Workload, event_log: str) -> tuple[float, float]:
    """Events a wall second and a CPU second of the worker, from the first piece that is folded to the last."""
    task = rig.task("ingest", workload, event_log=event_log)
    child = Child(task)
    points: list[tuple[int, float, float]] = []

    def seen(folded: int) -> None:
        if folded > 0 and (not points or points[-1][0] != folded):
            points.append((folded, time.monotonic(), child.cpu()))

    try:
        await_folded(task, [child], seen, every_s=0.005)
    finally:
        child.stop()
    check_online(task, workload)
    (begun, started, cpu), (ended, now, used) = points[0], points[-1]
    if begun == ended:
        raise RuntimeError("the backfill was one piece, so its rate is not known: ask for more --events")
    return (ended - begun) / (now - started), (ended - begun) / max(used - cpu, 0.01)
