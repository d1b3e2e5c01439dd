"""Run benchmarks: python -m benchmarks [SECTION…] [--events N] …; results go to bench.json and docs/benchmarks.md."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import (
    aggregates,
    backfill,
    evidence,
    evidence_page,
    feast_lookups,
    footprint,
    formats,
    freshness,
    growth,
    history,
    http,
    ingest,
    lookups,
    memory,
    models,
    page,
    peers,
    profiling,
    results,
    swap,
    training_sets,
)
from .machine import machine
from .options import Options
from .rig import console, rig

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rig import Rig

SECTIONS: dict[str, Callable[[Rig, Options], dict[str, Any]]] = {
    "ingest": ingest.run,
    "freshness": freshness.run,
    "backfill": backfill.run,
    "history": history.run,
    "bytes": footprint.run,
    "formats": formats.run,
    "aggregates": aggregates.run,
    "growth": growth.run,
    "memory": memory.run,
    "lookups": lookups.run,
    "feast": feast_lookups.run,
    "http": http.run,
    "training": training_sets.run,
    "models": models.run,
    "evidence": evidence.run,
    "swap": swap.run,
    "peers": peers.run,
    "profile": profiling.run,
}
BY_DEFAULT = ["ingest", "freshness", "backfill", "bytes", "growth", "memory", "lookups", "feast"]


def main() -> None:
    """Run what is asked for, one section after the other; each is kept as soon as it is measured."""
    asked = parser().parse_args()
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # as `headrace worker` has it; the floors too
    here = machine()
    options = Options(**{option.name: getattr(asked, option.name) for option in fields(Options)})
    failed = []
    for section in asked.sections or [*BY_DEFAULT, *(["peers"] if options.peers_python else [])]:
        console.rule(section)
        started = time.monotonic()
        try:
            result = measure(section, options)
        except Exception:  # noqa: BLE001 - the other sections are worth having
            console.print_exception()
            failed.append(section)
            continue
        if result:
            results.record(asked.out, here, section, result)
            page.write(asked.page, results.read(asked.out))
            if section == "evidence":
                evidence_page.write(result)
        console.print(f"{section}: {time.monotonic() - started:.0f} s")
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def measure(section: str, options: Options) -> dict[str, Any]:
    """A section on services of its own; nothing for one that only prints."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:  # noqa: SIM117
        with rig(Path(folder)) as standing:
            return SECTIONS[section](standing, options)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    own = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    own.add_argument("sections", nargs="*", metavar="SECTION", choices=[*SECTIONS, []], help=", ".join(SECTIONS))
    own.add_argument("--events", type=int, default=Options.events, help="events of a run (%(default)s)")
    own.add_argument("--repeat", type=int, default=Options.repeat, help="runs of each kind (%(default)s)")
    own.add_argument("--seconds", type=float, default=Options.seconds, help="of steady load (%(default)s)")
    own.add_argument("--rate", type=int, default=Options.rate, help="events a second of steady load (%(default)s)")
    own.add_argument("--growth-events", type=int, default=Options.growth_events, help="a point (%(default)s)")
    own.add_argument("--peer-events", type=int, default=Options.peer_events, help="of the peers (%(default)s)")
    own.add_argument("--peers-python", type=Path, help="an interpreter that has the peers (make bench PEERS=1)")
    own.add_argument("--large", action="store_true", help="training: a million rows of ten million events too")
    own.add_argument("--charts", type=Path, default=Options.charts, help="folder of the charts (%(default)s)")
    own.add_argument("--out", type=Path, default=Path("bench.json"), help="results (%(default)s)")
    own.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"), help="tables (%(default)s)")
    return own


if __name__ == "__main__":
    main()
