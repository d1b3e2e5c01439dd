"""Counts the duplicates of streams that have ``unique=``, also those that no partition can see by itself."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from headrace.app.doctor.finding import Finding, ok, warning
from headrace.base.times import format_duration
from headrace.errors import NotInLogYetError
from headrace.event_log.columns import ACCEPTED, DUPLICATE, REJECTED
from headrace.streams.plane.seen_ids import RecordIds, unique_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog

_ID = ["first", "second"]
_PLACE = ["__topic_id", "__partition"]
_NEWEST = "max.__available_at"


def examine(log: EventLog, streams: Iterable[Stream]) -> Iterator[Finding]:
    """Look for events that several partitions of a stream have. Raises OfflineStoreUnavailableError.

    A log that has no column of a unique field yet has no such events: no worker with this definition has run.
    """
    for stream in streams:
        within_us = stream.spec.within_us
        if isinstance(within_us, int) and log.exists(stream.topic):
            newest = _newest(log, stream)
            if newest is not None:
                with suppress(NotInLogYetError):
                    yield _examined(log, stream, within_us, newest)


def _newest(log: EventLog, stream: Stream) -> int | None:
    """Return the newest ``available_at`` in the log, by the statistics of its files. If one has none, read them."""
    with log.storage(stream.topic):
        actions: Any = log.table(stream.topic).get_add_actions(flatten=True)
    files = pl.DataFrame(actions)
    if _NEWEST in files.columns and not files.get_column(_NEWEST).null_count():
        pieces = iter([files.select(pl.col(_NEWEST).alias("__available_at"))])
    else:
        pieces = log.scan(stream.topic, ["__available_at"])
    newest: list[int] = [rows.get_column("__available_at").dt.epoch("us").max() for rows in pieces]  # type: ignore[misc]
    return max(newest, default=None)


def _examined(log: EventLog, stream: Stream, within_us: int, newest_us: int) -> Finding:
    since = pa.scalar(newest_us - within_us, pa.timestamp("us", "UTC"))
    keep = (ds.field("__available_at") >= since) & (ds.field("__verdict") != REJECTED)
    rows, duplicates, parts = 0, 0, []
    for piece in log.scan(stream.topic, list(stream.unique_fields), keep):
        rows += piece.height
        duplicates += int((piece.get_column("__verdict") == DUPLICATE).sum())
        parts.append(_accepted(stream, piece))
    several = _in_several_partitions(parts)
    names, span = ", ".join(stream.unique_fields), format_duration(within_us)
    subject, found = f"stream {stream.topic}", f"{duplicates:,} of {rows:,} records of the last {span} are duplicates"
    if not several:
        return ok(subject, found)
    return warning(
        subject,
        f"{found}, and {several:,} values of {names} are accepted in more than one partition: each partition finds "
        "only its own duplicates",
        f"let the producers use {names} as the record key: then equal values come to one partition",
    )


def _accepted(stream: Stream, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the ids of accepted rows with a number for the partition of each, each once."""
    values, is_whole = unique_values(stream, rows)
    is_own = is_whole & (rows.get_column("__verdict") == ACCEPTED).to_numpy()
    ids = RecordIds.of(values, np.zeros(rows.height, np.int64))
    found = rows.select(pl.struct(_PLACE).hash().alias("source")).with_columns(
        pl.Series("first", ids.first), pl.Series("second", ids.second)
    )
    return found.filter(pl.Series(is_own)).unique()


def _in_several_partitions(parts: Iterable[pl.DataFrame]) -> int:
    listed = list(parts)
    if not listed:
        return 0
    return int((pl.concat(listed).unique().group_by(_ID).len().get_column("len") > 1).sum())
