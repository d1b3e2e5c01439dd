"""A stream and a view that a plain loop can follow: whole numbers, so that totals are exact."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from headrace.base.times import epoch_us
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.features.definitions.aggregates import Count, Last, Max, Mean, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from tests.support.crash.malformed import malformed

if TYPE_CHECKING:
    from collections.abc import Iterable

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
"""Of today: a broker forgets a producer's place by the timestamps of its records, and then its death may cost some."""
START_US = epoch_us(START)
PARTITIONS = 2
USERS = [f"u{n}" for n in range(150)]
STEP_MS = 10
HISTORY, HISTORY_US = "20m", 1_200_000_000
"""How old a time may be that is looked up: that of 120,000 records."""


class Payment(Event):
    """Someone pays."""

    user: str
    at: datetime
    cents: int


def payments(namespace: str) -> Stream:
    """The stream, with a topic of its own for each test."""
    return Stream(f"{namespace}.payments", Payment, event_time="at", key="user")


def users(namespace: str) -> FeatureView:
    """What is remembered of a user; also at times up to 20 minutes ago."""
    return FeatureView(
        "user",
        entity=Entity("user", str),
        source=payments(namespace),
        windows=["10m", "1h", "1d"],
        features={
            "n": Count(),
            "cents": Sum("cents"),
            "mean": Mean("cents"),
            "most": Max("cents"),
            "last": Last("cents"),
        },
        history=HISTORY,
    )


def service(namespace: str) -> FeatureService:
    """What look-ups ask for."""
    return FeatureService("risk", [users(namespace)])


@dataclass(frozen=True)
class Produced:
    """One record as it was produced."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes | None
    is_broken: bool = False

    @cached_property
    def event(self) -> dict[str, Any] | None:
        """Its fields with ``at`` in microseconds, None if it was made malformed."""
        if self.is_broken:
            return None
        fields: dict[str, Any] = json.loads(self.value or b"")
        return fields | {"at": epoch_us(datetime.fromisoformat(fields["at"]))}


class Till:
    """Makes seeded records: mostly in time, some late, some malformed (one in a hundred unless told otherwise)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._offsets = [0] * PARTITIONS
        self.produced: list[Produced] = []

    def take(self, count: int, broken: float = 0.01) -> list[Produced]:
        """The next records; ``broken`` is the share of malformed ones."""
        new = [self._next(broken) for _ in range(count)]
        self.produced += new
        return new

    def _next(self, broken: float) -> Produced:
        choose = self._random
        partition = choose.randrange(PARTITIONS)
        self._offsets[partition] += 1
        now_ms = sum(self._offsets) * STEP_MS
        at = START + timedelta(milliseconds=max(0, now_ms - choose.choice([0, 1, 900, 30_000])))
        user = USERS[
            int(len(USERS) * choose.random() ** 6)
        ]  # most of them rarely: what is wrong is not soon written over
        fields = {"user": user, "at": at.isoformat(), "cents": choose.randrange(-50, 10_000)}
        is_broken = choose.random() < broken
        value = malformed(fields, choose) if is_broken else json.dumps(fields).encode()
        return Produced(partition, self._offsets[partition] - 1, START_US // 1_000 + now_ms, value, is_broken)

    @property
    def end_us(self) -> int:
        """The record timestamp of the last record."""
        return self.produced[-1].timestamp_ms * 1_000

    def ends(self) -> list[int]:
        """The high watermark of each partition."""
        return list(self._offsets)


WINDOWS = [(600_000_000, 10_000_000), (3_600_000_000, 60_000_000), (86_400_000_000, 1_800_000_000)]


def naive(produced: Iterable[Produced], below: list[int], at_us: int) -> dict[str, list[Any]]:
    """value(V, t) of every user, by a loop over what was produced."""
    rows: dict[str, list[tuple[int, int, int, int]]] = {user: [] for user in USERS}
    for record in produced:
        event = record.event
        if event is not None and record.offset < below[record.partition]:
            rows[event["user"]].append((event["at"], record.partition, record.offset, event["cents"]))
    return {user: _values(own, at_us) for user, own in rows.items()}


def _values(rows: list[tuple[int, int, int, int]], at_us: int) -> list[Any]:
    inside = [
        [row for row in rows if at_us // tile - length // tile < row[0] // tile <= at_us // tile]
        for length, tile in WINDOWS
    ]
    cents = [[row[3] for row in part] for part in inside]
    return [
        *map(len, cents),
        *map(sum, cents),
        *(sum(part) / len(part) if part else None for part in cents),
        *(max(part, default=None) for part in cents),
        *(max(part)[3] if part else None for part in inside),
    ]
