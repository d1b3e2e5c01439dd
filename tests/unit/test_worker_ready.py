"""A worker says once that it is ready."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from structlog.testing import capture_logs

from headrace.streams.plane.housekeeping import Housekeeping
from headrace.streams.plane.partition import PartitionPhase, Place


def test_a_worker_says_that_it_is_ready_when_all_its_partitions_are_live_and_only_once() -> None:
    phases: dict[Place, PartitionPhase] = {}
    parts = cast("Any", SimpleNamespace(phases=lambda: phases, beat=list, step=lambda: None, report=lambda: None))
    house = Housekeeping(
        parts, parts, deployer=parts, scavenger=parts, reporter=parts,
        until_available=cast("Any", lambda step: step()), memory_bytes=1,
    )  # fmt: skip
    said: list[int] = []

    def beat() -> None:
        with capture_logs() as logs:
            house.beat()
        said.append(sum(entry["event"] == "worker is ready" for entry in logs))

    beat()
    phases |= {("a", 0): PartitionPhase.CATCHING_UP, ("b", 0): PartitionPhase.LIVE}
    beat()
    phases["a", 0] = PartitionPhase.LIVE
    beat()
    beat()
    assert said == [0, 0, 1, 0]
