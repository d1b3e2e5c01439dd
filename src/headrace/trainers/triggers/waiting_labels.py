"""What holds the labels of a model up: the partitions of the label's topic that have to come first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.base.times import Instant, utc_datetime
from headrace.bus.message import Int64

if TYPE_CHECKING:
    from collections.abc import Sequence

HELD_AFTER_US = 3_600_000_000
"""A request whose label should have been known for this long waits: shorter waits are usual between two records."""


class WaitingLabels(msgspec.Struct, frozen=True, kw_only=True):
    """Matured requests that have no label yet, neither true nor false, because of one partition of the label's topic.

    ``rows`` counts them. ``since_us`` is the ``available_at`` of the partition's last record: a label that was produced
    later would be the next one there. Partition and time are None if the topic has no record at all.
    """

    rows: Int64
    topic: str
    partition: Int64 | None = None
    since_us: Instant | None = None

    @property
    def reason(self) -> str:
        """The topic, the partition and the time since which labels wait."""
        if self.partition is None or self.since_us is None:
            return f"{self.rows:,} matured requests wait for a first record on {self.topic}"
        since = utc_datetime(self.since_us - self.since_us % 1_000_000).isoformat().replace("+00:00", "Z")
        return (
            f"{self.rows:,} matured requests wait for partition {self.partition} of {self.topic}, which has had no "
            f"record since {since}"
        )


def as_inputs(waiting: Sequence[WaitingLabels]) -> dict[str, Any]:
    """Return the part of a decision's inputs that names what labels wait for. Nothing waits: nothing is added."""
    return {"waiting": msgspec.to_builtins(list(waiting))} if waiting else {}


def of_inputs(inputs: dict[str, Any]) -> list[WaitingLabels]:
    """Return what labels waited for, from a decision's inputs."""
    return msgspec.convert(inputs.get("waiting", []), list[WaitingLabels])


def with_waiting(reason: str, inputs: dict[str, Any]) -> str:
    """Return a decision's reason with what labels wait for, if anything."""
    return "; ".join([reason, *(each.reason for each in of_inputs(inputs))])
