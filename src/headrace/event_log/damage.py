"""Files of the event log that cannot be read, as a power cut or a failing disk leaves them, and setting them aside.

Delta sees an empty commit as one without rows, so its rows are missing without an error. It cannot open a table with a
torn commit or checkpoint at all. A torn file of rows is found when the rows are read. A table in remote storage has no
such files: an object is there as a whole or not at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from headrace.event_log.durable_commit import sync

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from headrace.event_log.event_log import EventLog

_MAGIC = b"PAR1"
_LEAST_BYTES = 12
_LOG, _ASIDE = "_delta_log", "_damaged"
_POINTER = "_last_checkpoint"


@dataclass(frozen=True)
class DamagedFile:
    """A file of a topic's table that cannot be read: ``what`` is wrong with it.

    ``lowest``: the lowest offset of its rows in any partition, if the table knows it.
    """

    topic: str
    file: Path
    what: str
    lowest: int | None = None

    @property
    def holds_rows(self) -> bool:
        """True for a file of rows, False for a file of Delta's own log."""
        return self.file.parent.name != _LOG


def find_damage(log: EventLog, topic: str) -> list[DamagedFile]:
    """Return the files of a topic's table that cannot be read; none if there is no table, or if it is remote.

    Only the ends of files of rows are read. Files of rows are looked at if Delta can open the table.
    """
    folder = log.folder(topic)
    if folder is None or not (folder / _LOG).is_dir():
        return []
    of_log = [DamagedFile(topic, file, what) for file, what in _in_log(folder / _LOG)]
    if any(found.file.stat().st_size for found in of_log):  # Delta passes over an empty commit, and over nothing else
        return of_log
    return [*of_log, *_in_rows(log, topic, folder)]


def _in_log(folder: Path) -> Iterator[tuple[Path, str]]:
    checkpoints = sorted(folder.glob("*.checkpoint.parquet"))
    for file in checkpoints:
        if what := _torn(file):
            yield file, what
    good = [file.name[:20] for file in checkpoints if not _torn(file)]
    for file in sorted(folder.glob("*.json")):
        if not file.stat().st_size:
            yield file, "is empty: the rows of this commit are missing"
        elif file.stem > max(good, default="") and not _is_json(file):
            yield file, "is torn: the table cannot be opened"
    pointer = folder / _POINTER
    if pointer.exists() and not _is_json(pointer):
        yield pointer, "is torn: the newest checkpoint is not found"


def _in_rows(log: EventLog, topic: str, folder: Path) -> Iterator[DamagedFile]:
    actions: Any = log.table(topic).get_add_actions(flatten=True)
    for known in pl.DataFrame(actions).iter_rows(named=True):
        if what := _torn(folder / known["path"], known["size_bytes"]):
            rows, (first, last) = known["num_records"] or 0, (known.get(f"{m}.__offset") for m in ("min", "max"))
            yield DamagedFile(
                topic, folder / known["path"], f"{what} ({rows:,} rows, offsets {first} to {last})", first
            )


def _torn(file: Path, size: int | None = None) -> str:
    """Return what is wrong with a Parquet file, or an empty text. Its last bytes are written last."""
    try:
        with file.open("rb") as opened:
            found = os.fstat(opened.fileno()).st_size
            opened.seek(max(found - len(_MAGIC), 0))
            end = opened.read()
    except FileNotFoundError:
        return "does not exist"
    if size is not None and found != size:
        return f"has {found:,} bytes instead of {size:,}"
    return "" if found >= _LEAST_BYTES and end == _MAGIC else "is torn: it does not end like a Parquet file"


def _is_json(file: Path) -> bool:
    try:
        return all(isinstance(msgspec.json.decode(line), dict) for line in file.read_bytes().splitlines() or [b""])
    except msgspec.MsgspecError:
        return False


def set_aside(log: EventLog, damage: Sequence[DamagedFile], reason: str) -> None:
    """Move damaged files into the folder ``_damaged`` of their table, and let the table go on without them.

    The rows of these files are missing then. A commit is replaced by one that says so. Raises OSError and
    OfflineStoreUnavailableError.
    """
    for found in damage:
        folder = found.file.parent if found.holds_rows else found.file.parent.parent
        (folder / _ASIDE).mkdir(exist_ok=True)
        if found.file.suffix == ".json":
            _replace_commit(found.file, folder / _ASIDE, reason)
        elif found.file.exists():
            found.file.rename(folder / _ASIDE / found.file.name)
    for topic in {found.topic for found in damage if found.holds_rows}:
        log.forget_missing_files(topic, reason)


def _replace_commit(commit: Path, aside: Path, reason: str) -> None:
    why = {"operation": "headrace repair", "headrace.damaged": commit.name, "headrace.reason": reason}
    draft = aside / f"{commit.name}.draft"
    draft.write_bytes(msgspec.json.encode({"commitInfo": why}) + b"\n")
    sync([draft])
    os.link(commit, aside / commit.name)
    draft.replace(commit)
    sync([commit.parent, aside])
