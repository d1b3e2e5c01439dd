"""The offsets of a topic that have rows in the event log, and the offsets that have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from headrace.event_log.by_source import by_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import ReadableLog


_PLACE = ["__partition", "__topic_id", "__offset"]


class MissingOffsets(msgspec.Struct, frozen=True):
    """The offsets from ``first`` to below ``end``, for which the log has no rows."""

    topic: str
    source: str
    first: int
    end: int


@dataclass(frozen=True)
class LoggedOffsets:
    """The offsets that have rows in the log, as runs in order: the first offset and the end of each run."""

    topic: str
    runs: Mapping[SourcePartition, tuple[np.ndarray, np.ndarray]]

    @staticmethod
    def read(log: ReadableLog, topic: str) -> LoggedOffsets:
        """Read the offsets from the log, a piece at a time. Raises OfflineStoreUnavailableError."""
        found: dict[SourcePartition, list[tuple[np.ndarray, np.ndarray]]] = {}
        for rows in log.scan(topic, _PLACE):
            for source, part in by_source(rows).items():
                found.setdefault(source, []).append(_runs(part.get_column("__offset").to_numpy()))
        return LoggedOffsets(topic, {source: _joined(parts) for source, parts in found.items()})

    def ends(self) -> dict[SourcePartition, int]:
        """Return for each source partition the offset after its last row."""
        return {source: int(ends[-1]) for source, (_, ends) in self.runs.items()}

    def gaps(self) -> list[MissingOffsets]:
        """Return the offsets without rows between offsets with rows.

        They are lost rows, or the markers of a producer's transactions.
        """
        return [
            MissingOffsets(self.topic, source.text, end, first)
            for source, (firsts, ends) in sorted(self.runs.items())
            for end, first in zip(ends[:-1].tolist(), firsts[1:].tolist(), strict=True)
        ]


def _runs(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs of ascending offsets."""
    after = np.flatnonzero(np.diff(offsets) > 1) + 1
    return offsets[np.append(0, after)], offsets[np.append(after, len(offsets)) - 1] + 1


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the runs of all parts. Runs that touch become one."""
    firsts, ends = (np.concatenate(side) for side in zip(*parts, strict=True))
    order = np.argsort(firsts, kind="stable")
    firsts, reached = firsts[order], np.maximum.accumulate(ends[order])
    begins = np.append(0, np.flatnonzero(firsts[1:] > reached[:-1]) + 1)
    return firsts[begins], reached[np.append(begins[1:], len(firsts)) - 1]
