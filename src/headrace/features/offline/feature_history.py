"""Features for a spine: value(V, t) of every row in order, from the event log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.event_log.query_span import QuerySpan, SpanReader
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory, measured_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import LogReader, LogSnapshot, ReadableLog

_NO_LIMIT = 2**62
_DECODE = msgspec.json.Decoder(dict[str, dict[str, int]]).decode


@dataclass(frozen=True)
class ServedOffsets:
    """V as it was logged when vectors were served: for each view a row a vector and a column a source.

    ``there`` says which rows were logged at all; the others are 0. ``unknown``, for each view, which rows saw records
    of a source that the event log has none of.
    """

    offsets: Sequence[np.ndarray]
    there: np.ndarray
    unknown: Sequence[np.ndarray]


@dataclass(frozen=True)
class OwnRecords:
    """The records that the rows of a spine are themselves: their topic, and ``__partition __topic_id __offset``."""

    topic: str
    places: pl.DataFrame


class FeatureHistory:
    """The event log of some views, read incrementally, for point-in-time queries; of a ``span``, only what these need.

    The index of a view is built anew when its stream has new rows.
    """

    def __init__(self, specs: Sequence[Mapping[str, Any]], log: ReadableLog, span: QuerySpan | None = None) -> None:
        self._specs = list(specs)
        of_topics: dict[str, list[Mapping[str, Any]]] = {}
        for spec in specs:
            of_topics.setdefault(spec["source"]["topic"], []).append(spec)
        self._readers = {topic: _reader(log, topic, of_topic, span) for topic, of_topic in of_topics.items()}
        self._rows: dict[str, list[pl.DataFrame]] = {topic: [] for topic in self._readers}
        self._views: dict[str, ViewHistory] = {}

    def refresh(self, snapshot: LogSnapshot | None = None) -> None:
        """Read what is new in the log as it is now, or in a later ``snapshot`` of it."""
        for topic, reader in self._readers.items():
            new = reader.read(snapshot)
            if not self._rows[topic] or not new.is_empty():
                self._rows[topic] = [pl.concat([*self._rows[topic], new])]
                self._views = {name: v for name, v in self._views.items() if v.kernel.spec["source"]["topic"] != topic}

    def positions(self) -> dict[str, Mapping[SourcePartition, int]]:
        """Topic → source partition → the offset below which all was read."""
        return {topic: reader.positions() for topic, reader in self._readers.items()}

    def view(self, spec: Mapping[str, Any]) -> ViewHistory:
        """The index of one view: of these, or another one of the same stream and fields."""
        if spec["view"] not in self._views:
            topic = spec["source"]["topic"]
            self._views[spec["view"]] = ViewHistory(spec, self._rows[topic][0], self._readers[topic].positions())
        return self._views[spec["view"]]

    def logged(self, served: Sequence[str | None]) -> ServedOffsets:
        """V from log lines (JSON: view → source partition → next offset); None where nothing was logged.

        A source that a line lacks had no record then.
        """
        texts = pl.DataFrame({"text": pl.Series(served, dtype=pl.String)})
        distinct = texts.unique(maintain_order=True).with_row_index("code")  # those served together share a line
        codes = texts.join(distinct, on="text", how="left", nulls_equal=True, maintain_order="left")["code"].to_numpy()
        found = [{} if text is None else _DECODE(text) for text in distinct["text"].to_list()]
        of_views = [(self.view(spec).sources, [v.get(spec["view"], {}) for v in found]) for spec in self._specs]
        return ServedOffsets(
            [_offsets(*of_view)[codes] for of_view in of_views],
            texts["text"].is_not_null().to_numpy(),
            [_unknown(*of_view)[codes] for of_view in of_views],
        )

    def features(
        self,
        keys: pl.DataFrame,
        at_us: np.ndarray,
        served: Sequence[str | None] | ServedOffsets | None = None,
        own: OwnRecords | None = None,
    ) -> pl.DataFrame:
        """All feature columns of the views for each row of ``keys``, in order; null where there is no value.

        ``served`` is a row's V as logged. Where it is None, or is not given at all, V is what was available at t minus
        the view's delay, and never the row's ``own`` record. Where a look-up at the logged V had to say
        ``out_of_range``, there is no value here either: a model is not shown what it could not have seen.
        """
        logged = served if isinstance(served, ServedOffsets) or served is None else self.logged(served)
        places = range(len(self._specs))
        return pl.DataFrame([column for place in places for column in self._columns(place, keys, at_us, logged, own)])

    def _columns(
        self,
        place: int,
        keys: pl.DataFrame,
        at_us: np.ndarray,
        logged: ServedOffsets | None,
        own: OwnRecords | None,
    ) -> Iterator[pl.Series]:
        """The columns of one view."""
        spec = self._specs[place]
        history, offsets = self.view(spec), self._available(spec, at_us, own)
        unknown = np.zeros(len(offsets), bool)
        if logged is not None:
            offsets = np.where(logged.there[:, None], logged.offsets[place], offsets)
            unknown = history.out_of_range(at_us, offsets) & logged.there
        queries = PointInTimeQueries(keys, at_us, offsets, history.sources)
        for name, (found, present) in zip(kernel(spec).columns, history.values(queries), strict=True):
            yield _column(name, found, ~present | unknown)

    def _available(self, spec: Mapping[str, Any], at_us: np.ndarray, own: OwnRecords | None) -> np.ndarray:
        """V of rows that were never served: what was available, without the row's own record."""
        history = self.view(spec)
        offsets = history.known_at(at_us, spec["delay_us"])
        if own is None or own.topic != spec["source"]["topic"]:
            return offsets
        limited: np.ndarray = np.minimum(offsets, _own_limits(history.sources, own.places))
        return limited


