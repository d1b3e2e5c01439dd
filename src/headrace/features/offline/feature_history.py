"""The features of a spine: value(V, t) of every row in order, from the event log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from headrace.bus.message import Int64
from headrace.bus.vector import dim_of
from headrace.event_log.query_span import QuerySpan, SpanReader
from headrace.features.definitions.view_spec import NO_KEY, NO_KEY_VALUE
from headrace.features.offline.view_history import PointInTimeQueries, ViewHistory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import LogReader, LogSnapshot, ReadableLog
    from headrace.features.definitions.feature_spec import OwnEventRule
    from headrace.features.definitions.view_spec import ViewSpec

_NO_LIMIT = 2**62
_TYPES: dict[str, pl.DataType] = {
    "int": pl.Int64(), "float": pl.Float64(), "bool": pl.Boolean(), "str": pl.String(), "date": pl.Date(),
    "datetime": pl.Datetime("us", "UTC"),
}  # fmt: skip
COLUMN_TYPES: dict[str, pl.DataType] = {**_TYPES, **{f"list({kind})": pl.List(of) for kind, of in _TYPES.items()}}
"""The types of columns of features by their kinds, except vectors."""


def column_dtype(kind: str) -> pl.DataType:
    """Return the Polars type of a feature's column, by its kind: a vector is an array of its length.

    >>> column_dtype("vector(64)"), column_dtype("list(str)")
    (Array(Float64, shape=(64,)), List(String))
    """
    dim = dim_of(kind)
    return COLUMN_TYPES[kind] if dim is None else pl.Array(pl.Float64, dim)


def read_offsets(text: str | None) -> dict[str, dict[str, int]] | None:
    """Return V as a vector was logged with it: view → source partition → next offset. None for any other text."""
    try:
        return None if text is None else msgspec.json.decode(text, type=dict[str, dict[str, Int64]])
    except (msgspec.MsgspecError, RecursionError):
        return None


@dataclass(frozen=True)
class ServedOffsets:
    """The V of served vectors as it was logged.

    ``offsets`` has for each view one row for each vector and one column for each source.
    ``there`` is True for the rows that were logged; the other rows are 0. ``unknown`` is True, for each view, for the
    rows that used records of a source which the event log does not have.
    """

    offsets: Sequence[np.ndarray]
    there: np.ndarray
    unknown: Sequence[np.ndarray]


@dataclass(frozen=True)
class OwnRecords:
    """The records that a spine's rows are themselves: their topic and ``__partition __topic_id __offset``.

    ``rule`` says whether a row's own record counts in the views of that topic.
    """

    topic: str
    places: pl.DataFrame
    rule: OwnEventRule = "excluded"


class FeatureHistory:
    """Computes features at a point in time from the event log of some views. It reads each row of the log once.

    With a ``span`` it reads only the rows that the span's queries need. The index of a view is built again when its
    stream has new rows.
    """

    def __init__(self, specs: Sequence[ViewSpec], log: ReadableLog, span: QuerySpan | None = None) -> None:
        self._specs = list(specs)
        of_topics: dict[str, list[ViewSpec]] = {}
        for spec in specs:
            for topic in spec.topics:
                of_topics.setdefault(topic, []).append(spec)
        self._readers = {topic: _reader(log, topic, of_topic, span) for topic, of_topic in of_topics.items()}
        self._rows: dict[str, list[pl.DataFrame]] = {topic: [] for topic in self._readers}
        self._views: dict[str, ViewHistory] = {}
        self._restarts = dict.fromkeys(self._readers, 0)

    @property
    def restarts(self) -> int:
        """How often the rows of a stream were read again, because an import was undone. V may have lost rows then."""
        return sum(self._restarts.values())

    def refresh(self, snapshot: LogSnapshot | None = None) -> None:
        """Read the rows that are new in the log, or in a later ``snapshot`` of it."""
        for topic, reader in self._readers.items():
            new = reader.read(snapshot)
            if reader.restarts != self._restarts[topic]:
                self._rows[topic], self._restarts[topic] = [], reader.restarts
            if not self._rows[topic] or not new.is_empty():
                self._rows[topic] = [pl.concat([*self._rows[topic], new])]
                self._views = {name: v for name, v in self._views.items() if topic not in v.kernel.spec.topics}

    def positions(self) -> dict[str, Mapping[SourcePartition, int]]:
        """Return topic → source partition → the offset below which every row was read."""
        return {topic: reader.positions() for topic, reader in self._readers.items()}

    def view(self, spec: ViewSpec) -> ViewHistory:
        """Return the index of one view: one of these views, or another view of the same stream and fields."""
        if spec.name not in self._views:
            rows = {topic: self._rows[topic][0] for topic in spec.topics}
            ends = {source: end for topic in rows for source, end in self._readers[topic].positions().items()}
            self._views[spec.name] = ViewHistory(spec, rows, ends)
        return self._views[spec.name]

    def logged(self, served: Sequence[str | None]) -> ServedOffsets:
        """Return the V of these log lines (JSON: view → source partition → next offset). None: nothing was logged.

        A source that a line does not name had no record then. A line that cannot be read counts as None.
        """
        texts = pl.DataFrame({"text": pl.Series(served, dtype=pl.String)})
        distinct = texts.unique(maintain_order=True).with_row_index(
            "code"
        )  # vectors that were served together share a line
        codes = texts.join(distinct, on="text", how="left", nulls_equal=True, maintain_order="left")["code"].to_numpy()
        read = [read_offsets(text) for text in distinct["text"].to_list()]
        found = [{} if offsets is None else offsets for offsets in read]
        of_views = [(self.view(spec).sources, [v.get(spec.name, {}) for v in found]) for spec in self._specs]
        return ServedOffsets(
            [_offsets(*of_view)[codes] for of_view in of_views],
            np.array([offsets is not None for offsets in read], bool)[codes],
            [_unknown(*of_view)[codes] for of_view in of_views],
        )

    def features(
        self,
        keys: pl.DataFrame,
        at_us: np.ndarray,
        served: Sequence[str | None] | ServedOffsets | None = None,
        own: OwnRecords | None = None,
    ) -> pl.DataFrame:
        """Return all feature columns of the views for each row of ``keys``, in order. A missing value is null.

        ``served`` is the V of each row as it was logged. Where it is None or not given, V is what was available at t
        minus the view's delay. An ``own`` record that is excluded never counts. If own records are included, a V that
        was not logged goes at least to the row's own record. Where a look-up at the logged V had to answer
        ``out_of_range``, the value is null here too: a model must not be trained on values that it could not have seen.
        """
        logged = served if isinstance(served, ServedOffsets) or served is None else self.logged(served)
        places = range(len(self._specs))
        if any(spec.entity.is_global for spec in self._specs):
            keys = keys.with_columns(pl.Series(NO_KEY, [NO_KEY_VALUE] * len(at_us), pl.String))
        return pl.DataFrame([column for place in places for column in self._columns(place, keys, at_us, logged, own)])

    def _columns(
        self,
        place: int,
        keys: pl.DataFrame,
        at_us: np.ndarray,
        logged: ServedOffsets | None,
        own: OwnRecords | None,
    ) -> Iterator[pl.Series]:
        """Yield the columns of one view."""
        spec = self._specs[place]
        history = self.view(spec)
        limits = own_limits(history.sources, own.places) if own and own.topic in spec.topics else None
        is_excluded = own is not None and own.rule == "excluded"
        offsets = _available(history, at_us, limits, is_excluded=is_excluded)
        unknown = np.zeros(len(offsets), bool)
        if logged is not None:
            offsets = np.where(logged.there[:, None], logged.offsets[place], offsets)
            unknown = history.out_of_range(at_us, offsets) & logged.there
        left_out = None if limits is None or not is_excluded else np.where(limits == _NO_LIMIT, -1, limits)
        queries = PointInTimeQueries(keys, at_us, offsets, history.sources, left_out)
        for (name, kind), (found, present) in zip(spec.column_kinds.items(), history.values(queries), strict=True):
            yield value_column(name, kind, found, ~present | unknown)


def _available(history: ViewHistory, at_us: np.ndarray, limits: np.ndarray | None, *, is_excluded: bool) -> np.ndarray:
    """Return V of rows that were never served: the records that were available, to the row's own record or below it.

    ``limits`` are those of :func:`own_limits`; None if the view's topic has no own records.
    """
    offsets = history.known_at(at_us, history.kernel.spec.delay_us)
    if limits is None:
        return offsets
    bounded: np.ndarray = (
        np.minimum(offsets, limits)
        if is_excluded
        else np.maximum(offsets, np.where(limits == _NO_LIMIT, 0, limits + 1))
    )
    return bounded


def own_columns(history: ViewHistory, keys: pl.DataFrame, at_us: np.ndarray, own: OwnRecords) -> Iterator[pl.Series]:
    """Yield the columns of one view for rows that are ``own`` records, from what was available at their times."""
    spec = history.kernel.spec
    limits = own_limits(history.sources, own.places) if own.topic in spec.topics else None
    offsets = _available(history, at_us, limits, is_excluded=own.rule == "excluded")
    found = history.values(PointInTimeQueries(keys, at_us, offsets, history.sources))
    for (name, kind), (values, present) in zip(spec.column_kinds.items(), found, strict=True):
        yield value_column(name, kind, values, ~present)


def available_features(history: ViewHistory, keys: pl.DataFrame, at_us: np.ndarray) -> pl.DataFrame:
    """Return the columns of one view for each row of ``keys``, from what was available at t minus the view's delay."""
    offsets = history.known_at(at_us, history.kernel.spec.delay_us)
    found = history.values(PointInTimeQueries(keys, at_us, offsets, history.sources))
    kinds = history.kernel.spec.column_kinds.items()
    columns = (value_column(*column, each, ~there) for column, (each, there) in zip(kinds, found, strict=True))
    return pl.DataFrame(list(columns))


