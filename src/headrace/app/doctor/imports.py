"""Checks the imports of history: one that was interrupted, an undo that left rows, and times that are only assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from headrace.app.doctor.finding import Finding, ok, warning
from headrace.event_log.imports import ImportRecord, Imports, days

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog

_ASSUMED = "event_time+"


def examine(log: EventLog, streams: Sequence[Stream]) -> Iterator[Finding]:
    """Check the imports of some streams. Raises OfflineStoreUnavailableError."""
    topics = {stream.topic for stream in streams}
    for record in Imports(log).all():
        if record.topic in topics:
            yield check_import(record, has_rows=record.state == "undone" and _has_rows(log, record))


def check_import(record: ImportRecord, *, has_rows: bool = False) -> Finding:
    """Check one import. ``has_rows``: it was undone, and the log still has rows of it."""
    subject = f"import {record.id} of {record.topic}"
    if record.state == "begun":
        return warning(subject, "it was interrupted: nothing of it counts", "run the same command again: it goes on")
    if record.state == "undone":
        if has_rows:
            again = f"run `headrace log undo-import {record.id}` again"
            return warning(subject, "its undo was interrupted: the event log still has rows of it", again)
        return ok(subject, "undone")
    if record.available_at.startswith(_ASSUMED):
        return warning(
            subject,
            f"its rows count as known at {record.available_at}: if some came later, training sets know too much",
            "if so, undo the import, and import again with a longer delay, or with a column that has the times",
        )
    return ok(subject, f"{record.rows:,} rows, {days(record)}")


def _has_rows(log: EventLog, record: ImportRecord) -> bool:
    source = record.partition
    own = (ds.field("__partition") == source.partition) & (ds.field("__topic_id") == source.topic_id)
    return log.exists(record.topic) and any(True for _ in log.scan(record.topic, ["__offset"], own))
