"""The same topic and window through other engines that pip can install."""

from __future__ import annotations

import platform
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from .measuring import ingest_once, run_of
from .results import summary
from .rig import Child, console
from .workload import Workload

if TYPE_CHECKING:
    from pathlib import Path

    from .measuring import Run
    from .options import Options
    from .rig import Rig

PEERS = ("bytewax", "quixstreams", "pathway")
WINDOWS_AN_EVENT = 6
PATIENCE_S = 900.0
PER_SECOND = 1_000
"""Of event time: windows open and close many times over."""


class PeerTask(msgspec.Struct, frozen=True, kw_only=True):
    """What benchmarks/peer/common.py reads."""

    servers: str
    topic: str
    folder: str
    events: int
    gc: bool
    redis_url: str | None


class Way(NamedTuple):
    """With Python's cyclic garbage collection; with results in Redis."""

    gc: bool
    redis: bool


WAYS = (Way(gc=True, redis=False), Way(gc=False, redis=False), Way(gc=True, redis=True), Way(gc=False, redis=True))


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """headrace, then each peer: with garbage collection on and off, without and with its results in Redis."""
    workload = Workload("peers", options.peer_events, per_second=PER_SECOND)
    rig.fill(workload)
    found = {peer: all_ways(rig, workload, options, peer) for peer in PEERS}
    with console.status("headrace"):
        own = summary([ingest_once(rig, workload)[0] for _ in range(options.repeat)])
    rates = [way["events_per_s"] for peer in found.values() for way in peer.get("runs", ()) if way["redis"]]
    ratio = round(own["events_per_s"] / max(rates), 2) if any(rates) else None
    return {"events": workload.events, "headrace": own, "peers": found, "ratio_to_best_with_redis": ratio}


def all_ways(rig: Rig, workload: Workload, options: Options, peer: str) -> dict[str, Any]:
    """A peer in each way, or why not."""
    if options.peers_python is None:
        return {"missing": "not asked for: make bench PEERS=1"}
    version = installed(options.peers_python, peer)
    if version is None:
        console.print(f"  {peer}: not installed")
        return {"missing": f"could not be installed for Python {platform.python_version()}"}
    return {"version": version, "runs": [in_way(rig, workload, options, peer, way) for way in WAYS]}


def installed(python: Path, package: str) -> str | None:
    """The version that the interpreter has, None if it has not."""
    code = f"import importlib.metadata as m, {package}; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else None


def in_way(rig: Rig, workload: Workload, options: Options, peer: str, way: Way) -> dict[str, Any]:
    """A peer's runs in one way; an error is a result too."""
    runs: list[Run] = []
    shares: list[float] = []
    try:
        for turn in range(1, options.repeat + 1):
            with console.status(f"{peer}, {way}: run {turn} of {options.repeat}"):
                measured, counted = once(rig, workload, options, peer, way)
            runs.append(measured)
            shares.append(round(counted / (WINDOWS_AN_EVENT * workload.events), 4))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        console.print(f"  {peer}, {way}: {reason}", markup=False)
        return {**way._asdict(), "events_per_s": 0, "error": reason}
    found = summary(runs)
    console.print(f"  {peer}, {way}: {found['events_per_s']:,.0f} events/s")
    return {**way._asdict(), **found, "counted": min(shares)}


def once(rig: Rig, workload: Workload, options: Options, peer: str, way: Way) -> tuple[Run, int]:
    """One run, and how many events its finished windows count."""
    rig.reset()
    task = PeerTask(
        servers=rig.servers,
        topic=workload.topic,
        folder=rig.task("decode", workload).folder,
        events=workload.events,
        gc=way.gc,
        redis_url=rig.redis_url if way.redis else None,
    )
    child = Child(task, module=f"benchmarks.peer.{peer}", python=options.peers_python)
    try:
        first = child.reached("first")
        before = rig.cpu()
        last = child.reached("last", patience_s=PATIENCE_S)
        return run_of(workload.events, first, last, before, rig.cpu()), last.counted
    finally:
        child.stop()
