"""A hash of a table's content: its columns, their types and their values in order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable


_WIDE = pl.Decimal, pl.Int128, pl.UInt128
"""Numbers that numpy has no type for. Their text is hashed."""


class ContentHash:
    """Hashes a table piece by piece. The division into pieces and row groups does not change the hash."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str], list[hashlib._Hash]] = {}
        self.rows = 0

    def update(self, frame: pl.DataFrame) -> None:
        """Add the next rows. All pieces have the same columns."""
        self.rows += frame.height
        for column in map(_plain, frame.get_columns()):
            place = column.name, str(column.dtype)
            parts = self._columns.setdefault(place, [hashlib.sha256() for _ in range(3)])
            for digest, part in zip(parts, _bytes(column), strict=True):
                digest.update(part)

    def digest(self) -> str:
        """Return the hash of all rows that were added, as ``sha256:…``."""
        whole = hashlib.sha256()
        for (name, dtype), parts in self._columns.items():
            whole.update(msgspec.json.encode([name, dtype, [digest.hexdigest() for digest in parts]]))
        return "sha256:" + whole.hexdigest()


def content_hash(pieces: Iterable[pl.DataFrame]) -> str:
    """Return the hash of the table that these pieces make."""
    taken = ContentHash()
    for piece in pieces:
        taken.update(piece)
    return taken.digest()


def _plain(column: pl.Series) -> pl.Series:
    """Return categories as their text, so that their physical form does not change the hash."""
    return column.cast(pl.String) if isinstance(column.dtype, pl.Categorical | pl.Enum) else column


def _bytes(column: pl.Series) -> tuple[bytes, bytes, bytes]:
    """Return three parts: which rows have a value, how long each value is, and the values one after the other."""
    there = b"\1" * len(column)
    if column.null_count():
        there = column.is_not_null().to_numpy().astype(np.uint8).tobytes()
    if isinstance(column.dtype, _WIDE):
        return _bytes(column.cast(pl.String))
    if column.dtype.is_numeric() or column.dtype.is_temporal():
        physical = column.to_physical().fill_null(0).to_numpy()
        return there, b"", physical.astype(physical.dtype.newbyteorder("<")).tobytes()
    if column.dtype == pl.Boolean:
        return there, b"", column.fill_null(value=False).to_numpy().astype(np.uint8).tobytes()
    if column.dtype == pl.String:
        texts = column.fill_null("")
        lengths = texts.str.len_bytes().cast(pl.Int64).to_numpy().astype("<i8")
        return there, lengths.tobytes(), (texts.str.join("").item() or "").encode()
    values = [msgspec.json.encode(value) for value in column.to_list()]
    return there, np.array([len(value) for value in values], "<i8").tobytes(), b"".join(values)
