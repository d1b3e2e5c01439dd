"""Where the worker's loop spends its time: cProfile of its thread, the top functions as a table."""

from __future__ import annotations

import pstats
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .ingest import uniform
from .measuring import ingest_once
from .rig import console

if TYPE_CHECKING:
    from .options import Options
    from .rig import Rig

MOST = 40


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Ingest once under the profiler, which slows Python code down by half or more: shares count, not rates."""
    workload = uniform(options.events)
    rig.fill(workload)
    with console.status("profiling"):
        measured, task = ingest_once(rig, workload, profile=True)
    console.print(f"{measured.events_per_s:,.0f} events/s under the profiler")
    console.print(table(pstats.Stats(str(Path(task.folder) / "profile"))))
    return {}


def table(stats: pstats.Stats) -> Table:
    """The functions with the most time of their own."""
    found: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = stats.stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in found.values()) or 1.0
    columns = Table("own s", "share", "with callees s", "calls", "function")
    for (file, line, name), (_, calls, own, whole, _) in sorted(found.items(), key=lambda item: -item[1][2])[:MOST]:
        place = name if file == "~" else f"{'/'.join(Path(file).parts[-2:])}:{line} {name}"
        columns.add_row(f"{own:.2f}", f"{own / total:.0%}", f"{whole:.2f}", f"{calls:,}", place)
    return columns
