"""The rows of a file, a piece at a time: columns of Parquet and CSV, lines of JSON.

The same file always gives the same pieces, so a piece that an earlier attempt has processed is known by its number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from headrace.errors import SettingsError
from headrace.streams.imports.arrow_values import flat, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from headrace.streams.imports.source_file import SourceFile

PIECE_ROWS = 200_000
_BLOCK = 32 << 20
_CHECKED = (pl.Date, pl.Time, pl.Duration)
"""Types of which Polars has values that Python lacks."""


@dataclass(frozen=True)
class FilePiece:
    """Some rows of a file: ``columns``, or ``lines`` of JSON.

    ``read``: the bytes of the file that were read with it. ``is_text``: every column is text, as CSV has it.
    ``others`` are columns that Polars may not be able to read, such as nested ones: ``columns`` does not have them.
    ``broken`` are lines of CSV that have another number of columns, and ``broken_at`` their numbers: the header is 1.
    """

    read: int
    columns: pl.DataFrame | None = None
    others: Mapping[str, pa.Array] = field(default_factory=dict)
    lines: Sequence[bytes] = ()
    is_text: bool = False
    broken: Sequence[bytes] = field(default=())
    broken_at: Sequence[int] = field(default=())

    @staticmethod
    def of_frame(frame: pl.DataFrame) -> FilePiece:
        """Return rows that are in memory."""
        others = {}
        for name, dtype in frame.schema.items():
            if dtype.is_nested() or dtype in _CHECKED:
                column = frame.get_column(name).to_arrow(compat_level=pl.CompatLevel.oldest())
                if flat(column) is None:
                    others[name] = column
        columns = frame.drop(others) if len(others) < frame.width else pl.DataFrame(height=frame.height)
        return FilePiece(0, columns=columns, others=others)

    @property
    def names(self) -> list[str]:
        """The names of all its columns; none of lines."""
        return [*([] if self.columns is None else self.columns.columns), *self.others]

    @property
    def height(self) -> int:
        """The number of rows."""
        return len(self.broken) + (len(self.lines) if self.columns is None else self.columns.height)

    def other_values(self, rows: np.ndarray | None = None) -> dict[str, Callable[[int], Any]]:
        """Return by name what returns the value of a row of each of the ``others``. ``rows``: the chosen rows alone."""
        return {name: partial(_value, column, rows) for name, column in self.others.items()}


def _value(column: pa.Array, rows: np.ndarray | None, place: int) -> Any:
    return value_of(column[place if rows is None else int(rows[place])])


def pieces(file: SourceFile, wanted: Sequence[str]) -> Iterator[FilePiece]:
    """Yield the rows of a file in order, with the ``wanted`` columns that it has.

    Raises OfflineStoreUnavailableError, and SettingsError for a file that is not of its form.
    """
    read = {"parquet": _parquet, "csv": _csv, "jsonl": _lines}[file.form]
    try:
        yield from read(file, wanted)
    except (pa.ArrowException, pl.exceptions.PolarsError, EOFError) as error:
        raise SettingsError(f"{file.name} is no {file.form} file, or is damaged: {error}") from error


def column_names(file: SourceFile) -> list[str] | None:
    """Return the columns of a file; None for lines of JSON, of which each has its own.

    Raises SettingsError for a file that is not of its form, or that has two columns of one name.
    """
    names = _names(file)
    double = sorted({name for name in names or () if names and names.count(name) > 1})
    if double:
        raise SettingsError(f"{file.name} has two columns of one name, {double}: rename one of them")
    return names


def _names(file: SourceFile) -> list[str] | None:
    try:
        with file.opened() as opened:
            if file.form == "parquet":
                return [*pq.read_schema(opened).names, *(name for name, _ in file.constants)]
            if file.form == "csv":
                return list(_opened_csv(opened, file, None, lambda _: "skip").schema.names)
    except pa.ArrowException as error:
        raise SettingsError(f"{file.name} is no {file.form} file, or is damaged: {error}") from error
    return None


def _parquet(file: SourceFile, wanted: Sequence[str]) -> Iterator[FilePiece]:
    with file.opened() as opened, pq.ParquetFile(opened) as parquet:
        there = [name for name in parquet.schema_arrow.names if name in wanted]
        a_row = file.size / max(parquet.metadata.num_rows, 1)
        for batch in parquet.iter_batches(PIECE_ROWS, columns=there):
            columns = {name: batch.column(name) for name in there}
            read = {name: flat(column) for name, column in columns.items()}
            plain = {name: column for name, column in read.items() if column is not None}
            frame = pl.DataFrame(pa.table(plain)) if plain else pl.DataFrame(height=batch.num_rows)
            constants = [pl.lit(value).alias(name) for name, value in file.constants if name in wanted]
            others = {name: column for name, column in columns.items() if name not in plain}
            yield FilePiece(int(a_row * batch.num_rows), frame.with_columns(constants), others=others)


def _csv(file: SourceFile, wanted: Sequence[str]) -> Iterator[FilePiece]:
    with file.opened() as opened:
        names = _opened_csv(opened, file, None, lambda _: "skip").schema.names
    broken: list[bytes] = []
    broken_at: list[int] = []

    def keep(row: pyarrow.csv.InvalidRow) -> str:
        broken.append((row.text or "").encode())
        broken_at.append(row.number or 0)
        return "skip"

    with file.opened() as opened:
        reader, at = _opened_csv(opened, file, names, keep), 0
        for batch in reader:
            before, at = at, opened.tell()
            taken, taken_at, broken[:], broken_at[:] = list(broken), list(broken_at), [], []
            frame = pl.DataFrame(pa.table(batch.select([name for name in names if name in wanted])))
            yield FilePiece(at - before, frame, is_text=True, broken=taken, broken_at=taken_at)
        if broken:
            none = pl.DataFrame(schema=dict.fromkeys(names, pl.String))
            yield FilePiece(0, none, is_text=True, broken=broken, broken_at=broken_at)


def _opened_csv(
    opened: pa.NativeFile, file: SourceFile, names: Sequence[str] | None, keep: object
) -> pyarrow.csv.CSVStreamingReader:
    source = pa.CompressedInputStream(opened, file.compression) if file.compression else opened
    return pyarrow.csv.open_csv(
        source,
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK if names else 1 << 20, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=keep),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names or (), pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


def _lines(file: SourceFile, _: Sequence[str]) -> Iterator[FilePiece]:
    rest, lines, at = b"", list[bytes](), 0
    with file.opened() as opened:
        source = pa.CompressedInputStream(opened, file.compression) if file.compression else opened
        while block := source.read(_BLOCK):
            *whole, rest = (rest + block).split(b"\n")
            lines += [line for line in whole if line.strip()]
            while len(lines) >= PIECE_ROWS:
                before, at = at, opened.tell()
                yield FilePiece(at - before, lines=lines[:PIECE_ROWS])
                del lines[:PIECE_ROWS]
    lines += [rest] if rest.strip() else []
    if lines:
        yield FilePiece(file.size - at, lines=lines)
