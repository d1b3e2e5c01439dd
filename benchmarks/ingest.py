"""Kafka to Redis and the event log, exactly once, against merely consuming and decoding the same topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .measuring import decode_once, ingest_once
from .results import median, summary
from .rig import console
from .workload import Workload

if TYPE_CHECKING:
    from .measuring import Run
    from .options import Options
    from .rig import Rig


def uniform(events: int) -> Workload:
    """All users alike, all in time."""
    return Workload("uniform", events)


def skewed(events: int) -> Workload:
    """Zipf(1.1) over the users, and five in a hundred events late."""
    return Workload("zipf", events, zipf=1.1, late=0.05)


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Both workloads."""
    return {load.name: compare(rig, load, options.repeat) for load in (uniform(options.events), skewed(options.events))}


def compare(rig: Rig, workload: Workload, repeat: int) -> dict[str, Any]:
    """The floor and the worker in turn, so that both meet the same machine."""
    rig.fill(workload)
    floors: list[Run] = []
    workers: list[Run] = []
    for turn in range(1, repeat + 1):
        with console.status(f"{workload.name}: run {turn} of {repeat}"):
            floors.append(decode_once(rig, workload))
            workers.append(ingest_once(rig, workload)[0])
        rates = f"decode {floors[-1].events_per_s:,.0f}/s, ingest {workers[-1].events_per_s:,.0f}/s"
        console.print(f"  {workload.name} {turn}/{repeat}: {rates}, totals exact")
    decode, ingest = summary(floors), summary(workers)
    return {
        "events": workload.events,
        "users": workload.users,
        "decode": decode,
        "ingest": ingest,
        "ratio_to_decode": round(ingest["events_per_s"] / decode["events_per_s"], 3),
        "events_per_cpu_s": round(median([workload.events / run.cpu["worker"] for run in workers])),
    }
