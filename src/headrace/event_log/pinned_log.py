"""The event log as it was when a manifest was written: for each pinned topic, the rows below the pinned offsets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headrace.event_log.event_log import EventLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.bus.source_partition import SourcePartition


class PinnedLog(EventLog):
    """An event log of which some topics end at pinned offsets.

    ``ends`` maps a topic to its source partitions, and each of these to the offset below which its rows are visible.
    The other topics are as they are now.
    """

    def __init__(self, url: str | Path, ends: Mapping[str, Mapping[SourcePartition, int]]) -> None:
        super().__init__(url)
        self._pins = ends

    def _visible(self, topic: str, rows: pl.DataFrame) -> pl.DataFrame:
        below = self._pins.get(topic)
        if below is None:
            return rows
        own = (
            (pl.col("__partition") == source.partition)
            & (pl.col("__topic_id") == source.topic_id)
            & (pl.col("__offset") < end)
            for source, end in below.items()
        )
        return rows.filter(pl.any_horizontal(pl.lit(value=False), *own))
