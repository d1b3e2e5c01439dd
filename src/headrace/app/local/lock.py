"""Makes sure that the services of a data folder run only once, and tells other processes their addresses."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

import msgspec

from headrace.base.redaction import redacted, revealed
from headrace.errors import DataFolderInUseError

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "services.lock"
START_SECONDS = 120.0
"""The longest time that the start of Kafka and Valkey may take."""


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of the services of a data folder, and the process that runs them."""

    pid: int
    bootstrap_servers: str | None = None
    redis_url: str | None = None


class FolderLock:
    """A lock: its owner may run the services of one data folder.

    The guards of the services also keep the lock file open. So the folder stays locked until the last service is dead,
    even after the owner was killed.
    """

    def __init__(self, folder: Path, *, wait_seconds: float = 20.0) -> None:
        """Take the lock. Waits for the services of a dead owner, and raises DataFolderInUseError for a living owner."""
        make_private(folder)
        self._path = folder / _FILE
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        os.fchmod(self._fd, 0o600)  # an earlier release made it readable for everybody
        try:
            self._take(time.monotonic() + wait_seconds)
        except BaseException:
            os.close(self._fd)
            raise
        self.publish(Addresses(pid=os.getpid()))

    @property
    def fd(self) -> int:
        """The file descriptor that holds the lock."""
        return self._fd

    def publish(self, addresses: Addresses) -> None:
        """Let other processes of this user find the services. An address with a password is left out."""
        data = msgspec.json.encode(_without_passwords(addresses))
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def release(self) -> None:
        """Release the folder."""
        os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def _take(self, deadline: float) -> None:
        while not _try_lock(self._fd):
            owner = _read(self._path)
            if (owner is not None and _alive(owner.pid)) or time.monotonic() > deadline:
                raise DataFolderInUseError(_in_use(self._path.parent, owner))
            time.sleep(0.05)


def make_private(folder: Path) -> None:
    """Make a folder that only this user can read, unless it exists."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _without_passwords(addresses: Addresses) -> Addresses:
    url = addresses.redis_url
    is_secret = url is not None and redacted(url) != revealed(url)
    return msgspec.structs.replace(addresses, redis_url=None if url is None or is_secret else revealed(url))


def running(folder: Path) -> Addresses | None:
    """Return the services that run on this data folder now, or None. Any process may have started them."""
    try:
        fd = os.open(folder / _FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return None if _try_lock(fd) else _read(folder / _FILE)
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Addresses | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Addresses)
    except (OSError, msgspec.DecodeError):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _in_use(folder: Path, owner: Addresses | None) -> str:
    who = "another process" if owner is None else f"process {owner.pid}"
    return (
        f"the data folder {folder} is in use: {who} runs Kafka and Valkey on it. Stop it first, use its services "
        "(they are found by themselves in this folder), or choose another folder with --data-dir."
    )
