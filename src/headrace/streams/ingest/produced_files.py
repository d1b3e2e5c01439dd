"""What a source of files remembers on the disk: the files that were produced, and the rows that were rejected."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from headrace.errors import SettingsError
from headrace.streams.ingest.source_state import locked, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from headrace.streams.ingest.file_rows import FileRow

_NAMED_BY = 16
"""The digits of a digest that the name of a file of rejected rows begins with."""


class ProducedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was produced: the SHA-256 of its bytes, its name at that time, and its numbers of rows."""

    sha256: str
    file: str
    rows: int
    rejected: int


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row that is no event. Its bytes are in ``row``, or in ``row_base64`` if they are not UTF-8."""

    file: str
    line: int
    reason: str
    row: str | None = None
    row_base64: str | None = None


class ProducedFiles:
    """The produced files of one source, in a folder of its own. For one process and one thread.

    ``files.jsonl`` has a line for each produced file. A line that a kill has cut short is taken away. The rejected rows
    of a file are in ``rejected/``, in a file of their own, which a second attempt replaces.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._rejected = folder / "files.jsonl", folder / "rejected"
        self._rejected.mkdir(parents=True, exist_ok=True)
        self._lock = locked(folder)
        self._known = {each.sha256: each for each in self._read()}

    @property
    def all(self) -> list[ProducedFile]:
        """The produced files, in their order."""
        return list(self._known.values())

    def close(self) -> None:
        """Let another process have the source."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def known(self, sha256: str) -> ProducedFile | None:
        """Return the file with this content that was produced before."""
        return self._known.get(sha256)

    def add(self, produced: ProducedFile) -> None:
        """Remember a file, on the disk."""
        with self._file.open("ab") as opened:
            opened.write(msgspec.json.encode(produced) + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
        self._known[produced.sha256] = produced

    @contextmanager
    def rejected(self, sha256: str, file: Path) -> Iterator[RejectedRows]:
        """Give the place for the rejected rows of a file. They are kept if the context ends without an error."""
        rows = RejectedRows(self._rejected / f"{sha256[:_NAMED_BY]}-{file.name}.jsonl", str(file))
        try:
            yield rows
            rows.keep()
        finally:
            rows.close()

    def _read(self) -> list[ProducedFile]:
        if not self._file.exists():
            return []
        content = self._file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self._file, len(whole))
        try:
            return msgspec.json.Decoder(ProducedFile).decode_lines(whole)
        except msgspec.DecodeError as error:
            raise SettingsError(
                f"{self._file} cannot be read: {error}. Repair the line, or remove the file: then every file of the "
                "folder is sent again"
            ) from error


class RejectedRows:
    """The rejected rows of one file. ``place`` is written at the end, whole: there is none without a rejected row."""

    def __init__(self, place: Path, file: str) -> None:
        self.place, self.count = place, 0
        self._file = file
        self._opened: BinaryIO | None = None
        self._own = place.with_name(f"{place.name}.new")

    def add(self, row: FileRow) -> None:
        """Write one row."""
        if self._opened is None:
            self._opened = self._own.open("wb")
        rejected = RejectedRow(file=self._file, line=row.line, reason=row.reason, **text_of(row.content))
        self._opened.write(msgspec.json.encode(rejected) + b"\n")
        self.count += 1

    def keep(self) -> None:
        """Give the file its name. What an earlier attempt has left there is replaced."""
        if self._opened is not None:
            self._opened.flush()
            os.fsync(self._opened.fileno())
            self._own.replace(self.place)

    def close(self) -> None:
        """Close the file."""
        if self._opened is not None:
            self._opened.close()
