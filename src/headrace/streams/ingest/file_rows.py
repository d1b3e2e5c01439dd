"""The rows of a file as events of a stream: each row is an event, or is rejected with a reason."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from headrace.bus.event_intake import EventIntake
from headrace.errors import CodecError, SettingsError
from headrace.streams.imports.column_fields import check_columns
from headrace.streams.imports.file_pieces import column_names, pieces
from headrace.streams.imports.wire_rows import WireRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.bus.event import Event
    from headrace.bus.stream import Stream
    from headrace.streams.imports.source_file import SourceFile

OTHER_COLUMNS = "the line has another number of columns"


@dataclass(frozen=True)
class FileRow:
    """A row of a file: its number and its bytes, and either its event or the reason why it is none.

    ``line`` counts lines of JSON, lines of CSV with the header, or rows of Parquet, from 1. ``content`` is the line
    as it is in the file. A row of columns is JSON.
    """

    line: int
    content: bytes
    event: Event | None = None
    reason: str = ""


class FileRows:
    """Reads files as events of one stream, whatever the format of its records. ``zone``: that of times without one."""

    def __init__(self, stream: Stream, zone: str | None = None) -> None:
        self._stream, self._intake = stream, EventIntake(stream)
        self._wire = WireRows(stream.event, stream.columns, zone)

    def of(self, file: SourceFile) -> Iterator[FileRow]:
        """Yield the rows of a file in their order; broken lines of CSV follow the rows around them.

        Raises SettingsError for a file that is not of its form, or lacks a column, and OfflineStoreUnavailableError for
        one that cannot be read.
        """
        lines = self._json_lines(file) if file.form == "jsonl" else self._records(file)
        for line, content, reason in lines:
            yield FileRow(line, content, reason=reason) if reason else self.row(line, content)

    def row(self, line: int, content: bytes) -> FileRow:
        """Return the row in these bytes of JSON."""
        try:
            return FileRow(line, content, self._intake.read(content))
        except CodecError as error:
            return FileRow(line, content, reason=str(error))

    @staticmethod
    def _json_lines(file: SourceFile) -> Iterator[tuple[int, bytes, str]]:
        with file.opened() as opened:
            source = pa.CompressedInputStream(opened, file.compression) if file.compression else opened
            for number, line in enumerate(_lines(source, file), 1):
                if line.strip():
                    yield number, line, ""

    def _records(self, file: SourceFile) -> Iterator[tuple[int, bytes, str]]:
        there = column_names(file) or []
        infos = msgspec.structs.fields(self._stream.event)
        check_columns(there, self._wire, {info.name: info for info in infos if not info.required}, file.name)
        wanted = [name for field in self._stream.columns if (name := self._wire.column(field, there)) is not None]
        broken: set[int] = set()
        numbers = (number for number in itertools.count(2 if file.form == "csv" else 1) if number not in broken)
        for piece in pieces(file, list(dict.fromkeys(wanted))):
            broken |= {*piece.broken_at}
            assert piece.columns is not None  # noqa: S101 - only lines of JSON have none
            for content in self._wire.lines(piece.columns, piece.other_values(), is_text=piece.is_text):
                yield next(numbers), content, ""
            for number, content in zip(piece.broken_at, piece.broken, strict=True):
                yield number, content, OTHER_COLUMNS


_BLOCK = 1 << 20


def _lines(source: pa.NativeFile, file: SourceFile) -> Iterator[bytes]:
    """Yield the lines of a file, without their ends."""
    begun: list[bytes] = []  # the pieces of a line whose end was not read yet
    try:
        while block := source.read(_BLOCK):
            end, *others = block.split(b"\n")
            begun.append(end)
            if others:
                yield b"".join(begun)
                yield from others[:-1]
                begun = others[-1:]
    except (pa.ArrowException, EOFError, OSError) as error:
        raise SettingsError(f"{file.name} is no {file.form} file, or is damaged: {error}") from error
    rest = b"".join(begun)
    if rest:
        yield rest
