"""Records to rows: the verdict on each record, and its row in the event log."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from confluent_kafka import Message

from headrace.base.times import duration_us
from headrace.bus.codec import Decoder
from headrace.bus.message import readable_headers
from headrace.bus.nested_columns import column_of
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.event_log.columns import ACCEPTED, DUPLICATE, REJECTED
from headrace.streams.plane.seen_ids import OffsetBlocks, RecordIds, unique_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.formats.record_format import AwaitedSchema, Headers
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.plane.seen_ids import SeenIds

_SECOND = itemgetter(1)
DECODE, MISSING_KEY, FUTURE = "decode", "missing_key", "future"


@dataclass(frozen=True)
class PartitionRecords:
    """The records of one source partition, in order. They have no ``headers`` if the stream's format reads none."""

    offsets: np.ndarray
    timestamps_us: np.ndarray
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] = ()

    @staticmethod
    def from_messages(messages: Sequence[Message], *, with_headers: bool = False) -> PartitionRecords:
        """Return the records of messages, in order."""
        count = len(messages)
        return PartitionRecords(
            np.fromiter(map(Message.offset, messages), np.int64, count),
            np.fromiter(map(_SECOND, map(Message.timestamp, messages)), np.int64, count) * 1_000,
            list(map(Message.key, messages)),
            list(map(Message.value, messages)),
            list(map(readable_headers, messages)) if with_headers else (),
        )


@dataclass(frozen=True)
class PartitionRun:
    """A run: the next ``count`` records are of this source partition. ``clock_us``: its clock before them.

    ``seen``: the ids that the partition had before them. None: no record of the run is a duplicate.
    """

    source: SourcePartition
    count: int
    clock_us: int
    seen: SeenIds | None = None


