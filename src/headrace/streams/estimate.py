"""What a backfill takes: rows from the log, bytes and time from folding a sample of its newest rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from headrace.features.memory_store import MemoryOnlineStore
from headrace.features.online import CursorState, Source
from headrace.streams.logged_rows import LoggedRows
from headrace.streams.plan import Estimate
from headrace.streams.view_partition import ViewPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import polars as pl

    from headrace.features.log import EventLog
    from headrace.streams.deployment import Spec

_SAMPLE_ROWS = 50_000
_KEY_BYTES = 300
"""What a key takes beside the entity's key and the field: 295 ± 10 on Valkey 9.1, where the field has over 64 bytes."""


def positions(log: EventLog, topic: str, topic_id: bytes, partitions: int) -> dict[Source, int]:
    """D of each partition of a topic's present incarnation. Raises OfflineStoreUnavailableError."""
    if not log.exists(topic):
        return {}
    table = log.table(topic)
    sources = [Source(partition, topic_id) for partition in range(partitions)]
    return {source: table.transaction_version(source.text) or 0 for source in sources}


def estimate(
    log: EventLog, spec: Spec, ends: Mapping[Source, int], *, monotonic: Callable[[], float] = time.monotonic
) -> Estimate:
    """What folding one view over the log up to these ends takes, on this machine.

    The newest rows of each partition are folded as a worker would. Raises OfflineStoreUnavailableError.
    """
    rows = sum(ends.values())
    began, folded, size = monotonic(), 0, 0
    for source, end in ends.items():
        start = max(end - _SAMPLE_ROWS, 0)
        folded += end - start
        size += _size(spec, source, log.read_from(spec["source"]["topic"], source, start, end), end)
    seconds = (monotonic() - began) * rows / folded if folded else 0.0
    return Estimate(rows, size, round(seconds, 1), folded < rows)


def _size(spec: Spec, source: Source, rows: pl.DataFrame, end: int) -> int:
    view = ViewPartition(spec, source, MemoryOnlineStore())
    writes = view.fold(LoggedRows.of(rows, view.event_time), end, CursorState.LIVE)
    keys = [part for write in writes for part in zip(write.keys, write.fields, strict=True)]
    return sum(len(key) + len(field) + _KEY_BYTES for key, field in keys)
