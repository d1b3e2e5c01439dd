"""bench.json: the results of each section, as they come."""

from __future__ import annotations

import statistics
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .measuring import Run

FORMAT = 1


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """All runs, and the median of their rates."""
    return {"events_per_s": median([run.events_per_s for run in runs]), "runs": [msgspec.to_builtins(r) for r in runs]}


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p99 and max in milliseconds."""
    p50, p99, largest = np.quantile(np.array(seconds) * 1e3, [0.5, 0.99, 1.0]).tolist()
    return {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3), "max_ms": round(largest, 3)}


def record(path: Path, here: Mapping[str, Any], section: str, result: Mapping[str, Any]) -> None:
    """Put a section's result into the file; ``here`` is the machine, and results of another one are dropped."""
    known = read(path)
    same = bool(known) and all(known["machine"].get(name) == here[name] for name in ("cpu", "cores"))
    sections = known["sections"] if same else {}
    measured = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": _commit()}
    sections[section] = {**measured, **result}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(_document(here, sections)), indent=2) + b"\n")


def read(path: Path) -> dict[str, Any]:
    """The file's content; nothing if there is none of this format."""
    if not path.exists():
        return {}
    document: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return document if document.get("format") == FORMAT else {}


def _document(here: Mapping[str, Any], sections: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "machine": here, "sections": sections}


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