def available_features(history: ViewHistory, keys: pl.DataFrame, at_us: np.ndarray) -> pl.DataFrame:
    """The columns of one view for each row of ``keys``, of what was available at t less the view's delay."""
    offsets = history.known_at(at_us, history.kernel.spec["delay_us"])
    found = history.values(PointInTimeQueries(keys, at_us, offsets, history.sources))
    names = history.kernel.columns
    return pl.DataFrame([_column(name, each, ~there) for name, (each, there) in zip(names, found, strict=True)])


def _column(name: str, found: np.ndarray, missing: np.ndarray) -> pl.Series:
    column = pl.Series(name, found)
    return column.set(pl.Series(missing), None) if missing.any() else column


def _reader(
    log: ReadableLog, topic: str, specs: Sequence[Mapping[str, Any]], span: QuerySpan | None
) -> LogReader | SpanReader:
    """Of what views of one stream are made of."""
    columns = ["__available_at", *(name for spec in specs for name in used_columns(spec))]
    if span is None:
        return log.reader(topic, columns)
    longest_us = max(window["length_us"] for spec in specs for window in spec["windows"])
    return SpanReader(
        log, topic, columns, span.keeps(topic, specs[0]["source"]["event_time"], longest_us), span.below[topic]
    )


def used_columns(spec: Mapping[str, Any]) -> list[str]:
    """The fields of its stream that a view is made of: event time, join keys, and what its expressions name."""
    keys = [key for key, _ in spec["entity"]["keys"]]
    return list(dict.fromkeys([spec["source"]["event_time"], *keys, *measured_columns(spec)]))


def _offsets(sources: Sequence[SourcePartition], found: Sequence[Mapping[str, int]]) -> np.ndarray:
    """A row each, a column a source; 0 where a source is not named."""
    names = [source.text for source in sources]
    columns = [[offsets.get(name, 0) for offsets in found] for name in names]
    return np.array(columns, np.int64).reshape(len(columns), len(found)).T


def _unknown(sources: Sequence[SourcePartition], found: Sequence[Mapping[str, int]]) -> np.ndarray:
    """Whether a row names another source, and that records of it were seen."""
    names = {source.text for source in sources}
    return np.array([any(end > 0 for name, end in offsets.items() if name not in names) for offsets in found], bool)


def _own_limits(sources: Sequence[SourcePartition], places: pl.DataFrame) -> np.ndarray:
    """The offset of each row's own record in its source partition; a bound that changes nothing in the others."""
    limits = np.full((places.height, len(sources)), _NO_LIMIT)
    for column, source in enumerate(sources):
        own = (pl.col("__partition") == source.partition) & (pl.col("__topic_id") == source.topic_id)
        limits[:, column] = places.select(pl.when(own).then("__offset").otherwise(_NO_LIMIT)).to_series().to_numpy()
    return limits
