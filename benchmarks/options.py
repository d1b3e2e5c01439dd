"""How large the benchmarks are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Sizes: events of a run, runs of each kind, seconds of steady load and its events a second.

    ``large``: also what takes minutes and gigabytes.
    """

    events: int = 1_000_000
    repeat: int = 3
    seconds: float = 30.0
    rate: int = 20_000
    growth_events: int = 500_000
    peer_events: int = 300_000
    peers_python: Path | None = None
    charts: Path = Path("docs/benchmarks")
    large: bool = False
