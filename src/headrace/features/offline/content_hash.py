"""A hash of the content of a table: of its columns, their types and their values in order."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

if TYPE_CHECKING:
    from collections.abc import Iterable


_WIDE = pl.Decimal, pl.Int128, pl.UInt128
"""Numbers that numpy has no type for: their text is hashed."""


class ContentHash:
    """Takes a table piece by piece; in whatever pieces it comes, the hash is the same. Row groups change nothing."""

    def __init__(self) -> None:
        self._columns: dict[tuple[str, str], list[hashlib._Hash]] = {}
        self.rows = 0

    def update(self, frame: pl.DataFrame) -> None:
        """Take the next rows. All pieces have the same columns."""
        self.rows += frame.height
        for column in map(_plain, frame.get_columns()):
            place = column.name, str(column.dtype)
            parts = self._columns.setdefault(place, [hashlib.sha256() for _ in range(3)])
            for digest, part in zip(parts, _bytes(column), strict=True):
                digest.update(part)

    def text(self) -> str:
        """``sha256:…`` of all that was taken."""
        whole = hashlib.sha256()
        for (name, dtype), parts in self._columns.items():
            whole.update(msgspec.json.encode([name, dtype, [digest.hexdigest() for digest in parts]]))
        return "sha256:" + whole.hexdigest()


def content_hash(pieces: Iterable[pl.DataFrame]) -> str:
    """The hash of these pieces of a table."""
    taken = ContentHash()
    for piece in pieces:
        taken.update(piece)
    return taken.text()


def _plain(column: pl.Series) -> pl.Series:
    """Words by their text, however they are kept."""
    return column.cast(pl.String) if isinstance(column.dtype, pl.Categorical | pl.Enum) else column


def _bytes(column: pl.Series) -> tuple[bytes, bytes, bytes]:
    """Where there is a value, how long each is, and the values one after the other."""
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
