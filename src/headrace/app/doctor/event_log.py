"""The event log: whether it can be written, and how much room it has."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.app.doctor.finding import Finding, error, ok, warning
from headrace.event_log.event_log import EventLog

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.bus.stream import Stream

_SHORT = 2 << 30
"""Bytes below which a disk is said to be short: compaction writes files anew before it removes the old ones."""


def examine(url: str, streams: Sequence[Stream]) -> Iterator[Finding]:
    """Look at the log's place and at each table. Raises OfflineStoreUnavailableError."""
    subject = f"event log {url}"
    if "://" in url:
        yield ok(subject, "an object store: whether it can be written is seen by the first worker")
    else:
        yield from of_folder(subject, Path(url))
    log = EventLog(url)
    for stream in streams:
        if log.exists(stream.topic):
            yield ok(f"event log of {stream.topic}", f"version {log.table(stream.topic).version():,}")


def of_folder(subject: str, folder: Path) -> Iterator[Finding]:
    """Whether it, or the nearest folder above that is there, can be written, and the room of its disk."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield error(
            subject, f"{there} cannot be written by this user", "give the worker's user the right, or set event_log"
        )
    elif free < _SHORT:
        yield warning(
            subject, f"{free:,} bytes are free; when it is full, workers wait", "make room, or move event_log"
        )
    else:
        yield ok(subject, f"can be written, {free:,} bytes free")
