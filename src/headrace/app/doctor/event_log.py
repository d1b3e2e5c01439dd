"""Checks the event log: its folder must be writable, and its disk must have free space."""

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
"""Fewer free bytes are a warning: compaction writes new files before it removes the old ones."""


def examine(url: str, streams: Sequence[Stream]) -> Iterator[Finding]:
    """Check the place of the log and each of its tables. Raises OfflineStoreUnavailableError."""
    subject = f"event log {url}"
    if "://" in url:
        yield ok(subject, "an object store: the first worker will show whether it can be written")
    else:
        yield from check_folder(subject, Path(url))
    log = EventLog(url)
    for stream in streams:
        if log.exists(stream.topic):
            yield ok(f"event log of {stream.topic}", f"version {log.table(stream.topic).version():,}")


def check_folder(subject: str, folder: Path) -> Iterator[Finding]:
    """Check that the folder, or its nearest existing parent, can be written, and that its disk has room."""
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
