"""Makes a commit of a table on this machine durable: a power cut then leaves it whole.

Delta writes a file under another name and renames it. That is safe when a process dies, but after a power cut the name
may be there without the content.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.event_log.table import local_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from deltalake import DeltaTable


def make_durable(table: DeltaTable) -> None:
    """Wait until the disk has the version that the handle shows, with the files that it added.

    A table in remote storage is durable already. Raises OSError.
    """
    folder = local_folder(table)
    if folder is None:
        return
    log, version = folder / "_delta_log", f"{table.version():020}"
    commit = log / f"{version}.json"
    extra = (log / f"{version}.checkpoint.parquet", log / "_last_checkpoint")
    sync([*(folder / name for name in _added(commit.read_bytes())), folder])
    sync([*(file for file in extra if file.exists()), commit, log])


def _added(commit: bytes) -> list[str]:
    actions: list[dict[str, Any]] = [msgspec.json.decode(line) for line in commit.splitlines()]
    return [action["add"]["path"] for action in actions if "add" in action]


def sync(paths: Iterable[Path]) -> None:
    """Wait until the disk has the content of these files and folders. Raises OSError."""
    for path in paths:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