class RecordJudge:
    """Gives each record of a stream its verdict.

    A verdict depends on the record and the stream's spec alone. Whether an accepted record is a duplicate also depends
    on the records before it in its partition. Whether a schema is registered depends on when the registry is asked:
    :meth:`may_change` finds the rejections that depend on it.
    """

    def __init__(self, stream: Stream, schemas: SchemaStore | None = None) -> None:
        self._stream = stream
        self._decoder = Decoder(stream, schemas)

    def awaited(self, messages: Sequence[Message]) -> AwaitedSchema | None:
        """Return the first record that cannot be judged, as the schema registry has not said what its schema is."""
        if not self._stream.format.uses_schemas:
            return None
        return self._decoder.reader.awaited(list(map(Message.value, messages)))

    def still_awaited(self, awaited: AwaitedSchema) -> str | None:
        """Return why an awaited schema is not there yet; None if it is, or will not come. It never waits."""
        return self._decoder.reader.still_awaited(awaited)

    def unregistered(
        self,
        keys: Sequence[bytes | None],  # noqa: ARG002 - those of a table's records have schemas too
        values: Sequence[bytes | None],
    ) -> AwaitedSchema | None:
        """Return the first record of whose schema the registry says that there is none, or None."""
        return self._decoder.reader.unregistered(values)

    def may_change(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> bool:  # noqa: ARG002
        """Return whether one of these rejected records could be accepted if a schema were registered now."""
        return self._decoder.reader.may_change(values)

    def rows(
        self, topic_id: bytes, partition: int, records: PartitionRecords, clock_us: int, seen: SeenIds | None = None
    ) -> pl.DataFrame:
        """Return the log's rows of one partition's records. ``clock_us`` is its ``available_at`` so far."""
        source = SourcePartition(partition, topic_id)
        return self.judge([PartitionRun(source, len(records.values), clock_us, seen)], records)

    def judge(self, runs: Sequence[PartitionRun], records: PartitionRecords) -> pl.DataFrame:
        """Return the log's rows of records of several partitions, run by run. The cost is by batch, not by run.

        The ids of the records are added to those that their runs have ``seen``.
        """
        return self.judge_fields(runs, records, *self._fields(records))

    def fields(self, values: Sequence[bytes]) -> tuple[pl.DataFrame, dict[int, str]]:
        """Return the columns of records without headers, null where one does not decode, and its error by position."""
        nothing = np.empty(0, np.int64)
        return self._fields(PartitionRecords(nothing, nothing, (), values))

    def judge_fields(
        self, runs: Sequence[PartitionRun], records: PartitionRecords, fields: pl.DataFrame, errors: dict[int, str]
    ) -> pl.DataFrame:
        """Return the log's rows of records whose :meth:`fields` are known. Values of accepted ones are not read."""
        reasons, problems = self._verdicts(fields, records, errors)
        available = self._available(fields, records, runs, reasons)
        frame = _accepted(runs, records, available)
        if reasons:
            frame = frame.with_columns(_rejections(reasons, problems, records))
        if self._stream.unique_fields:
            frame = _with_duplicates(frame, self._duplicates(fields, runs, records, available, reasons))
        return frame.hstack(fields)

    def _fields(self, records: PartitionRecords) -> tuple[pl.DataFrame, dict[int, str]]:
        """Return the columns of the event's fields, and the error of each record that does not decode, by position."""
        events, positions, errors = self._decoder.decode(records.values, records.headers)
        fields = self._decoder.columns(events)
        return self._spread(fields, positions, len(records.values)) if errors else fields, errors

    def _spread(self, fields: pl.DataFrame, positions: np.ndarray, count: int) -> pl.DataFrame:
        places = pl.DataFrame({"__row": np.arange(count)})
        return places.join(
            fields.with_columns(pl.Series("__row", positions)), on="__row", how="left", maintain_order="left"
        ).drop("__row")

    def _verdicts(
        self, fields: pl.DataFrame, records: PartitionRecords, errors: dict[int, str]
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Return the reason and the error of each rejected record, by position."""
        reasons = dict.fromkeys(errors, DECODE)
        problems = dict(errors)
        for name in self._stream.key_fields:
            key = column_of(fields, name)
            if key.null_count():
                for row in np.flatnonzero(key.is_null().to_numpy()).tolist():
                    reasons.setdefault(row, MISSING_KEY)
                    problems.setdefault(row, f"key field {name!r} is null")
        for name, before in self._stream.time_bounds:
            times = _micros(fields, name)
            bounds = records.timestamps_us if before is None else _micros(fields, before)
            for row in np.flatnonzero(times > bounds + self._stream.spec.tolerance_us).tolist():
                ahead = (times[row] - bounds[row]) / 1e6
                reasons.setdefault(row, FUTURE)
                problems.setdefault(row, f"{name!r} lies {ahead:.3f} s after {_what(before)}")
        return reasons, problems

    def _available(
        self, fields: pl.DataFrame, records: PartitionRecords, runs: Sequence[PartitionRun], rejected: Mapping[int, str]
    ) -> np.ndarray:
        """Return ``available_at`` of each record: the running maximum within its run, from the run's clock on.

        The fields of rejected rows do not move the clock.
        """
        field = self._stream.available_field
        if field is None:
            own = records.timestamps_us
        else:
            own = _micros(fields, field) + duration_us(self._stream.bulk_delay or "0s")
            own[list(rejected)] = NO_CLOCK
        ends = itertools.accumulate(run.count for run in runs)
        parts = [(run, own[end - run.count : end]) for run, end in zip(runs, ends, strict=True)]
        return np.concatenate([np.maximum.accumulate(np.maximum(part, run.clock_us)) for run, part in parts])

    def _duplicates(
        self,
        fields: pl.DataFrame,
        runs: Sequence[PartitionRun],
        records: PartitionRecords,
        available: np.ndarray,
        rejected: Mapping[int, str],
    ) -> np.ndarray:
        """Return for each record whether it is a duplicate. The seen ids of each run then include its records."""
        values, counts = unique_values(self._stream, fields)
        counts[list(rejected)] = False
        within_us: int = self._stream.spec.within_us  # type: ignore[assignment]  # a stream with `unique=` has it
        places = OffsetBlocks.of(records.offsets, available, records.timestamps_us, within_us)
        ids, found, end = RecordIds.of(values, available), np.zeros(len(available), bool), 0
        for run in runs:
            begin, end = end, end + run.count
            if run.seen is not None:
                own = begin + np.flatnonzero(counts[begin:end])
                found[own] = run.seen.duplicates(ids.take(own), places.take(own))
        return found


def _what(before: str | None) -> str:
    return "the record's own timestamp" if before is None else f"{before!r}, since when it is available"


_OF_REJECTED: dict[str, pl.DataType] = {
    "__reason": pl.String(),
    "__error": pl.String(),
    "__key": pl.Binary(),
    "__value": pl.Binary(),
}
_OF_ACCEPTED = [
    pl.Series("__verdict", [ACCEPTED], pl.String()),
    *(pl.Series(name, [None], dtype) for name, dtype in _OF_REJECTED.items()),
]
"""The columns that are the same in all accepted rows."""


def _accepted(runs: Sequence[PartitionRun], records: PartitionRecords, available: np.ndarray) -> pl.DataFrame:
    """Return the log's own columns, as if all records were accepted."""
    counts = [run.count for run in runs]
    return pl.DataFrame(
        [
            _topic_ids(runs),
            pl.Series("__partition", np.repeat(np.array([run.source.partition for run in runs], np.int32), counts)),
            pl.Series("__offset", records.offsets),
            _times("__record_timestamp", records.timestamps_us),
            _times("__available_at", available),
            *(column.new_from_index(0, len(available)) for column in _OF_ACCEPTED),
        ]
    )


def _topic_ids(runs: Sequence[PartitionRun]) -> pl.Series:
    """Return the column of topic ids. There may be two ids while a topic is being created anew."""
    parts = [
        pl.Series("__topic_id", [topic_id], pl.Binary()).new_from_index(0, sum(run.count for run in of))
        for topic_id, of in itertools.groupby(runs, key=lambda run: run.source.topic_id)
    ]
    return parts[0] if len(parts) == 1 else pl.concat(parts)


def _times(name: str, micros: np.ndarray) -> pl.Series:
    return pl.Series(name, micros).cast(pl.Datetime("us", "UTC"))


def _rejections(reasons: Mapping[int, str], problems: Mapping[int, str], records: PartitionRecords) -> list[pl.Series]:
    """Return the columns in which rejected rows differ."""
    count = len(records.offsets)
    found: dict[str, Mapping[int, object]] = {
        "__reason": reasons,
        "__error": problems,
        "__key": {row: records.keys[row] for row in reasons},
        "__value": {row: records.values[row] for row in reasons},
    }
    verdicts = [REJECTED if row in reasons else ACCEPTED for row in range(count)]
    sparse = [pl.Series(n, [found[n].get(row) for row in range(count)], dtype=t) for n, t in _OF_REJECTED.items()]
    return [pl.Series("__verdict", verdicts, dtype=pl.String), *sparse]


def _with_duplicates(frame: pl.DataFrame, found: np.ndarray) -> pl.DataFrame:
    if not found.any():
        return frame
    return frame.with_columns(
        pl.when(pl.Series(found)).then(pl.lit(DUPLICATE)).otherwise(pl.col(name)).alias(name)
        for name in ("__verdict", "__reason")
    )


def _micros(fields: pl.DataFrame, name: str) -> np.ndarray:
    """Return a time column in int64 microseconds, NO_CLOCK where it is null. Floats would round."""
    times = column_of(fields, name).to_numpy().astype("datetime64[us]")
    micros: np.ndarray = np.maximum(times.astype(np.int64), NO_CLOCK)
    return micros
