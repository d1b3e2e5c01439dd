"""The identity of an event log: a number inside it, which goes wherever the log is moved or restored.

It is the version of a Delta transaction of a table without rows. So it is fenced like a commit of rows: if two
processes give a new log its identity, one is refused. The creation of a table is not fenced.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError
from deltalake.schema import PrimitiveType

from headrace.errors import OfflineStoreUnavailableError
from headrace.event_log.durable_commit import make_durable

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.event_log.event_log import EventLog

_TABLE, _IDENTITY = "_headrace", "headrace.identity"
_NO_ROWS = pa.table({"nothing": pa.array([], pa.int32())})
_ATTEMPTS = 20
_COLUMNS = Schema([Field("nothing", PrimitiveType("integer"))])


class LogIdentity(msgspec.Struct, frozen=True):
    """An event log: its ``id``, and the ``place`` where a process has it, for people to read."""

    id: str
    place: str


def _random_id() -> int:
    return secrets.randbits(62)


def identity_of(log: EventLog, new_id: Callable[[], int] = _random_id) -> LogIdentity:
    """Return the identity of a log. A log that has none gets one; several processes may ask at once.

    Raises OfflineStoreUnavailableError.
    """
    for _ in range(_ATTEMPTS):
        found = known_identity(log)
        if found is not None:
            return found
        with suppress(CommitFailedError), log.storage(_TABLE, passing=CommitFailedError):  # another one was first
            if not log.exists(_TABLE):
                DeltaTable.create(log.path(_TABLE), _COLUMNS, mode="ignore", storage_options=log.storage_options)
            table = log.table(_TABLE)
            if table.transaction_version(_IDENTITY) is None:  # as this handle sees it, so the commit is fenced
                _commit(table, Transaction(_IDENTITY, new_id()))
    raise OfflineStoreUnavailableError(f"the event log at {log.url} gets no identity: others change it all the time")


def known_identity(log: EventLog) -> LogIdentity | None:
    """Return the identity of a log, or None if it has none yet. Raises OfflineStoreUnavailableError."""
    if not log.exists(_TABLE):
        return None
    with log.storage(_TABLE):
        number = log.table(_TABLE).transaction_version(_IDENTITY)
    return None if number is None else LogIdentity(f"{number:016x}", place_of(log.url))


def _commit(table: DeltaTable, transaction: Transaction) -> None:
    """Commit a transaction without rows. Raises CommitFailedError if the handle is older than another one of it."""
    properties = CommitProperties(app_transactions=[transaction])
    write_deltalake(table, _NO_ROWS, mode="append", commit_properties=properties)
    make_durable(table)


def place_of(url: str) -> str:
    """Return the place of a log in words that are true on every machine.

    >>> place_of("s3://bucket/events")
    's3://bucket/events'
    """
    return url if "://" in url else f"{Path(url).absolute()} on {socket.gethostname()}"
