"""The features of a stream's events, each as of its own time: what an enriched stream holds.

For an event of available_at a, t = min(event time, a), and V has the records that were available at t minus the view's
delay, in the event's own partition only those before it. Both depend on the log alone, so the values are the same
whenever they are computed. They wait until the log has these records::

    records of a batch ──> their rows in the log ──> topics complete up to t ──> value(V, t) ──> events
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.base.stopping import stop_signals
from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.event import plain_value, value_of
from headrace.bus.source_partition import SourcePartition
from headrace.errors import CodecError, NotInLogYetError, StoppingError
from headrace.features.kernel.on_demand_polars import column_type, with_on_demand
from headrace.features.offline.feature_history import COLUMN_TYPES, OwnRecords
from headrace.features.offline.growing_history import GrowingHistory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from confluent_kafka import Message

    from headrace.bus.event import Event
    from headrace.bus.stream import Stream
    from headrace.event_log.readable_log import LogSnapshot, ReadableLog
    from headrace.streams.processors.enriched_stream import EnrichedStream
    from headrace.streams.processors.log_reach import LogReach

_TIMES = ["__offset", "__available_at"]
_PAUSE_S, _WAIT_S = 0.05, 5.0


class EventFeatures:
    """Makes the events of an enriched stream from the records of its origin. For one thread at a time.

    ``topic_id`` is that of the origin's topic, of which the records are. After ``wait_s`` seconds a batch that waits
    raises an error, which says for what.
    """

    def __init__(
        self, stream: EnrichedStream, log: ReadableLog, reach: LogReach, topic_id: bytes, *, wait_s: float = _WAIT_S
    ) -> None:
        self._stream, self._log, self._reach, self._topic_id = stream, log, reach, topic_id
        self._enrichment, self._wait_s = stream.enrichment, wait_s
        self._specs = [view.spec for view in self._enrichment.service.views]
        self._history: GrowingHistory | None = None
        self._snapshot: LogSnapshot | None = None
        self._keys = {
            key.name: (self._enrichment.keys[key.name], COLUMN_TYPES[key.kind])
            for spec in self._specs
            if not spec.entity.is_global
            for key in spec.entity.keys
        }

    def outputs(self, messages: Sequence[Message], events: Sequence[Event]) -> list[tuple[Stream, Event, datetime]]:
        """Return the events with their features, each with the stream and the time at which its origin was available.

        Waits until the log is complete up to their times. Raises NotInLogYetError if that takes longer than a few
        seconds, which says what is waited for; OfflineStoreUnavailableError, BusUnavailableError, and StoppingError.
        """
        places = [(message.partition() or 0, message.offset() or 0) for message in messages]
        event_us = np.array([epoch_us(value_of(each, self._stream.event_time)) for each in events], np.int64)
        available_us = self._waited(places, event_us)
        assert self._history is not None  # noqa: S101 - it was read while waiting
        at_us = np.minimum(event_us, available_us)
        found = self._history.features(self._key_columns(events), at_us, self._own(places))
        rows = with_on_demand(self._enrichment.service.spec, found, self._requests(events), at_us)
        columns = {name: map(_finite, column.to_list()) for name, column in rows.to_dict().items()}
        values = zip(*columns.values(), strict=True)
        return [
            (self._stream, self._event(event, dict(zip(columns, row, strict=True))), utc_datetime(int(known_us)))
            for event, row, known_us in zip(events, values, available_us, strict=True)
        ]

    def _event(self, event: Event, features: dict[str, Any]) -> Event:
        own = {name: getattr(event, name) for name in event.__struct_fields__}
        return self._stream.event(**own, **features)

    # -- the columns of the events ----------------------------------------------------------------------------------

    def _key_columns(self, events: Sequence[Event]) -> pl.DataFrame:
        columns = []
        for name, (field, dtype) in self._keys.items():
            values = [plain_value(value_of(each, field)) for each in events]
            columns.append(_column(name, values, dtype))
        return pl.DataFrame(columns)

    def _requests(self, events: Sequence[Event]) -> pl.DataFrame:
        columns = []
        for each in self._enrichment.requests:
            values = [_plain(value_of(event, each.name)) for event in events]
            columns.append(_column(each.name, values, column_type(each)))
        return pl.DataFrame(columns)

    def _own(self, places: Sequence[tuple[int, int]]) -> OwnRecords:
        partitions, offsets = zip(*places, strict=True)
        own = {
            "__partition": pl.Series(partitions, dtype=pl.Int32),
            "__topic_id": pl.Series([self._topic_id] * len(places), dtype=pl.Binary),
            "__offset": pl.Series(offsets, dtype=pl.Int64),
        }
        return OwnRecords(self._enrichment.origin.topic, pl.DataFrame(own), self._enrichment.own_event)

    # -- waiting for the log ----------------------------------------------------------------------------------------

    def _waited(self, places: Sequence[tuple[int, int]], event_us: np.ndarray) -> np.ndarray:
        """Return ``available_at`` of the events, once the log has all that counts for them."""
        until_s = time.monotonic() + self._wait_s
        while True:
            snapshot = self._snapshot = self._log.snapshot(self._snapshot)
            known = self._available(snapshot, places)
            if isinstance(known, str):
                awaited = [known]
            else:
                awaited = self._awaited(snapshot, np.minimum(event_us, known))
                if not awaited:
                    return known
            if stop_signals.asked.is_set():
                raise StoppingError(f"{self._stream.topic!r} was stopped while it waited for the event log")
            if time.monotonic() >= until_s:
                raise NotInLogYetError(self._told(awaited))
            stop_signals.asked.wait(_PAUSE_S)

    def _told(self, awaited: Sequence[str]) -> str:
        more = f", and {len(awaited) - 1} more" if len(awaited) > 1 else ""
        return (
            f"{self._stream.topic!r} waits for {awaited[0]}{more}: the features of its events may still change. A "
            "worker logs the records; a partition that brings nothing new needs a record, or write "
            "with_features(…, silent_after='1m')"
        )

    def _available(self, log: LogSnapshot, places: Sequence[tuple[int, int]]) -> np.ndarray | str:
        """Return ``available_at`` of records in us, or the place of one that the log does not have yet."""
        topic, found = self._enrichment.origin.topic, dict[tuple[int, int], int]()
        for partition in sorted({partition for partition, _ in places}):
            own = [offset for number, offset in places if number == partition]
            source = SourcePartition(partition, self._topic_id)
            rows = log.read_from(topic, source, own[0], own[-1] + 1, _TIMES)
            times = rows.get_column("__available_at").dt.epoch("us").to_list()
            found |= {(partition, offset): us for offset, us in zip(rows["__offset"].to_list(), times, strict=True)}
        absent = next((place for place in places if place not in found), None)
        if absent is not None:
            return f"offset {absent[1]} of partition {absent[0]} of {topic!r}, which workers have not logged"
        return np.array([found[place] for place in places], np.int64)

    def _awaited(self, log: LogSnapshot, at_us: np.ndarray) -> list[str]:
        """Read the log, and return what may still come that was available at the newest t minus a view's delay."""
        if self._history is None:
            self._history = GrowingHistory(self._specs, self._log)
        self._history.refresh(log)
        delays: dict[str, list[int]] = {}
        for spec in self._specs:
            for topic in spec.topics:
                delays.setdefault(topic, []).append(spec.delay_us)
        until = {topic: int(at_us.max()) - min(of_views) for topic, of_views in delays.items()}
        return self._reach.awaited(log, self._history.clocks, until)


def _column(name: str, values: Sequence[Any], dtype: pl.DataType) -> pl.Series:
    """Return the values of a field. Raises CodecError for one that the column cannot have."""
    try:
        found = pl.Series(name, values, strict=False) if any(isinstance(each, list) for each in values) else None
        return pl.Series(name, values, dtype) if found is None else found.cast(dtype)
    except (TypeError, OverflowError, ValueError, pl.exceptions.PolarsError) as error:
        raise CodecError(f"{name}: a value is no {dtype}: {error}") from error


def _plain(value: Any) -> Any:
    return [plain_value(each) for each in value] if isinstance(value, list) else plain_value(value)


def _finite(value: Any) -> Any:
    """Return the value, or None for a number that no format has."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
