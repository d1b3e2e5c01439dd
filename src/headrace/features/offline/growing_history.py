"""value(V, t) for events that go by: the rows of the views' streams grow, and each batch asks for a few entities.

An index of all rows would be made anew for each batch. So the index is made of the rows that the batch can use alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from msgspec import UNSET

from headrace.bus.nested_columns import column_of, flat
from headrace.bus.source_partition import NO_CLOCK
from headrace.event_log.by_source import by_source
from headrace.features.definitions.view_spec import NO_KEY, NO_KEY_VALUE
from headrace.features.offline.feature_history import own_columns
from headrace.features.offline.view_history import ViewHistory

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import LogReader, LogSnapshot, ReadableLog
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.offline.feature_history import OwnRecords

_MOST_CHUNKS = 50


class GrowingHistory:
    """Reads each row of the views' streams once, and computes features from the rows that it has read.

    The values are those of :class:`~headrace.features.offline.feature_history.FeatureHistory` on the same rows.
    """

    def __init__(self, specs: Sequence[ViewSpec], log: ReadableLog) -> None:
        self._specs = list(specs)
        topics = list(dict.fromkeys(topic for spec in specs for topic in spec.topics))
        self._readers: dict[str, LogReader] = {topic: log.reader(topic, self._columns(topic)) for topic in topics}
        self._rows: dict[str, pl.DataFrame] = {}
        self._restarts = dict.fromkeys(topics, 0)
        self.clocks: dict[str, dict[SourcePartition, int]] = {topic: {} for topic in topics}
        """By topic ``available_at`` of the newest row of each source partition, in microseconds."""

    def _columns(self, topic: str) -> list[str]:
        specs = [spec for spec in self._specs if topic in spec.topics]
        return list(dict.fromkeys(["__available_at", *(name for spec in specs for name in spec.fields_of(topic))]))

    def refresh(self, snapshot: LogSnapshot) -> None:
        """Read the rows that are new in a snapshot. Raises OfflineStoreUnavailableError."""
        for topic, reader in self._readers.items():
            new = reader.read(snapshot)
            if reader.restarts != self._restarts[topic]:  # an import was undone: all rows are read again
                self._restarts[topic] = reader.restarts
                self._rows.pop(topic, None)
                self.clocks[topic] = {}
            for source, rows in by_source(new).items():
                newest: int = rows.get_column("__available_at").dt.epoch("us").max()  # type: ignore[assignment]
                self.clocks[topic][source] = max(self.clocks[topic].get(source, NO_CLOCK), newest)
            known = self._rows.get(topic)
            found = new if known is None else pl.concat([known, new]) if new.height else known
            self._rows[topic] = found.rechunk() if found.n_chunks() > _MOST_CHUNKS else found

    def features(self, keys: pl.DataFrame, at_us: np.ndarray, own: OwnRecords) -> pl.DataFrame:
        """Return all columns of the views, in order, for each row of ``keys``, which is the event ``own``.

        V is what was available at t minus the view's delay, without the own record or with it, as ``own`` says.
        """
        if any(spec.entity.is_global for spec in self._specs):
            keys = keys.with_columns(pl.Series(NO_KEY, [NO_KEY_VALUE] * len(at_us), pl.String))
        return pl.DataFrame(
            [
                column
                for spec in self._specs
                for column in own_columns(self._history(spec, keys, at_us), keys, at_us, own)
            ]
        )

    def _history(self, spec: ViewSpec, keys: pl.DataFrame, at_us: np.ndarray) -> ViewHistory:
        rows = {topic: self._usable(spec, self._rows[topic], keys, at_us) for topic in spec.topics}
        ends = {source: end for topic in rows for source, end in self._readers[topic].positions().items()}
        return ViewHistory(spec, rows, ends)

    def _usable(self, spec: ViewSpec, rows: pl.DataFrame, keys: pl.DataFrame, at_us: np.ndarray) -> pl.DataFrame:
        """Return the rows of these entities within the windows. V of the other rows changes no value.

        A view with roles has other times and keys than its streams: it gets all rows.
        """
        if spec.roles is not UNSET:
            return rows
        oldest_us = int(at_us.min(initial=-NO_CLOCK)) - spec.longest_reach_us
        if oldest_us > NO_CLOCK:
            rows = rows.filter(column_of(rows, spec.stream.event_time).cast(pl.Int64) >= oldest_us)
        if spec.entity.is_global:
            return rows
        wanted = keys.select(spec.key_names).unique()
        found = flat(rows).select(spec.key_names).with_row_index("__row")
        return rows[found.join(wanted, on=spec.key_names, how="semi", maintain_order="left").get_column("__row")]
