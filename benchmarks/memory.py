"""A million entities, with little and with enough memory for them: the rate, and what the worker's process takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .measuring import ingest_once
from .rig import console
from .workload import Workload

if TYPE_CHECKING:
    from .options import Options
    from .rig import Rig

USERS = 1_000_000
BOUNDS_MIB = (64, 256, 1024)


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """The same events under several bounds; each run is checked, user by user."""
    workload = Workload("million", 2 * options.events, users=USERS, per_second=100_000)
    rig.fill(workload)
    found = []
    for bound in BOUNDS_MIB:
        with console.status(f"a million users in {bound} MiB"):
            measured, _ = ingest_once(rig, workload, memory_mib=bound)
        found.append({"bound_mib": bound, "peak_mib": measured.peak_mib, "events_per_s": measured.events_per_s})
        console.print(f"  bound {bound:,} MiB: {measured.events_per_s:,}/s, the process took {measured.peak_mib:,} MiB")
    return {"events": workload.events, "users": len(np.unique(workload.rows.users)), "runs": found}
