"""The accepted rows of one topic that a model uses: each is read once, and they are kept in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.bus.source_partition import NO_CLOCK, is_import
from headrace.event_log.columns import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import LogReader, LogSnapshot, ReadableLog

_ORDER = ["__available_at", "__partition", "__offset"]
_SOURCE = ["__partition", "__topic_id"]
_MOST_CHUNKS = 64
"""Each read adds a piece to the frame. More of them than this cost more than to copy it once."""


class TopicRows:
    """The accepted rows of one stream in order of availability. ``unique`` columns keep the first row of equal ones."""

    @classmethod
    def of_log(
        cls,
        log: ReadableLog,
        topic: str,
        selection: list[pl.Expr],
        *,
        unique: list[str] | None = None,
        where: pl.Expr | None = None,
    ) -> TopicRows:
        """Return the rows of a topic of a log. Only the columns that the expressions name are read."""
        used = [*selection, *map(pl.col, _ORDER), *([] if where is None else [where])]
        columns = sorted({name for each in used for name in each.meta.root_names()})
        return cls(log.reader(topic, columns), selection, unique=unique, where=where)

    def __init__(
        self,
        reader: LogReader,
        selection: list[pl.Expr],
        *,
        unique: list[str] | None = None,
        where: pl.Expr | None = None,
    ) -> None:
        self._reader = reader
        self._selection = [*selection, *map(pl.col, _ORDER)]
        self._unique = unique
        accepted = pl.col("__verdict") == ACCEPTED
        self._where = accepted if where is None else accepted & where
        self._read: list[pl.DataFrame] = []
        self._frame: pl.DataFrame | None = None
        self._unchanged = 0
        self._clocks: dict[Any, int] = {}
        self.restarts = 0
        """How often all rows were read again, because an import was undone. No row is the same as before then."""

    @property
    def unchanged(self) -> int:
        """The number of first rows of :meth:`frame` that are the same since :meth:`settle`. Later ones may be new."""
        return self._unchanged

    def settle(self) -> None:
        """Called when all that depends on the rows is up to date with the last :meth:`frame`."""
        self._unchanged = 0 if self._frame is None else self._frame.height

    def positions(self) -> Mapping[SourcePartition, int]:
        """Return for each source partition the offset below which every row was read."""
        return self._reader.positions()

    def frame(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """All rows of the log as it is now, or of a later ``snapshot`` of it.

        An expression may raise. Then the rows that were read are kept, and the next call begins with them.
        """
        self._read.append(self._reader.read(snapshot))
        if self._reader.restarts != self.restarts:
            self._read, self._frame, self._unchanged, self._clocks = self._read[-1:], None, 0, {}
            self.restarts = self._reader.restarts
        new = pl.concat(self._read)
        if self._frame is None or not new.is_empty():
            kept = self._in_order(new.filter(self._where).select(self._selection))
            self._frame = kept if self._frame is None else self._with(self._frame, kept)
            self._clocks |= _clocks(new)
        self._read.clear()
        return self._frame

    def known(self) -> pl.DataFrame:
        """The rows of the last call of :meth:`frame`, without reading."""
        if self._frame is None:
            raise AssertionError("nothing was read yet")
        return self._frame

    def clock_us(self) -> int:
        """The time up to which the rows of every partition have been read; :data:`NO_CLOCK` while there are none.

        If the topic was created again, only the partitions of its newest incarnation count.
        """
        return min(self.clocks().values(), default=NO_CLOCK)

    def clocks(self) -> Mapping[int, int]:
        """The time up to which each partition of the topic's newest incarnation has been read.

        An import is complete, so it holds nothing up. If the topic has only imports, the latest row of them counts.
        """
        if not self._clocks:
            return {}
        of_topic = {source: us for source, us in self._clocks.items() if not is_import(source[1])} or self._clocks
        _, newest = max(of_topic, key=lambda source: of_topic[source])
        return {partition: us for (partition, topic_id), us in sorted(of_topic.items()) if topic_id == newest}

    def _with(self, frame: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
        """Put new rows into the frame. Mostly they come last; rows of a slower partition come among the last ones."""
        if new.is_empty():
            return frame
        first = _place(frame, new)
        before, after = frame[:first], self._in_order(pl.concat([frame[first:], new])) if first < frame.height else new
        if self._unique is not None:
            after = after.join(before, on=self._unique, how="anti", nulls_equal=True, maintain_order="left")
        self._unchanged = min(self._unchanged, first)
        found = pl.concat([before, after])
        return found.rechunk() if found.n_chunks() > _MOST_CHUNKS else found

    def _in_order(self, frame: pl.DataFrame) -> pl.DataFrame:
        ordered = frame.sort(_ORDER)
        return ordered if self._unique is None else ordered.unique(self._unique, keep="first", maintain_order=True)


def _place(frame: pl.DataFrame, new: pl.DataFrame) -> int:
    """Return how many rows of the frame surely come before the first of some new ones."""
    first_us = new.get_column("__available_at").to_physical().item(0)
    return int(np.searchsorted(frame.get_column("__available_at").to_physical().to_numpy(), first_us, "left"))


def _clocks(rows: pl.DataFrame) -> dict[Any, int]:
    """Return for each source partition the time at which its last row was available: the running maximum."""
    last = rows.group_by(_SOURCE).agg(pl.col("__available_at").dt.epoch("us").max())
    return {tuple(source): us for *source, us in last.iter_rows()}
