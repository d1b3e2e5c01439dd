"""Checks the event log: its folder must be writable, its disk must have free space, and its files must be readable."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.app.doctor.finding import Finding, error, ok, warning
from headrace.errors import OfflineStoreUnavailableError, SettingsError
from headrace.event_log.damage import find_damage
from headrace.event_log.log_identity import known_identity
from headrace.event_log.storage_fence import check_fence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.streams.log_claims import LogClaims

_SHORT = 2 << 30
"""Fewer free bytes are a warning: compaction writes new files before it removes the old ones."""


def examine(log: EventLog, streams: Sequence[Stream]) -> Iterator[Finding]:
    """Check the place of the log and each of its tables. Raises OfflineStoreUnavailableError."""
    url = log.url
    subject = f"event log {url}"
    if "://" in url:
        yield check_store(subject, url)
    else:
        yield from check_folder(subject, Path(url))
    for stream in streams:
        yield from check_table(log, stream.topic)


def check_store(subject: str, url: str) -> Finding:
    """Check that an object store can be written, and does not overwrite. Nothing is left there."""
    try:
        check_fence(url, uuid.uuid4().hex)
    except SettingsError as failed:
        return error(subject, str(failed), "take a store with conditional PUT (docs/reference/event-log.md#stores)")
    except OfflineStoreUnavailableError as failed:
        return error(subject, str(failed), "look at the address and the credentials in the environment (AWS_…)")
    return ok(subject, "an object store with conditional PUT")


def check_identity(log: EventLog, claims: LogClaims) -> Iterator[Finding]:
    """Check that Kafka and Redis know this log as the namespace's, if they know one, and that no other one has it."""
    own = known_identity(log)
    if own is None:
        return
    holder = claims.holder(own)
    if holder not in {None, claims.namespace}:
        yield error(
            f"event log {own.place}",
            f"namespace {holder} has it, and this namespace is {claims.namespace}",
            "set event_log or data_dir to another place; or `headrace log adopt`, if this namespace replaces that one",
        )
    for who, known in claims.known().items():
        if known.id != own.id:
            yield error(
                f"event log {own.place}",
                f"{who} knows another event log of this namespace, at {known.place}",
                "set event_log or data_dir to that place; or `headrace log adopt`, if this one replaces it",
            )


def check_table(log: EventLog, topic: str) -> Iterator[Finding]:
    """Check that Delta can open a topic's table, and that its files can be read. No table: no finding."""
    subject = f"event log of {topic}"
    damage = find_damage(log, topic)
    for found in damage:
        yield error(
            subject,
            f"{found.file} {found.what}",
            "`headrace repair --restore` sets it aside and makes its rows again from Kafka, while Kafka has them",
        )
    if not damage and log.exists(topic):
        yield ok(subject, f"version {log.table(topic).version():,}")


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
