"""The vectors of all models of a trainer, read once: each model gets its own.

All models have one topic for their vectors. If each of them read it, a hundred models would read it a hundred times.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING
from weakref import WeakSet

import polars as pl
import pyarrow.dataset as ds

from headrace.event_log.by_source import by_source
from headrace.features.offline.vector_values import logged_columns
from headrace.models.predictions import vectors_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import ReadableLog
    from headrace.trainers.definitions import Model

VECTOR_COLUMNS = [
    "key", "model", "requested_at", "request", "service", "statuses", "values", "__available_at", "__verdict",
]  # fmt: skip
MOST_KEPT = 100_000
"""The new rows that are kept for a model until it asks for them. More are read again when it does."""


class VectorFeed:
    """The vectors of one model. Make it with :meth:`SharedVectors.feed`."""

    def __init__(self, shared: SharedVectors, model: str) -> None:
        self._shared = shared
        self.model = model
        self.kept: list[pl.DataFrame] | None = None
        self.positions: Mapping[SourcePartition, int] = {}

    def read(self) -> pl.DataFrame:
        """Return the rows that are new since the last call, as a :class:`LogReader` does."""
        return self._shared.read(self)

    def keep(self, rows: pl.DataFrame) -> None:
        """Called with new rows of the model. If they are too many, they are read again."""
        if self.kept is not None:
            self.kept.append(rows)
            if sum(each.height for each in self.kept) > MOST_KEPT:
                self.kept = None


class SharedVectors:
    """Reads the vectors of all ``models``, and keeps what is new until one asks for it. For several threads."""

    def __init__(self, log: ReadableLog, models: Mapping[str, Model] | None = None) -> None:
        self._log = log
        self._topic = vectors_of(log.namespace).topic
        self._columns = logged_columns((of.features.column_kinds for of in (models or {}).values()), VECTOR_COLUMNS)
        self._reader = log.reader(self._topic, self._columns)
        self._feeds: dict[str, WeakSet[VectorFeed]] = defaultdict(WeakSet)
        self._first: dict[str, list[pl.DataFrame]] = {}
        self._is_first = True
        self._lock = threading.Lock()

    def feed(self, model: str) -> VectorFeed:
        """Return a feed of all vectors of a model that are in the log and that will come."""
        found = VectorFeed(self, model)
        self._feeds[model].add(found)
        return found

    def read(self, feed: VectorFeed) -> pl.DataFrame:
        """Return the rows that are new for a feed. Raises what reading a log raises; then the next call has them."""
        with self._lock:
            nothing = self._read_on()
            if feed.positions:
                self._first, self._is_first = {}, False  # all models have had their first tick
            rows = feed.kept if feed.kept is not None else self._from_log(feed)
            feed.kept, feed.positions = [], self._reader.positions()
            return pl.concat([nothing, *rows])

    def _read_on(self) -> pl.DataFrame:
        """Read what is new, and hand it to the feeds. Return no rows.

        Until a feed reads for the second time, all rows are kept: in the first tick each model asks for its own.
        """
        new = self._reader.read()
        for (name,), rows in new.partition_by("model", as_dict=True, maintain_order=True).items():
            for feed in self._feeds.get(name, ()):
                feed.keep(rows)
            if self._is_first:
                self._first.setdefault(name, []).append(rows)
        return new.clear()

    def _from_log(self, feed: VectorFeed) -> list[pl.DataFrame]:
        """Return the rows of a model that were read before, but not kept for this feed."""
        if self._is_first and not feed.positions:
            return self._first.get(feed.model, [])
        found = by_source(self._log.select(self._topic, ds.field("model") == feed.model, self._columns))
        until = self._reader.positions()
        offset = pl.col("__offset")
        return [
            rows.filter((offset >= feed.positions.get(source, 0)) & (offset < until.get(source, 0)))
            for source, rows in found.items()
        ]
