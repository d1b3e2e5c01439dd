"""What a source of rows remembers on the disk: how far it has come, and the rows that were rejected."""

from __future__ import annotations

import fcntl
import os
from base64 import b64encode
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headrace.errors import DataFolderInUseError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

T = TypeVar("T", bound=msgspec.Struct)


class RejectedEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row that is no event. ``at`` says where it was. Its bytes are in ``row``, or in ``row_base64`` if not UTF-8."""

    at: str
    reason: str
    row: str | None = None
    row_base64: str | None = None


def rejected_entry(at: str, reason: str, content: bytes) -> RejectedEntry:
    """Return the entry of a row with these bytes."""
    return RejectedEntry(at=at, reason=reason, **text_of(content))


class SourceState:
    """The folder of one source. For one process and one thread.

    ``position.json`` is replaced as a whole, so a kill leaves the old one or the new one. ``rejected.jsonl`` grows:
    rows that come again after a kill are there again.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._lock = folder, locked(folder)
        self._position, self.rejected = folder / "position.json", folder / "rejected.jsonl"

    def close(self) -> None:
        """Let another process have the source."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def position(self, kind: type[T]) -> T | None:
        """Return how far the source has come; None before the first row. Raises SettingsError if it cannot be read."""
        if not self._position.exists():
            return None
        try:
            return msgspec.json.decode(self._position.read_bytes(), type=kind)
        except msgspec.DecodeError as error:
            raise SettingsError(f"{self._position} cannot be read: {error}. {self.remedy}") from error

    @property
    def remedy(self) -> str:
        """What to do if the position is of no use."""
        return f"Remove {self._position} to read everything again, or give the entry another name"

    def keep(self, position: msgspec.Struct) -> None:
        """Remember a position, on the disk."""
        own = self._position.with_name("position.json.new")
        with own.open("wb") as opened:
            opened.write(msgspec.json.encode(position) + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        own.replace(self._position)
        _sync(self._folder)

    def reject(self, entries: Iterable[RejectedEntry]) -> None:
        """Add rejected rows to their file, on the disk."""
        lines = b"".join(msgspec.json.encode(each) + b"\n" for each in entries)
        if not lines:
            return
        with self.rejected.open("a+b") as opened:
            if end := opened.tell():
                opened.seek(end - 1)
                lines = lines if opened.read(1) == b"\n" else b"\n" + lines  # a kill has cut the last line short
            opened.write(lines)
            opened.flush()
            os.fsync(opened.fileno())


def text_of(content: bytes) -> dict[str, Any]:
    """Return the fields of an entry for these bytes."""
    try:
        return {"row": content.decode()}
    except UnicodeDecodeError:
        return {"row_base64": b64encode(content).decode()}


def locked(folder: Path) -> int:
    """Return the file descriptor that keeps other processes away from a source. Raises DataFolderInUseError."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise DataFolderInUseError(
            f"another `headrace ingest` runs the source {folder.name!r}, whose state is in {folder}: stop it first, or "
            "give this process another data folder"
        ) from error
    return descriptor


def _sync(folder: Path) -> None:
    """Let the folder remember the name of a new file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
