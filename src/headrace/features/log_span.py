"""A span of a stream's log: the rows that the windows of some times see, and how far the log has each partition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from headrace.features.order import by_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.features.log import EventLog
    from headrace.features.online import Source

_PLACE = ["__partition", "__topic_id", "__offset"]


class Gap(msgspec.Struct, frozen=True):
    """Offsets from ``first`` to below ``end`` that the log has no rows of."""

    topic: str
    source: str
    first: int
    end: int


@dataclass(frozen=True)
class Extent:
    """The offsets that the log has rows of: runs of them in order, from a first to below an end."""

    topic: str
    runs: Mapping[Source, tuple[np.ndarray, np.ndarray]]

    @staticmethod
    def of(log: EventLog, topic: str) -> Extent:
        """Read it, a piece of the log at a time. Raises OfflineStoreUnavailableError."""
        found: dict[Source, list[tuple[np.ndarray, np.ndarray]]] = {}
        for rows in log.scan(topic, _PLACE):
            for source, part in by_source(rows).items():
                found.setdefault(source, []).append(_runs(part.get_column("__offset").to_numpy()))
        return Extent(topic, {source: _joined(parts) for source, parts in found.items()})

    def ends(self) -> dict[Source, int]:
        """Source partition → the offset after its last row."""
        return {source: int(ends[-1]) for source, (_, ends) in self.runs.items()}

    def gaps(self) -> list[Gap]:
        """What the log lacks between others: lost rows, or what a producer's transactions left."""
        return [
            Gap(self.topic, source.text, end, first)
            for source, (firsts, ends) in sorted(self.runs.items())
            for end, first in zip(ends[:-1].tolist(), firsts[1:].tolist(), strict=True)
        ]


def _runs(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs of ascending offsets."""
    after = np.flatnonzero(np.diff(offsets) > 1) + 1
    return offsets[np.append(0, after)], offsets[np.append(after, len(offsets)) - 1] + 1


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The runs of all parts, those that touch as one."""
    firsts, ends = (np.concatenate(side) for side in zip(*parts, strict=True))
    order = np.argsort(firsts, kind="stable")
    firsts, reached = firsts[order], np.maximum.accumulate(ends[order])
    begins = np.append(0, np.flatnonzero(firsts[1:] > reached[:-1]) + 1)
    return firsts[begins], reached[np.append(begins[1:], len(firsts)) - 1]


@dataclass(frozen=True)
class Span:
    """Times at which something is asked for, and V: topic → source partition → no offset from there on is in it.

    All source partitions that the log has are named.
    """

    from_us: int
    to_us: int
    below: Mapping[str, Mapping[Source, int]]

    def keeps(self, topic: str, event_time: str, longest_us: int) -> ds.Expression:
        """The rows that windows up to ``longest_us`` may see at these times, and those that clocks at V are made of."""
        since, until = (pa.scalar(us, pa.timestamp("us", "UTC")) for us in (self.from_us - longest_us, self.to_us))
        keep = ds.field("__available_at") <= until
        for source, end in self.below[topic].items():
            keep |= (ds.field("__partition") == source.partition) & (ds.field("__offset") < end)
        if self.from_us < longest_us:  # a window without a begin
            return keep
        return keep & ((ds.field("__available_at") >= since) | (ds.field(event_time) >= since))


class SpanReader:
    """Reads the rows of a span, once; otherwise as a :class:`~headrace.features.log.LogReader`."""

    def __init__(
        self, log: EventLog, topic: str, columns: Sequence[str], keep: ds.Expression, below: Mapping[Source, int]
    ) -> None:
        self._log, self._topic, self._columns, self._below = log, topic, columns, below
        self._keep: ds.Expression | None = keep

    def read(self) -> pl.DataFrame:
        """The rows, each source partition's in order; none from the second time on."""
        keep, self._keep = self._keep, None
        nothing = ds.scalar(value=False)
        return self._log.select(self._topic, nothing if keep is None else keep, self._columns)

    def positions(self) -> Mapping[Source, int]:
        """The offsets from which on nothing is asked for."""
        return self._below
