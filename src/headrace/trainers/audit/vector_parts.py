"""Reads the served vectors of a model in parts, each with the span of the event log that it depends on.

So the memory of an audit depends on the longest window and not on the age of the log. If a window has no beginning, it
depends on the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from headrace.bus.unreadable_records import UNREADABLE, KafkaPlace
from headrace.errors import CodecError
from headrace.event_log.columns import ACCEPTED
from headrace.event_log.logged_offsets import LoggedOffsets
from headrace.event_log.query_span import QuerySpan
from headrace.features.kernel.on_demand import on_demand
from headrace.features.offline.feature_history import FeatureHistory, read_offsets
from headrace.features.offline.vector_values import TEXTS
from headrace.models.predictions import vectors_of
from headrace.trainers.audit.audited_service import AuditedService
from headrace.trainers.audit.compare import ServedVectorRows
from headrace.trainers.audit.own_events import OwnEvents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import ReadableLog
    from headrace.trainers.definitions import Model

_USED = [
    "key", "requested_at", "served_at", "service", "values", TEXTS, "statuses", "offsets", "request", "model", "record",
]  # fmt: skip
_DAY_US = 86_400_000_000
_UNREADABLE = CodecError("its offsets, statuses or request are not the JSON of a served vector")
MOST = 250_000
"""The largest number of vectors in memory."""


@dataclass(frozen=True)
class VectorPart:
    """Some vectors. Vectors that used records missing from the log are only counted."""

    served: ServedVectorRows
    not_logged: int


class VectorParts:
    """The vectors of one model and one service since a time, from a snapshot of the log.

    ``service`` is the one that the model defines now, unless another version is given. ``vector_id``: this vector only.
    """

    def __init__(
        self,
        model: Model,
        log: ReadableLog,
        since_us: int | None = None,
        service: AuditedService | None = None,
        *,
        vector_id: str | None = None,
    ) -> None:
        self._model, self._log, self._since_us = model, log.snapshot(), since_us
        self._vector_id, self._topic = vector_id, vectors_of(log.namespace).topic
        self.service = service or AuditedService.of_model(model)
        self._specs = self.service.views
        self._last: tuple[tuple[int, int], VectorPart] | None = None

    @cached_property
    def services(self) -> dict[str, int]:
        """The number of vectors of each other version of the service."""
        counts = self._times.filter(pl.col("service") != self.service.version).get_column("service")
        return {str(name): count for name, count in sorted(counts.value_counts().iter_rows())}

    @cached_property
    def _topics(self) -> list[str]:
        """The topics of all views, each once."""
        return list(dict.fromkeys(topic for spec in self._specs for topic in spec.topics))

    @cached_property
    def extents(self) -> dict[str, LoggedOffsets]:
        """The offsets in the log, by topic. They are read after the vectors, so they are never behind them."""
        _ = self._times
        return {topic: LoggedOffsets.read(self._log, topic) for topic in self._topics}

    @cached_property
    def _ends(self) -> dict[str, dict[SourcePartition, int]]:
        """The offset up to which the log has each source, by topic: at least that after its last row.

        It may be a little more, because the end of a producer's transaction is an offset without a row.
        """
        return {
            topic: {
                source: max(end, self._log.newest(topic).transaction_version(source.text) or 0)
                for source, end in extent.ends().items()
            }
            for topic, extent in self.extents.items()
        }

    def __iter__(self) -> Iterator[VectorPart]:
        """Yield one part after the other. The last one is kept for the next iteration."""
        for span in self._spans:
            if self._last is None or self._last[0] != span:
                self._last = None  # before the next one is read
                self._last = span, self._part(*span)
            yield self._last[1]

    @cached_property
    def _times(self) -> pl.DataFrame:
        """The time at which each vector was served, and its service."""
        pieces = self._log.scan(self._topic, ["served_at", "service"], self._own(self._since_us))
        return pl.concat([_NO_TIMES, *(piece.select(_NO_TIMES.columns) for piece in pieces)])

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        """The first and the last time of each part.

        A part spans at most a day or the longest window, and has at most MOST vectors.
        """
        own = self._times.filter(pl.col("service") == self.service.version).get_column("served_at")
        times = np.sort(own.dt.epoch("us").to_numpy())
        longest_us = max([_DAY_US, *(spec.longest_reach_us for spec in self._specs)])
        spans, begin = [], 0
        while begin < len(times):
            end = min(begin + MOST, int(np.searchsorted(times, times[begin] + longest_us, side="right")))
            end = int(
                np.searchsorted(times, times[end - 1], side="right")
            )  # vectors that were served together stay together
            spans.append((int(times[begin]), int(times[end - 1])))
            begin = end
        return spans

    def _part(self, from_us: int, to_us: int) -> VectorPart:
        chosen = (ds.field("service") == self.service.version) & (ds.field("served_at") <= _time(to_us))
        vectors = _readable(self._topic, self._log.select(self._topic, chosen & self._own(from_us), self._used))
        history = FeatureHistory(self._specs, self._log, QuerySpan(from_us, to_us, self._below(vectors)))
        history.refresh()
        made = on_demand(self.service.on_demand)
        served = ServedVectorRows(self._specs, history, vectors, made, OwnEvents.of_model(self._model))
        beyond = self._beyond(served)
        return VectorPart(served.only(~beyond) if beyond.any() else served, int(beyond.sum()))

    @cached_property
    def _used(self) -> list[str]:
        """The columns to read. A log may be older than the columns ``record`` and ``texts``."""
        there = {field.name for field in self._log.newest(self._topic).schema().fields}
        return [name for name in _USED if name in there]

    def _own(self, since_us: int | None) -> ds.Expression:
        own = (ds.field("__verdict") == ACCEPTED) & (ds.field("model") == self._model.name)
        if self._vector_id is not None:
            own &= ds.field("vector_id") == self._vector_id
        return own if since_us is None else own & (ds.field("served_at") >= _time(since_us))

    def _below(self, vectors: pl.DataFrame) -> dict[str, dict[SourcePartition, int]]:
        """Return the largest V of all vectors, for every source partition that the log has."""
        largest: dict[tuple[str, str], int] = {}
        for line in vectors.get_column("offsets").unique().to_list():
            for view, offsets in (read_offsets(line) or {}).items():
                for name, end in offsets.items():
                    largest[view, name] = max(end, largest.get((view, name), 0))
        return {
            topic: {
                source: max(largest.get((spec.name, source.text), 0) for spec in self._specs if topic in spec.topics)
                for source in extent.runs
            }
            for topic, extent in self.extents.items()
        }

    def _beyond(self, served: ServedVectorRows) -> np.ndarray:
        """Return True for each vector that used records which the log does not have."""
        beyond = np.zeros(served.vectors.height, bool)
        for spec, offsets, unknown in zip(self._specs, served.offsets, served.logged.unknown, strict=True):
            ends = {source: end for topic in spec.topics for source, end in self._ends[topic].items()}
            known = [ends.get(source, 0) for source in served.history.view(spec).sources]
            beyond |= unknown | (offsets > np.array(known, np.int64)).any(axis=1)
        return beyond


def _readable(topic: str, vectors: pl.DataFrame) -> pl.DataFrame:
    """Return the vectors whose texts are the JSON that an application writes. The others are named, and left out."""
    texts = vectors.select("offsets", "statuses", "request").iter_rows()
    good = pl.Series([_can_be_read(*of_vector) for of_vector in texts], dtype=pl.Boolean)
    for partition, offset in vectors.filter(~good).select("__partition", "__offset").iter_rows():
        UNREADABLE.skip(KafkaPlace(topic, partition, offset), _UNREADABLE)
    return vectors.filter(good)


def _can_be_read(offsets: str, statuses: str, request: str) -> bool:
    try:
        msgspec.json.decode(statuses, type=dict[str, str])
        msgspec.json.decode(request, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return False
    return read_offsets(offsets) is not None


def _time(us: int) -> pa.Scalar:
    return pa.scalar(us, pa.timestamp("us", "UTC"))


_NO_TIMES = pl.DataFrame(schema={"served_at": pl.Datetime("us", "UTC"), "service": pl.String})