def value_column(name: str, kind: str, found: np.ndarray, missing: np.ndarray) -> pl.Series:
    """Return values of the kernel as a Polars column of their kind, null where they are ``missing``."""
    if found.dtype == object:
        values = [None if no else value for value, no in zip(found.tolist(), missing.tolist(), strict=True)]
        return pl.Series(name, values, column_dtype(kind))
    column = pl.Series(name, found)
    if isinstance(column.dtype, pl.Datetime):
        column = column.dt.replace_time_zone("UTC")
    return column.set(pl.Series(missing), None) if missing.any() else column


def _reader(log: ReadableLog, topic: str, specs: Sequence[ViewSpec], span: QuerySpan | None) -> LogReader | SpanReader:
    """Return a reader of the columns that the views of one stream use."""
    columns = ["__available_at", *(name for spec in specs for name in spec.fields_of(topic))]
    if span is None:
        return log.reader(topic, columns)
    longest_us = max(spec.longest_reach_us for spec in specs)
    times = {role.time_field for spec in specs for role in spec.roles_of(topic)}
    return SpanReader(log, topic, columns, span.keeps(topic, sorted(times), longest_us), span.below[topic])


def _offsets(sources: Sequence[SourcePartition], found: Sequence[Mapping[str, int]]) -> np.ndarray:
    """Return one row for each line and one column for each source; 0 where a line does not name a source."""
    names = [source.text for source in sources]
    columns = [[offsets.get(name, 0) for offsets in found] for name in names]
    return np.array(columns, np.int64).reshape(len(columns), len(found)).T


def _unknown(sources: Sequence[SourcePartition], found: Sequence[Mapping[str, int]]) -> np.ndarray:
    """Return True for each line that names records of a source which is not in ``sources``."""
    names = {source.text for source in sources}
    return np.array([any(end > 0 for name, end in offsets.items() if name not in names) for offsets in found], bool)


def own_limits(sources: Sequence[SourcePartition], places: pl.DataFrame) -> np.ndarray:
    """Return the offset of each row's own record in its source partition, and a limit without effect in the others."""
    limits = np.full((places.height, len(sources)), _NO_LIMIT)
    for column, source in enumerate(sources):
        own = (pl.col("__partition") == source.partition) & (pl.col("__topic_id") == source.topic_id)
        limits[:, column] = places.select(pl.when(own).then("__offset").otherwise(_NO_LIMIT)).to_series().to_numpy()
    return limits
